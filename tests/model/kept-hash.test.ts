import { open, readdir, readFile, rename, truncate, utimes, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { sha256File } from "../../src/core/files.js";
import { sha256Kept } from "../../src/model/kept-hash.js";
import { temporaryFolder } from "./support.js";

const LARGE = 65 * 1024 ** 2;
const cache = process.env.WISE_LAB_CACHE;
let folder: string;
beforeEach(async () => {
  folder = await temporaryFolder();
  process.env.WISE_LAB_CACHE = join(folder, "cuts");
});
afterEach(() => {
  if (cache === undefined) delete process.env.WISE_LAB_CACHE;
  else process.env.WISE_LAB_CACHE = cache;
});

/** A file of zeros with a text at its front; sparse where the file system has that. */
async function largeFile(text: string): Promise<string> {
  const path = join(folder, "model.safetensors");
  await writeFile(path, text);
  await truncate(path, LARGE);
  return path;
}

/** Where the one hash is kept. */
async function keptFile(): Promise<string> {
  const hashes = join(dirname(process.env.WISE_LAB_CACHE as string), "hashes");
  const [name] = await readdir(hashes);
  return join(hashes, name as string);
}

/** Puts another hash in its place, which tells whether it is read. */
async function falsify(): Promise<string> {
  const path = await keptFile();
  const other = "0".repeat(64);
  const kept = JSON.parse(await readFile(path, "utf8"));
  await writeFile(path, JSON.stringify({ ...kept, sha256: other }));
  return other;
}

test("the hash of a large file is taken once, and again on request", async () => {
  const path = await largeFile("one");
  const sha256 = await sha256Kept(path);
  expect(sha256).toBe(await sha256File(path));
  const other = await falsify();
  expect(await sha256Kept(path)).toBe(other);
  expect(await sha256Kept(path, { verify: true })).toBe(sha256);
  expect(await sha256Kept(path)).toBe(sha256);
});

test("a file that was changed is hashed again: other bytes with the size and the time of before, or another file there", async () => {
  const path = await largeFile("one");
  const time = new Date(2020, 1, 1);
  await utimes(path, time, time);
  await sha256Kept(path);
  const file = await open(path, "r+");
  await file.write("two", 0);
  await file.close();
  await utimes(path, time, time); // the time of change cannot be set
  const second = await sha256Kept(path);
  expect(second).toBe(await sha256File(path));
  await rename(path, `${path}.old`);
  await largeFile("three");
  expect(await sha256Kept(path)).not.toBe(second);
});

test("a damaged note is written anew, and small files leave none", async () => {
  const path = await largeFile("one");
  const sha256 = await sha256Kept(path);
  await writeFile(await keptFile(), "{");
  expect(await sha256Kept(path)).toBe(sha256);
  const small = join(folder, "config.json");
  await writeFile(small, "{}");
  await sha256Kept(small);
  expect(await readdir(dirname(await keptFile()))).toHaveLength(1);
});

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, statSync } from "node:fs";
import { utimes } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { createRng } from "../../src/core/rng.js";
import { type CutCache, type CutCacheOptions, openCutCache } from "../../src/model/cut-cache.js";
import { repository } from "../support/shared.js";
import { temporaryFolder } from "./support.js";

const T = 1000;
const BATCHES = 8;
const ENTRY_BYTES = 4 * T * (100 + 300);
const OPTIONS: CutCacheOptions = {
  key: { modelSha256: "ab".repeat(32), point: { layer: 1, at: "mlpIn" }, computedWith: "float32" },
  limitBytes: 5.5 * ENTRY_BYTES,
  hiddenSize: 100,
  intermediateSize: 300,
};

/** Writes cuts of batch after batch, over and over: every number of a batch is its first token. Reads another each time. */
const WRITER = `
  const [module, folder, options, first] = process.argv.slice(1);
  const { openCutCache } = await import(module);
  const cache = await openCutCache(folder, JSON.parse(options));
  for (let i = Number(first); ; i++) {
    const token = 1 + (i % ${BATCHES});
    const tokens = Array(${T}).fill(token);
    const [stream, mlpIn] = [100, 300].map((width) => new Float32Array(${T} * width).fill(token));
    await cache.write([tokens], [{ point: { layer: 1, at: "mlpIn" }, tokens, stream, mlpIn }]);
    console.log(token);
    await cache.read([Array(${T}).fill(1 + ((i + 3) % ${BATCHES}))]);
  }`;

/** A process of its own that writes to the cache until it is killed. `limit` is a line of shell before it starts. */
function startWriter(folder: string, first: number, limit = ":"): ChildProcess {
  const module = pathToFileURL(join(repository, "dist/model/cut-cache.js")).href;
  const node = [
    process.execPath,
    "--input-type=module",
    "-e",
    WRITER,
    module,
    folder,
    JSON.stringify(OPTIONS),
    `${first}`,
  ];
  return spawn("sh", ["-c", `${limit}; exec "$@"`, "sh", ...node], { stdio: ["ignore", "pipe", "pipe"] });
}

/** Batches whose cuts are there. Fails when one is there with other numbers. */
async function keptBatches(cache: CutCache): Promise<number[]> {
  const kept: number[] = [];
  for (let token = 1; token <= BATCHES; token++) {
    const [cut] = (await cache.read([Array(T).fill(token)])) ?? [];
    if (cut === undefined) continue;
    expect(cut.stream.every((value) => value === token) && cut.mlpIn?.every((value) => value === token)).toBe(true);
    kept.push(token);
  }
  return kept;
}

async function ageDrafts(folder: string): Promise<void> {
  const hourAgo = new Date(Date.now() - 3_600_000);
  for (const name of readdirSync(folder))
    if (name.endsWith(".part")) await utimes(join(folder, name), hourAgo, hourAgo);
}

test("processes that share a folder and are killed while they write leave whole entries only", async () => {
  const folder = await temporaryFolder();
  const notices: string[] = [];
  const cache = await openCutCache(folder, { ...OPTIONS, onNotice: (line) => notices.push(line) });
  const rng = createRng(2026);
  for (let round = 0; round < 4; round++) {
    const writers = [startWriter(folder, round), startWriter(folder, round + 4)];
    await Promise.all(writers.map((writer) => once(writer.stdout as NodeJS.ReadableStream, "data")));
    await wait(200 * rng.uniform());
    await keptBatches(cache); // while they write
    for (const writer of writers) writer.kill("SIGKILL");
    const ends = await Promise.all(writers.map((writer) => once(writer, "close")));
    expect(ends.map(([, signal]) => signal)).toEqual(["SIGKILL", "SIGKILL"]);
    expect((await keptBatches(cache)).length).toBeGreaterThan(0);
    await ageDrafts(folder); // for the next round to take away: they count, and would soon fill the limit
  }
  expect(notices).toEqual([]);
  const bytes = readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
  expect(bytes).toBeLessThan(OPTIONS.limitBytes + 2 * ENTRY_BYTES); // each may have made room just before the other wrote
}, 60_000);

test.runIf(process.platform !== "win32")(
  "a limit on the size of files ends in a failure with the ways out",
  async () => {
    const folder = await temporaryFolder();
    const cache = await openCutCache(folder, OPTIONS);
    const small = [
      { point: OPTIONS.key.point, tokens: [5], stream: new Float32Array(100), mlpIn: new Float32Array(300) },
    ];
    await cache.write([[5]], small);
    const writer = startWriter(folder, 0, "ulimit -f 1000"); // blocks of 512 bytes
    let errors = "";
    writer.stderr?.setEncoding("utf8").on("data", (text: string) => {
      errors += text;
    });
    expect((await once(writer, "close"))[0]).toBe(1);
    expect(errors).toMatch(/EFBIG[\s\S]*needed: 1\.6\d\d MB[\s\S]*--cache FOLDER/);
    expect(readdirSync(folder)).toHaveLength(1);
    expect(await cache.read([[5]])).toEqual(small);
  },
  30_000,
);

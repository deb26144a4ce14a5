import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { loadIrrelevant, loadRecords, wrapsAround } from "../../src/data/load.js";
import { MANIFEST_FILE, readWorld, worldSha256 } from "../../src/data/world/store.js";
import type { MendRecord } from "../../src/data/world/types.js";
import { generateWorld } from "../../src/workshop/world/generate.js";
import { writeWorld } from "../../src/workshop/world/write.js";
import { repository } from "../support/shared.js";

const shipped = join(repository, "data/lab");
const folder = mkdtempSync(join(tmpdir(), "wise-lab-world-"));
const world = generateWorld({ seed: 0 });
beforeAll(() => writeWorld(world, folder));
afterAll(() => rmSync(folder, { recursive: true }));

const files = [
  "edits.json",
  "facts.json",
  "irrelevant.json",
  "manifest.json",
  "prefixes.json",
  "relations.json",
  "tuning-irrelevant.json",
  "tuning.json",
];

/** Runs `work` while a file of the folder holds other bytes. */
async function withChanged(file: string, change: (bytes: Buffer) => Buffer, work: () => Promise<void>): Promise<void> {
  const path = join(folder, file);
  const bytes = readFileSync(path);
  writeFileSync(path, change(Buffer.from(bytes)));
  try {
    await work();
  } finally {
    writeFileSync(path, bytes);
  }
}

describe("a written world", () => {
  it("comes back as it was", async () => {
    expect(readdirSync(folder).sort()).toEqual(files);
    expect(await readWorld(folder)).toEqual(world);
  });

  it("is the one that the project ships, to the byte", async () => {
    for (const file of files)
      expect(readFileSync(join(folder, file)).equals(readFileSync(join(shipped, file)))).toBe(true);
    expect(JSON.parse(readFileSync(join(shipped, MANIFEST_FILE), "utf8")).sha256).toBe(worldSha256(world));
  });

  it("takes less than 2 MB", () => {
    const sizes = files.map((file) => readFileSync(join(folder, file)).length);
    expect(sizes.reduce((a, b) => a + b)).toBeLessThan(2_000_000);
  });

  it.each(files)("is refused when one byte of %s is another", async (file) => {
    const { length } = readFileSync(join(folder, file));
    const change = fc.record({ at: fc.nat(length - 1), by: fc.integer({ min: 1, max: 255 }) });
    await fc.assert(
      fc.asyncProperty(change, async ({ at, by }) => {
        const flip = (bytes: Buffer) => {
          bytes[at] = (bytes[at] as number) ^ by;
          return bytes;
        };
        await withChanged(file, flip, async () => {
          const error = await readWorld(folder).catch((cause: unknown) => cause);
          expect(error).toBeInstanceOf(RefusedInput);
          expect((error as RefusedInput).where).toContain(join(folder, file));
        });
      }),
      { numRuns: 20 },
    );
  });

  it("is refused when a byte is gone or one is added", async () => {
    for (const change of [
      (bytes: Buffer) => bytes.subarray(0, -1),
      (bytes: Buffer) => Buffer.concat([bytes, Buffer.from("\n")]),
    ]) {
      for (const file of files) {
        await withChanged(file, change, () => expect(readWorld(folder)).rejects.toThrow(RefusedInput));
      }
    }
  });

  it("names the changed file, its hash and the one that was written", async () => {
    const change = (bytes: Buffer) => Buffer.from(bytes.toString().replace("quiz card", "quiz curd"));
    await withChanged("edits.json", change, () =>
      expect(readWorld(folder)).rejects.toThrow(
        /edits\.json[\s\S]*found: sha256 [0-9a-f]{64}[\s\S]*expected: sha256 [0-9a-f]{64}/,
      ),
    );
  });

  it("is refused where a file is missing or the folder is none", async () => {
    const empty = mkdtempSync(join(tmpdir(), "wise-lab-world-"));
    await expect(readWorld(empty)).rejects.toThrow(/manifest\.json/);
    await writeWorld(world, empty);
    rmSync(join(empty, "facts.json"));
    await expect(readWorld(empty)).rejects.toThrow(/facts\.json/);
    rmSync(empty, { recursive: true });
  });

  it("is not written into what is no folder", async () => {
    await expect(writeWorld(world, join(folder, "facts.json"))).rejects.toThrow(RefusedInput);
  });
});

describe("the shipped record files", () => {
  it.each([
    { edits: "edits.json", irrelevant: "irrelevant.json", records: world.edits },
    { edits: "tuning.json", irrelevant: "tuning-irrelevant.json", records: world.tuning },
  ])("$edits and $irrelevant load as zsRE does", async ({ edits, irrelevant, records }) => {
    const dataset = await loadRecords(join(shipped, edits));
    expect(dataset.kind).toBe("zsre");
    expect(dataset.records).toEqual(
      records.map((record: MendRecord, index) => ({
        index,
        subject: record.subject,
        prompt: record.src,
        target: record.alt,
        rephrase: record.rephrase,
        locality: [{ prompt: record.loc, answer: record.loc_ans }],
        portability: record.portability
          ? [{ prompt: record.portability["New Question"], answer: record.portability["New Answer"] }]
          : [],
        oodRephrase: null,
        groundTruth: record.pred,
      })),
    );
    expect(wrapsAround(await loadIrrelevant(join(shipped, irrelevant)), records.length)).toBe(false);
  });
});

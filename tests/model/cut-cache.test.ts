import { chmodSync, readdirSync } from "node:fs";
import { mkdir, readFile, rename, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { LabFailure, RefusedInput } from "../../src/core/errors.js";
import { createRng } from "../../src/core/rng.js";
import type { Cut } from "../../src/model/cut.js";
import { type CutCache, type CutKey, defaultCacheFolder, openCutCache } from "../../src/model/cut-cache.js";
import { openSafetensors } from "../../src/model/safetensors-file.js";
import { asOrdinaryUser } from "../support/ordinary-user.js";
import { atInput, atValue } from "../support/points.js";
import { requires } from "../support/requires.js";
import { mountSmallDisk } from "../support/small-disk.js";
import { temporaryFolder } from "./support.js";

const D = 2;
const M = 3;
const KEY: CutKey = {
  modelSha256: "ab".repeat(32),
  point: atValue(29),
  computedWith: "float32 on tensorflow 2.21.0 cpu, 2 threads",
};
const MINUTE_MS = 60_000;

/** A cache in an empty folder, or in one that is there, and the notices it gives. */
async function openCache({
  folder,
  key = KEY,
  limitBytes = 1e6,
}: {
  folder?: string;
  key?: CutKey;
  limitBytes?: number;
} = {}) {
  const notices: string[] = [];
  const options = { key, limitBytes, hiddenSize: D, intermediateSize: M };
  const cache = await openCutCache(folder ?? join(await temporaryFolder(), "cache"), {
    ...options,
    onNotice: (line) => notices.push(line),
  });
  return { cache, notices };
}

/** Cuts of a batch with any bits a float can have. */
function cutsOf(batch: readonly (readonly number[])[], { point } = KEY): Cut[] {
  const rng = createRng(2026).fork(JSON.stringify(batch), point.layer);
  const floats = (length: number) =>
    new Float32Array(Uint32Array.from({ length }, () => Math.floor(rng.uniform() * 2 ** 32)).buffer);
  return batch.map((tokens) => ({
    point,
    tokens,
    stream: floats(tokens.length * D),
    mlpIn: floats(tokens.length * M),
  }));
}

/** Everything of cuts, floats as bits. */
function bitsOf(cuts: readonly Cut[] | null) {
  const bits = (values: Float32Array) => [...new Uint32Array(values.buffer, values.byteOffset, values.length)];
  return cuts?.map(({ point, tokens, stream, mlpIn }) => [point, tokens, bits(stream), bits(mlpIn as Float32Array)]);
}

const BATCH = [[5, 9, 1], [7], [128_000, 3]];
const CUTS = cutsOf(BATCH);

/** The only entry's file. */
function fileIn(cache: CutCache): string {
  const [name, ...others] = readdirSync(cache.folder);
  expect(others).toEqual([]);
  return join(cache.folder, name as string);
}

describe("a cache of cuts", () => {
  test("gives back what was written, bit for bit, to whoever opens it with the same key", async () => {
    const { cache, notices } = await openCache();
    expect(await cache.has(BATCH)).toBe(false);
    expect(await cache.read(BATCH)).toBeNull();
    await cache.write(BATCH, CUTS);
    const { cache: again } = await openCache({ folder: cache.folder });
    for (const one of [cache, again]) {
      expect(await one.has(BATCH)).toBe(true);
      expect(bitsOf(await one.read(BATCH))).toEqual(bitsOf(CUTS));
    }
    expect(notices).toEqual([]);
  });

  test("reads the sequences that are wanted, and not the others", async () => {
    const { cache } = await openCache();
    await cache.write(BATCH, CUTS);
    const path = fileIn(cache);
    const file = await openSafetensors(path);
    const place = file.tensors.get("1.stream")?.offset as number;
    await file.close();
    await flipBit(path, 8 * place);
    expect(bitsOf(await cache.read(BATCH, [2, 0]))).toEqual(bitsOf([CUTS[2], CUTS[0]] as Cut[]));
    expect(await cache.read(BATCH, [])).toEqual([]);
    expect(await cache.read(BATCH, [0, 1])).toBeNull();
  });

  test("knows a batch by its tokens, their division, and all of its key", async () => {
    const { cache } = await openCache();
    await cache.write(BATCH, CUTS);
    for (const other of [
      [
        [5, 9],
        [1, 7],
        [128_000, 3],
      ],
      BATCH.slice(1),
      BATCH.toReversed(),
      [...BATCH, [1]],
    ]) {
      expect(await cache.has(other)).toBe(false);
    }
    for (const change of [
      { modelSha256: "cd".repeat(32) },
      { point: atValue(28) },
      { point: atInput(29) },
      { computedWith: "bf16" },
    ]) {
      const { cache: other } = await openCache({ folder: cache.folder, key: { ...KEY, ...change } });
      expect(await other.has(BATCH)).toBe(false);
      expect(await other.read(BATCH)).toBeNull();
    }
    expect(await cache.has(BATCH)).toBe(true);
  });

  test("keeps an ordinary safetensors file that says what it is", async () => {
    const { cache } = await openCache();
    await cache.write(BATCH, CUTS);
    const file = await openSafetensors(fileIn(cache));
    expect(file.metadata).toEqual({
      ...KEY,
      point: "layers.29.mlpIn",
      kind: "cuts",
      rows: "distinct",
      tokens: JSON.stringify(BATCH),
    });
    expect(file.tensors.get("2.mlpIn")).toMatchObject({ dtype: "F32", shape: [2, M] });
    expect(new Uint32Array((await file.readRaw("0.mlpIn")).buffer)).toEqual(
      new Uint32Array(((CUTS[0] as Cut).mlpIn as Float32Array).buffer),
    );
    await file.close();
  });

  test("of cuts at the start of a layer keeps their streams alone", async () => {
    const { cache, notices } = await openCache({ key: { ...KEY, point: atInput(29) } });
    const cuts = CUTS.map((cut): Cut => ({ ...cut, point: atInput(29), mlpIn: null }));
    await cache.write(BATCH, cuts);
    const file = await openSafetensors(fileIn(cache));
    expect([...file.tensors.keys()]).toEqual(["0.stream", "1.stream", "2.stream", "sha256"]);
    expect(file.metadata).toMatchObject({ point: "layers.29.input" });
    await file.close();
    const found = (await cache.read(BATCH)) as Cut[];
    expect(found.map(({ point, mlpIn }) => [point, mlpIn])).toEqual(BATCH.map(() => [atInput(29), null]));
    expect(found.map(({ stream }) => stream)).toEqual(cuts.map(({ stream }) => stream));
    expect(notices).toEqual([]);
  });

  test("goes on when its folder is taken away", async () => {
    const { cache, notices } = await openCache();
    await cache.write(BATCH, CUTS);
    await rm(cache.folder, { recursive: true });
    expect(await cache.has(BATCH)).toBe(false);
    expect(await cache.read(BATCH)).toBeNull();
    await cache.removeStream(BATCH);
    await cache.write(BATCH, CUTS);
    expect(bitsOf(await cache.read(BATCH))).toEqual(bitsOf(CUTS));
    expect(notices).toEqual([]);
  });

  test("refuses numbers that do not fill the batch", async () => {
    const { cache } = await openCache();
    await expect(cache.write(BATCH, CUTS.slice(1))).rejects.toThrow(LabFailure);
    await expect(cache.write(BATCH, CUTS.toReversed())).rejects.toThrow("another shape");
    await expect(cache.writeStream(BATCH, { next: 1, x: new Float32Array(9 * D - 1) })).rejects.toThrow(LabFailure);
    expect(readdirSync(cache.folder)).toEqual([]);
  });
});

async function flipBit(path: string, bit: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
  await writeFile(path, bytes);
}

describe("an entry that is not as it was written is taken away with one notice:", () => {
  test("a bit of any byte of its file flipped", async () => {
    const { cache, notices } = await openCache();
    await cache.write(BATCH, CUTS);
    const path = fileIn(cache);
    const whole = await readFile(path);
    const survived: number[] = [];
    for (let byte = 0; byte < whole.length; byte++) {
      await flipBit(path, 8 * byte + (byte % 8));
      if ((await cache.read(BATCH)) !== null || readdirSync(cache.folder).length > 0) survived.push(byte);
      await writeFile(path, whole);
    }
    expect(survived).toEqual([]);
    expect(notices).toHaveLength(whole.length);
    expect(new Set(notices.map((line) => line.replace(/part \d/, "part N"))).size).toBe(2); // header, numbers
    expect(bitsOf(await cache.read(BATCH))).toEqual(bitsOf(CUTS));
  });

  const damages: [string, (path: string) => Promise<unknown>][] = [
    ["cut short by a byte", async (path) => truncate(path, (await stat(path)).size - 1)],
    ["cut short within its header", (path) => truncate(path, 100)],
    ["empty", (path) => truncate(path, 0)],
    ["longer", (path) => writeFile(path, "\0", { flag: "a" })],
    ["all zeros", async (path) => writeFile(path, new Uint8Array((await stat(path)).size))],
    ["a folder with something in it", (path) => rm(path).then(() => mkdir(join(path, "inner"), { recursive: true }))],
  ];
  test.each(damages)("%s", async (_, damage) => {
    const { cache, notices } = await openCache();
    await cache.write(BATCH, CUTS);
    await damage(fileIn(cache));
    expect(await cache.read(BATCH)).toBeNull();
    expect(readdirSync(cache.folder)).toEqual([]);
    expect(notices).toEqual([expect.stringMatching(/^[^\n]*cuts-[0-9a-f]{64}\.safetensors [^\n]*removed[^\n]*$/)]);
    expect(await cache.has(BATCH)).toBe(false);
  });

  test("the entry of another model", async () => {
    const { cache, notices } = await openCache();
    await cache.write(BATCH, CUTS);
    const path = fileIn(cache);
    const { cache: other } = await openCache({ key: { ...KEY, modelSha256: "cd".repeat(32) } });
    await other.write(BATCH, CUTS);
    await rename(fileIn(other), path);
    expect(await cache.read(BATCH)).toBeNull();
    expect(notices).toHaveLength(1);
    expect(readdirSync(cache.folder)).toEqual([]);
  });

  test("but one that cannot be read stays, and is replaced by the next write", async () => {
    const { cache, notices } = await openCache();
    await cache.write(BATCH, CUTS);
    const path = fileIn(cache);
    chmodSync(join(cache.folder, ".."), 0o755);
    chmodSync(path, 0o000);
    expect(await asOrdinaryUser(() => cache.read(BATCH))).toBeNull();
    expect(notices).toEqual([expect.stringMatching(/cannot be read.*EACCES/)]);
    await cache.write(BATCH, CUTS);
    expect(bitsOf(await asOrdinaryUser(() => cache.read(BATCH)))).toEqual(bitsOf(CUTS));
  });
});

describe("the stream of a batch", () => {
  const N = 6; // as many as three sequences have distinct prefixes
  const streamAt = (next: number) => ({ next, x: Float32Array.from({ length: N * D }, (_, i) => next + i / 7) });

  test("is replaced layer by layer, and taken away", async () => {
    const { cache } = await openCache();
    expect(await cache.readStream(BATCH)).toBeNull();
    for (const next of [0, 1, 28]) {
      await cache.writeStream(BATCH, streamAt(next));
      expect(readdirSync(cache.folder)).toHaveLength(1);
      expect(await cache.readStream(BATCH)).toEqual(streamAt(next));
    }
    expect(await cache.has(BATCH)).toBe(false);
    await cache.removeStream(BATCH);
    await cache.removeStream(BATCH);
    expect(await cache.readStream(BATCH)).toBeNull();
    expect(readdirSync(cache.folder)).toEqual([]);
  });

  test("is never trusted with a flipped bit, in its layer least of all", async () => {
    const { cache, notices } = await openCache();
    await cache.writeStream(BATCH, streamAt(17));
    const path = fileIn(cache);
    const whole = await readFile(path);
    for (let byte = 0; byte < whole.length; byte++) {
      await flipBit(path, 8 * byte + (byte % 8));
      expect(await cache.readStream(BATCH)).toBeNull();
      expect(readdirSync(cache.folder)).toEqual([]);
      await writeFile(path, whole);
    }
    expect(notices).toHaveLength(whole.length);
  });
});

/** Moves the last use of all that is there into the past. */
async function age(folder: string, milliseconds: number): Promise<void> {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    const then = new Date((await stat(path)).mtimeMs - milliseconds);
    await utimes(path, then, then);
  }
}

describe("the limit", () => {
  /** Equally large batches of one sequence. */
  const [a, b, c, d] = [10, 20, 30, 40].map((token) => [[token, token]]) as [
    number[][],
    number[][],
    number[][],
    number[][],
  ];
  const sizeOfOne = async () => {
    const { cache } = await openCache();
    await cache.write(a, cutsOf(a));
    return (await stat(fileIn(cache))).size;
  };
  const kept = async (cache: CutCache) => {
    const all = Object.entries({ a, b, c, d });
    const sizes = await Promise.all(all.map(async ([name, batch]) => [name, await cache.read(batch)] as const));
    return sizes.filter(([, cuts]) => cuts !== null).map(([name]) => name);
  };

  test.each<[string, (cache: CutCache) => Promise<unknown>]>([
    ["reading", (cache) => cache.read(a, [0])],
    ["asking for it", (cache) => cache.has(a)],
  ])("lets the least recently used go, whatever its model; %s is use", async (_, use) => {
    const limitBytes = 3 * (await sizeOfOne());
    const { cache, notices } = await openCache({ limitBytes });
    const other = await openCache({ folder: cache.folder, limitBytes, key: { ...KEY, modelSha256: "cd".repeat(32) } });
    for (const [batch, { cache: one }] of [
      [a, { cache }],
      [b, other],
      [c, { cache }],
    ] as const) {
      await age(cache.folder, 1000);
      await one.write(batch, cutsOf(batch));
    }
    expect(readdirSync(cache.folder)).toHaveLength(3);
    await age(cache.folder, 1000);
    await use(cache);
    await cache.write(d, cutsOf(d));
    expect(await kept(cache)).toEqual(["a", "c", "d"]);
    expect(await kept(other.cache)).toEqual([]);
    await cache.write(d, cutsOf(d)); // in its own place
    expect(await kept(cache)).toEqual(["a", "c", "d"]);
    expect(notices).toEqual([]);
  });

  test("is exceeded by what was just written alone, with a notice", async () => {
    const { cache, notices } = await openCache({ limitBytes: 100 });
    await cache.write(a, cutsOf(a));
    expect(await kept(cache)).toEqual(["a"]);
    await cache.write(b, cutsOf(b));
    expect(await kept(cache)).toEqual(["b"]);
    expect(notices).toEqual(
      Array(2).fill(expect.stringMatching(/takes 0\.\d{3} MB, more than the cache may: 0\.000 MB/)),
    );
  });

  test("is kept by streams and drafts that nobody comes back for; those in use, and files of others, stay", async () => {
    const limitBytes = 3 * (await sizeOfOne());
    const { cache } = await openCache({ limitBytes });
    const stream = (batch: number[][]) => cache.writeStream(batch, { next: 3, x: new Float32Array(2 * D) });
    const draft = (name: string) =>
      writeFile(join(cache.folder, `${name}-${"0".repeat(64)}.safetensors.4711.part`), "half");
    await stream(a);
    await draft("cuts");
    await age(cache.folder, 8 * 24 * 60 * MINUTE_MS);
    await stream(b);
    await draft("stream");
    await writeFile(join(cache.folder, "notes.txt"), "x".repeat(1e4));
    await writeFile(join(cache.folder, "cuts-of-mine.safetensors"), "x".repeat(1e4));
    await age(cache.folder, 5 * MINUTE_MS);
    await cache.write(c, cutsOf(c));
    expect(readdirSync(cache.folder)).toHaveLength(7); // there was room
    await cache.write(d, cutsOf(d));
    await cache.write(a, cutsOf(a));
    expect(await cache.readStream(a)).toBeNull();
    expect(await cache.readStream(b)).toMatchObject({ next: 3 });
    const others = readdirSync(cache.folder).filter((name) => !/^(cuts|stream)-[0-9a-f]{64}\.safetensors$/.test(name));
    expect(others).toEqual(["cuts-of-mine.safetensors", "notes.txt", `stream-${"0".repeat(64)}.safetensors.4711.part`]);
  });

  test("holds while several write and read at once, and nobody ever gets other numbers", async () => {
    const limitBytes = 4 * (await sizeOfOne());
    const { cache, notices } = await openCache({ limitBytes });
    const worker = async (first: number) => {
      const { cache: own } = await openCache({ folder: cache.folder, limitBytes });
      for (let i = 0; i < 40; i++) {
        await own.write([[first, i]], cutsOf([[first, i]]));
        const someone = [[1 + (i % 3), i]];
        const cuts = await own.read(someone);
        if (cuts !== null) expect(bitsOf(cuts)).toEqual(bitsOf(cutsOf(someone)));
      }
    };
    await Promise.all([1, 2, 3].map(worker));
    expect(readdirSync(cache.folder).length).toBeLessThanOrEqual(4 + 2);
    expect(notices).toEqual([]);
  });
});

describe("where nothing can be written", () => {
  const large = [Array.from({ length: 6000 }, (_, i) => i)]; // 120 kB

  describe.runIf(requires("small-disk"))("because the disk is full", () => {
    test("the failure has the numbers and the ways out, no draft stays, and older entries do", async () => {
      const disk = mountSmallDisk();
      try {
        const { cache } = await openCache({ folder: disk.path });
        await cache.write(BATCH, CUTS);
        const before = readdirSync(disk.path);
        const failure = await cache.write(large, cutsOf(large)).catch((error: unknown) => error);
        expect(failure).toBeInstanceOf(LabFailure);
        const { message } = failure as LabFailure;
        expect(message).toMatch(
          /ENOSPC[\s\S]*needed: 0\.1\d\d MB[\s\S]*free: 0\.1\d\d MB[\s\S]*--cache FOLDER.*--cache-size/,
        );
        expect(message).toContain(disk.path);
        const sequences = Array.from({ length: 6000 * 3 }, (_, i) => [i]);
        const x = new Float32Array(6000 * D * 3);
        await expect(cache.writeStream(sequences, { next: 1, x })).rejects.toThrow("ENOSPC");
        expect(readdirSync(disk.path)).toEqual(before);
        expect(bitsOf(await cache.read(BATCH))).toEqual(bitsOf(CUTS));
      } finally {
        disk.release();
      }
    });
  });

  test("because the folder is read-only: refused when opened, a failure when it becomes so", async () => {
    const { cache } = await openCache();
    await cache.write(BATCH, CUTS);
    chmodSync(join(cache.folder, ".."), 0o755);
    chmodSync(cache.folder, 0o555);
    await asOrdinaryUser(async () => {
      await expect(openCache({ folder: cache.folder })).rejects.toThrow(RefusedInput);
      const failure = await cache.write([[1]], cutsOf([[1]])).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(LabFailure);
      expect((failure as LabFailure).message).toMatch(/EACCES[\s\S]*folder: .*cache[\s\S]*--cache FOLDER/);
      expect(bitsOf(await cache.read(BATCH))).toEqual(bitsOf(CUTS));
    });
    expect(readdirSync(cache.folder)).toHaveLength(1);
  });
});

test("the default folder follows WISE_LAB_CACHE, then XDG_CACHE_HOME", () => {
  try {
    vi.stubEnv("WISE_LAB_CACHE", "/fast/disk");
    vi.stubEnv("XDG_CACHE_HOME", "/home/x/cache");
    expect(defaultCacheFolder()).toBe("/fast/disk");
    vi.stubEnv("WISE_LAB_CACHE", "");
    expect(defaultCacheFolder()).toBe(join("/home/x/cache", "wise-lab", "cuts"));
    vi.stubEnv("XDG_CACHE_HOME", "relative");
    expect(defaultCacheFolder()).toMatch(/wise-lab.cuts$/);
    expect(defaultCacheFolder()).not.toContain("relative");
  } finally {
    vi.unstubAllEnvs();
  }
});

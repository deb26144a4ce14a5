import { open, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LabFailure, RefusedInput } from "../../src/core/errors.js";
import { openSafetensors, writeSafetensors } from "../../src/model/safetensors-file.js";
import { MAX_HEADER_BYTES } from "../../src/model/safetensors-header.js";
import type { TensorToWrite } from "../../src/model/safetensors-write.js";
import { golden } from "../support/shared.js";
import { refusal, safetensorsBytes, temporaryFolder } from "./support.js";

const F32_PAIR = { dtype: "F32", shape: [2], data_offsets: [0, 8] };

/** For comparing many values at once: `toEqual` takes seconds. */
const bytesOf = (values: Float32Array) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);

describe("reading", () => {
  test("the golden file: tensors, metadata, dtypes, values", async () => {
    const path = join(golden, "wise-merge.safetensors");
    const file = await openSafetensors(path);
    expect(file.tensors.get("mask.0")).toEqual({
      dtype: "U8",
      shape: [64, 176],
      bytes: 11264,
      offset: 8 + 880 + 405504,
    });
    const mask = await file.readRaw("mask.0");
    expect(new Set(mask)).toEqual(new Set([0, 1]));
    const side = await file.read("side.4");
    const bytes = await readFile(path);
    for (const i of [0, 1, 5000, 11263]) expect(side[i]).toBe(bytes.readFloatLE(8 + 880 + 315392 + 4 * i));
    await file.close();
  });

  test("rows are the rows of the whole, in every dtype, across the border of a chunk", async () => {
    const path = join(await temporaryFolder(), "rows.safetensors");
    const [rows, columns] = [700, 1000]; // 2.8 MB in F32: several reads
    const data = Float32Array.from({ length: rows * columns }, (_, i) => (i % 2048) - 1024);
    const shape = [rows, columns];
    await writeSafetensors(path, {
      full: { dtype: "F32", shape, data },
      brain: { dtype: "BF16", shape, data: data.map((value) => value % 128) },
      half: { dtype: "F16", shape, data },
    });
    const file = await openSafetensors(path);
    for (const name of ["full", "brain", "half"]) {
      const whole = await file.read(name);
      expect(bytesOf(whole).equals(bytesOf(name === "brain" ? data.map((value) => value % 128) : data))).toBe(true);
      for (const range of [
        [0, 0],
        [0, 1],
        [131, 700],
        [699, 700],
      ] as const) {
        const some = await file.read(name, { rows: range, finite: true });
        const expected = whole.slice(range[0] * columns, range[1] * columns);
        expect(bytesOf(some).equals(bytesOf(expected)), `${name} rows ${range}`).toBe(true);
      }
    }
    await file.close();
  });

  test("rows beyond 4 GiB are found", async () => {
    const path = join(await temporaryFolder(), "large.safetensors");
    const rows = 1_300_000;
    const header = safetensorsBytes({ a: { dtype: "F32", shape: [rows, 1024], data_offsets: [0, rows * 4096] } });
    const handle = await open(path, "w");
    await handle.write(header);
    await handle.write(Buffer.from(Float32Array.of(1, 2, 3).buffer), 0, 12, header.length + (rows - 1) * 4096);
    await handle.truncate(header.length + rows * 4096); // 5.3 GB, sparse: takes no space
    await handle.close();
    const file = await openSafetensors(path);
    const last = await file.read("a", { rows: [rows - 2, rows] });
    expect([last.length, ...last.slice(1023, 1028)]).toEqual([2048, 0, 1, 2, 3, 0]);
    await file.close();
  });

  test("what cannot be read is named: unknown tensor, dtype, rows", async () => {
    const file = await openSafetensors(join(golden, "forward-tiny-llama3.safetensors"));
    const ids = await file.readRaw("0.ids");
    expect(new Int32Array(ids.buffer)[0]).toBe(0);
    expect((await refusal(() => file.read("0.logit"))).message).toContain("0.logits");
    expect(await refusal(() => file.read("0.ids"))).toMatchObject({ found: "I32", expected: "F32, F16, BF16, F64" });
    for (const rows of [
      [0, 19],
      [-1, 2],
      [3, 2],
      [0.5, 1],
    ] as const) {
      const { where, expected } = await refusal(() => file.read("0.logits", { rows }));
      expect([where, expected]).toEqual([expect.stringContaining("0.logits"), "rows within 0 to 18"]);
    }
    await file.close();
  });

  test("NaN and infinities are refused with their place only when asked", async () => {
    const path = join(await temporaryFolder(), "nan.safetensors");
    for (const dtype of ["F32", "BF16", "F16"] as const) {
      const data = new Float32Array(3 * 400_000);
      data[2 * 400_000 + 7] = Number.NaN;
      data[2 * 400_000 + 9] = Number.NEGATIVE_INFINITY;
      await writeSafetensors(path, { weight: { dtype, shape: [3, 400_000], data } });
      const file = await openSafetensors(path);
      expect((await file.read("weight"))[800_007]).toBeNaN();
      await expect(file.read("weight", { rows: [0, 2], finite: true })).resolves.toHaveLength(800_000);
      for (const rows of [undefined, [2, 3]] as const) {
        const { where, found } = await refusal(() => file.read("weight", { finite: true, ...(rows && { rows }) }));
        expect([where, found]).toEqual([`${path}: weight [2, 7]`, "NaN"]);
      }
      await file.close();
    }
  });

  test("a file that gets shorter while it is open is refused, not padded", async () => {
    const path = join(await temporaryFolder(), "shrinks.safetensors");
    await writeSafetensors(path, { weight: { dtype: "F32", shape: [1000], data: new Float32Array(1000) } });
    const file = await openSafetensors(path);
    await truncate(path, 2000);
    const { where, found } = await refusal(() => file.read("weight"));
    expect([where, found]).toEqual([`${path}: weight`, "the end of the file at byte 2000"]);
    await file.close();
  });
});

describe("writing", () => {
  const floats = fc.array(fc.float({ noNaN: true }), { maxLength: 24 });
  const tensor: fc.Arbitrary<TensorToWrite> = fc.oneof(
    floats.map((data) => ({ dtype: "F32" as const, shape: [data.length], data: Float32Array.from(data) })),
    fc.uint8Array({ maxLength: 24 }).map((data) => ({ dtype: "U8" as const, shape: [data.length, 1], data })),
    fc.int32Array({ maxLength: 24 }).map((data) => ({ dtype: "I32" as const, shape: [1, data.length], data })),
  );
  const names = fc.string({ unit: "grapheme", maxLength: 8 }).filter((name) => !/^__(metadata|proto)__$/.test(name));

  test("what is written is read back; order of entries does not change a byte", async () => {
    const folder = await temporaryFolder();
    const [path, again] = [join(folder, "a.safetensors"), join(folder, "b.safetensors")];
    await fc.assert(
      fc.asyncProperty(
        fc.dictionary(names, tensor, { maxKeys: 6 }),
        fc.dictionary(names, fc.string()),
        async (tensors, metadata) => {
          await writeSafetensors(path, tensors, metadata);
          const reversed = (record: object) => Object.fromEntries(Object.entries(record).reverse());
          await writeSafetensors(again, reversed(tensors), reversed(metadata));
          expect(await readFile(again)).toEqual(await readFile(path));
          const file = await openSafetensors(path);
          expect(file.metadata).toEqual({ ...metadata });
          expect([...file.tensors.keys()].sort()).toEqual(Object.keys(tensors).sort());
          for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
            const info = file.tensors.get(name);
            expect(info).toMatchObject({ dtype, shape });
            expect((info?.offset ?? 1) % data.BYTES_PER_ELEMENT).toBe(0);
            const stored = await file.readRaw(name);
            expect(stored).toEqual(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
          }
          await file.close();
        },
      ),
      { numRuns: 60 },
    );
  });

  test("data that does not fill its shape is not written", async () => {
    const path = join(await temporaryFolder(), "short.safetensors");
    const write = writeSafetensors(path, { a: { dtype: "F32", shape: [2, 2], data: new Float32Array(3) } });
    await expect(write).rejects.toThrow(new LabFailure("tensor a of shape [2, 2] has 3 values to write"));
    await expect(readFile(path)).rejects.toThrow("ENOENT");
  });
});

describe("bad files are refused", () => {
  const cases: [what: string, bytes: Buffer, says: string | RegExp][] = [
    ["an empty file", Buffer.alloc(0), "0 bytes"],
    ["a file shorter than its length field", Buffer.from("abc"), "3 bytes"],
    ["a header claiming more than the file", safetensorsBytes({ a: F32_PAIR }).subarray(0, 30), /at least 6\d bytes/],
    [
      "a header of unbelievable length",
      Buffer.concat([Buffer.alloc(7), Buffer.from("\x01{}")]),
      "72057594037927940 bytes",
    ],
    ["a PyTorch file", Buffer.from("PK\x03\x04........data.pkl", "latin1"), "PyTorch"],
    ["a Python pickle", Buffer.from("\x80\x02}q\x00X\x01\x00\x00\x00a", "latin1"), "Python pickle"],
    ["an HTML page", Buffer.from("\n<!DOCTYPE html><title>Not found</title>"), "HTML"],
    ["a Git LFS pointer", Buffer.from("version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"],
    ["a header that is no JSON", safetensorsBytes('{"a": '), "JSON"],
    [
      "a header that is no UTF-8",
      safetensorsBytes(Buffer.from('{"\xff": 1}', "latin1").toString("latin1")),
      "expected",
    ],
    [
      "a tensor named twice",
      safetensorsBytes(`{"a":${JSON.stringify(F32_PAIR)},"a":${JSON.stringify(F32_PAIR)}}`, Buffer.alloc(8)),
      '"a" twice',
    ],
    [
      "a tensor without dtype",
      safetensorsBytes({ a: { shape: [2], data_offsets: [0, 8] } }, Buffer.alloc(8)),
      "a: dtype",
    ],
    [
      "an unknown dtype",
      safetensorsBytes({ a: { ...F32_PAIR, dtype: "F31" } }, Buffer.alloc(8)),
      /found: F31\s+expected: one of BOOL/,
    ],
    ["a negative extent", safetensorsBytes({ a: { ...F32_PAIR, shape: [-2] } }, Buffer.alloc(8)), "shape.0"],
    ["an unknown field", safetensorsBytes({ a: { ...F32_PAIR, stride: [1] } }, Buffer.alloc(8)), "nothing else"],
    [
      "a span unlike the shape",
      safetensorsBytes({ a: { ...F32_PAIR, shape: [3] } }, Buffer.alloc(8)),
      "expected: 12 bytes",
    ],
    [
      "a span that ends before it begins",
      safetensorsBytes({ a: { ...F32_PAIR, data_offsets: [8, 0] } }, Buffer.alloc(8)),
      "(-8)",
    ],
    [
      "a shape beyond all files",
      safetensorsBytes({ a: { ...F32_PAIR, shape: [2 ** 52, 2 ** 52] } }, Buffer.alloc(8)),
      "does not fit its shape",
    ],
    ["truncated data", safetensorsBytes({ a: F32_PAIR }, Buffer.alloc(7)), /found: 7 bytes.*\s+expected: 8 bytes/],
    ["bytes after the last tensor", safetensorsBytes({ a: F32_PAIR }, Buffer.alloc(9)), "goes on after"],
    ["bytes without a tensor", safetensorsBytes({}, Buffer.alloc(9)), "goes on after"],
    [
      "overlapping tensors",
      safetensorsBytes({ a: F32_PAIR, b: { ...F32_PAIR, data_offsets: [4, 12] } }, Buffer.alloc(12)),
      "overlap",
    ],
    ["a hole", safetensorsBytes({ a: F32_PAIR, b: { ...F32_PAIR, data_offsets: [9, 17] } }, Buffer.alloc(17)), "hole"],
    ["a hole at the start", safetensorsBytes({ a: { ...F32_PAIR, data_offsets: [1, 9] } }, Buffer.alloc(9)), "hole"],
    ["metadata that is no text", safetensorsBytes({ __metadata__: { format: 3 } }), "__metadata__: format"],
  ];

  test.each(cases)("%s", async (_, bytes, says) => {
    const path = join(await temporaryFolder(), "bad.safetensors");
    await writeFile(path, bytes);
    const { message } = await refusal(() => openSafetensors(path));
    expect(message).toContain(path);
    expect(message).toMatch(says);
  });

  test("a header longer than the format allows, before it is read", async () => {
    const path = join(await temporaryFolder(), "long.safetensors");
    const file = await open(path, "w");
    const start = Buffer.alloc(9, "{");
    start.writeBigUInt64LE(BigInt(MAX_HEADER_BYTES + 1));
    await file.write(start);
    await file.truncate(MAX_HEADER_BYTES + 1000); // sparse: takes no space
    await file.close();
    expect((await refusal(() => openSafetensors(path))).expected).toContain(`at most ${MAX_HEADER_BYTES}`);
  });

  test("a path that is missing or a folder", async () => {
    const folder = await temporaryFolder();
    expect((await refusal(() => openSafetensors(join(folder, "none")))).found).toContain("ENOENT");
    expect((await refusal(() => openSafetensors(folder))).found).toBe("something else than a file");
  });

  test("random damage to length and header: refused, or every tensor can still be read", async () => {
    const path = join(await temporaryFolder(), "damaged.safetensors");
    const whole = await readFile(join(golden, "wise-one-edit-paper.safetensors"));
    const headerEnd = 8 + Number(whole.readBigUInt64LE(0));
    const damage = fc.array(fc.tuple(fc.nat(headerEnd - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(damage, async (changes) => {
        const bytes = Buffer.from(whole);
        for (const [at, byte] of changes) bytes[at] = byte;
        await writeFile(path, bytes);
        try {
          const file = await openSafetensors(path);
          for (const [name, { bytes }] of file.tensors) expect(await file.readRaw(name)).toHaveLength(bytes);
          await file.close();
        } catch (error) {
          expect(error).toBeInstanceOf(RefusedInput);
        }
      }),
      { numRuns: 400 },
    );
  });
});

import { symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readBytes } from "../../src/core/files.js";
import type { NpyArray } from "../../src/stats/npy.js";
import { npzBytes, openNpz } from "../../src/stats/npz.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { goldenFile, type MadeEntry, madeFile, madeNpy, madeZip } from "./support.js";

const numbers = Buffer.from(Float32Array.of(1, 2, 3, 4, 5, 6).buffer);
const npy = madeNpy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", numbers);

async function readAll(path: string): Promise<Record<string, NpyArray>> {
  const file = await openNpz(path);
  try {
    const arrays: [string, NpyArray][] = [];
    for (const name of file.names) arrays.push([name, await file.read(name, "f4", "f8", "i4", "i8", "U")]);
    return Object.fromEntries(arrays);
  } finally {
    await file.close();
  }
}

/** Opens a file and reads one array of it. */
async function readOne(path: string, name = "a"): Promise<NpyArray> {
  const file = await openNpz(path);
  try {
    return await file.read(name, "f4");
  } finally {
    await file.close();
  }
}

describe("NumPy's own files", () => {
  test("are read: text, whole numbers and a matrix", async () => {
    const arrays = await readAll(goldenFile(0));
    expect(Object.keys(arrays)).toEqual(["mom2.constructor", "mom2.count", "mom2.mom2", "sample_size"]);
    const written = "easyeditor.util.runningstats.SecondMoment()";
    expect(arrays["mom2.constructor"]).toEqual({ type: "U", shape: [], data: [written] });
    expect(arrays["mom2.count"]).toEqual({ type: "i8", shape: [], data: BigInt64Array.of(2025n) });
    expect(arrays["mom2.mom2"]).toMatchObject({ type: "f4", shape: [176, 176] });
  });

  test.each([0, 1, 2])("are written again to the same bytes: layer %i", async (layer) => {
    const bytes = Buffer.concat([...npzBytes(await readAll(goldenFile(layer)))]);
    expect(bytes.equals(await readBytes(goldenFile(layer)))).toBe(true);
  });

  test("are found through a symbolic link, and told by their header without their values", async () => {
    const link = join(await temporaryFolder(), "link.npz");
    await symlink(goldenFile(1), link);
    const file = await openNpz(link);
    expect(await file.header("mom2.mom2")).toEqual({ type: "f4", itemBytes: 4, shape: [176, 176] });
    await file.close();
  });
});

test("what was written is read back, whatever its type and shape", async () => {
  const path = join(await temporaryFolder(), "arrays.npz");
  const shapes = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 });
  const array: fc.Arbitrary<NpyArray> = shapes.chain((shape) => {
    const length = shape.reduce((product, extent) => product * extent, 1);
    const exactly = { minLength: length, maxLength: length };
    const text = fc.string({ unit: "binary" }).map((value) => value.replace(/\0+$/, ""));
    return fc.oneof(
      fc.float32Array(exactly).map((data) => ({ type: "f4" as const, shape, data })),
      fc.float64Array(exactly).map((data) => ({ type: "f8" as const, shape, data })),
      fc.int32Array(exactly).map((data) => ({ type: "i4" as const, shape, data })),
      fc.bigInt64Array(exactly).map((data) => ({ type: "i8" as const, shape, data })),
      fc.array(text, exactly).map((data) => ({ type: "U" as const, shape, data })),
    );
  });
  const name = fc.stringMatching(/^[a-z][a-z0-9_.]{0,9}$/);
  await fc.assert(
    fc.asyncProperty(fc.dictionary(name, array, { maxKeys: 3, noNullPrototype: true }), async (arrays) => {
      await writeFile(path, [...npzBytes(arrays)]);
      expect(await readAll(path)).toEqual(arrays);
    }),
    { numRuns: 50 },
  );
});

test.each<[string, MadeEntry, Parameters<typeof madeZip>[1]]>([
  ["deflated", { name: "a.npy", data: npy }, {}],
  ["stored", { name: "a.npy", data: npy, method: 0 }, {}],
  ["with sizes in zip64 fields", { name: "a.npy", data: npy }, { zip64: true }],
  ["with a comment behind it", { name: "a.npy", data: npy }, { comment: "made elsewhere" }],
  [
    "of .npy version 2",
    { name: "a.npy", data: madeNpy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", numbers, 2) },
    {},
  ],
])("an archive of other programs is read: %s", async (_, entry, options) => {
  const path = await madeFile("made.npz", madeZip([{ name: "b.npy", data: npy }, entry], options));
  expect(await readOne(path)).toEqual({ type: "f4", shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) });
});

describe("refused, with file, array, found and expected:", () => {
  const header = (descr: string, fortran = "False", shape = "(2, 3)") =>
    madeNpy(`{'descr': ${descr}, 'fortran_order': ${fortran}, 'shape': ${shape}, }\n`, numbers);

  test.each<[string, Uint8Array, found: RegExp]>([
    ["Python objects", header("'|O'"), /Python objects \(a pickle\)/],
    ["big-endian numbers", header("'>f4'"), /values of type >f4/],
    ["half precision", header("'<f2'"), /values of type <f2/],
    ["a structured type", header("[('x', '<f4')]"), /values of type/],
    ["Fortran order", header("'<f4'", "True"), /Fortran order/],
    ["a shape of more values than there are", header("'<f4'", "False", "(200000, 300000)"), /24 bytes of values/],
    ["a shape beyond all numbers", header("'<f4'", "False", "(99999999999, 99999999999)"), /shape/],
    ["another type than is asked for", header("'<i4'"), /values of type i4/],
    ["code in place of a header", madeNpy("__import__('os').system('true')\n", numbers), /__import__/],
    ["a header longer than the array", Buffer.concat([npy.subarray(0, 8), Buffer.from([0xff, 0x20]), npy]), /bytes/],
    ["no array", Buffer.from("this is no array at all"), /no array/],
    ["nothing", Buffer.alloc(0), /0 bytes/],
    ["a later version", Buffer.concat([npy.subarray(0, 6), Buffer.from([9, 0]), npy.subarray(8)]), /version 9/],
  ])("%s", async (_, data, found) => {
    const path = await madeFile("made.npz", madeZip([{ name: "a.npy", data }]));
    const error = await refusal(() => readOne(path));
    expect(String(error.found)).toMatch(found);
    expect(error.where).toBe(`${path}: a`);
  });

  test.each<[string, Partial<MadeEntry>, found: RegExp]>([
    ["an encrypted entry", { flags: 1 }, /encrypted/],
    ["another compression", { method: 12 }, /compression method 12/],
    ["a CRC that is another's", { crc: 1 }, /CRC [0-9a-f]{8}/],
    ["an entry that inflates to more", { bytes: npy.length - 1 }, /more than \d+ bytes/],
    ["an entry that inflates to less", { bytes: npy.length + 1 }, /^25 bytes of values$/],
    ["a size that nothing inflates to", { bytes: 0xfffffff0 }, /4294967280 bytes in/],
    ["an entry beyond the directory", { packedBytes: 100_000 }, /bytes in 100000 from byte 0/],
  ])("%s", async (_, change, found) => {
    const path = await madeFile("made.npz", madeZip([{ name: "a.npy", data: npy, ...change }]));
    const error = await refusal(() => readOne(path));
    expect(String(error.found)).toMatch(found);
    expect(error.where).toMatch(/made\.npz: a(\.npy)?$/);
  });

  test("deflated bytes that are damaged", async () => {
    const bytes = madeZip([{ name: "a.npy", data: npy }]);
    bytes.fill(0xff, 40, 60);
    const error = await refusal(async () => readOne(await madeFile("made.npz", bytes)));
    expect(error.where).toMatch(/: a\.npy$/);
  });

  test("one name twice, and a name that is not there", async () => {
    const twice = await madeFile("twice.npz", madeZip([1, 2].map(() => ({ name: "a.npy", data: npy }))));
    expect((await refusal(() => readOne(twice))).found).toBe("two entries of this name");
    const error = await refusal(() => readOne(goldenFile(0), "mom2.mean"));
    expect(error.found).toContain("mom2.constructor, mom2.count");
    expect(error.expected).toBe("an array mom2.mean");
  });

  test("a file that was cut short, anywhere", async () => {
    const bytes = await readBytes(goldenFile(0));
    const path = await madeFile("short.npz", bytes);
    for (const length of [bytes.length - 1, bytes.length - 30, 60_000, 20, 0]) {
      await writeFile(path, bytes);
      await truncate(path, length);
      const error = await refusal(() => readOne(path));
      expect(error.where).toBe(path);
      expect(error.found).toMatch(length === 0 ? /0 bytes/ : /cut short|directory/);
    }
  });

  test.each([
    ["a single array", "\x93NUMPY\x01\x00v\x00", /\.npy file/],
    ["a pickle", "\x80\x04\x95abc", /pickle/],
    ["a page", "<!DOCTYPE html>", /HTML/],
    ["a Git LFS pointer", "version https://git-lfs.github.com/spec/v1\n", /LFS/],
    ["anything else", "nothing of the kind", /19 bytes without the end of a zip archive/],
  ])("%s", async (_, text, found) => {
    const path = await madeFile("foreign.npz", Buffer.from(text, "latin1"));
    expect((await refusal(() => readOne(path))).found).toMatch(found);
  });

  test("a folder, and nothing at all", async () => {
    const folder = await temporaryFolder();
    expect((await refusal(() => openNpz(folder))).found).toBe("something else than a file");
    expect((await refusal(() => openNpz(join(folder, "none.npz")))).found).toMatch(/ENOENT/);
  });
});

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readBytes } from "../../src/core/files.js";
import { openSafetensors } from "../../src/model/safetensors-file.js";
import { openTorchFile, type StoredTensor } from "../../src/torch/torch-file.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { type MadeEntry, madeZip } from "../stats/support.js";
import { goldenMethods } from "../support/shared.js";
import { dict, floats, global, type MadeTensor, pickled, tensor, torchFile, unicode } from "./support.js";

const ARCHIVE = join(goldenMethods, "mend-archive.pt");

/** The one tensor of a file that holds nothing else. */
async function readTensor(path: string): Promise<{ shape: readonly number[]; values: number[] }> {
  const file = await openTorchFile(path);
  try {
    const value = file.value as StoredTensor;
    return { shape: value.shape, values: [...(await value.read())] };
  } finally {
    await file.close();
  }
}

const refused = async (path: string | Promise<string>) => refusal(async () => readTensor(await path));

describe("PyTorch's own file", () => {
  test("holds the tensors that were written, bit for bit, and the rest as values", async () => {
    const file = await openTorchFile(ARCHIVE);
    const golden = await openSafetensors(join(goldenMethods, "mend.safetensors"));
    const archive = file.value as Map<string, Map<string, unknown>>;
    expect([...archive.keys()].sort()).toContain("opt");
    const model = archive.get("model") as Map<string, StoredTensor>;
    const names = [...golden.tensors.keys()].filter((name) => name.startsWith("theta."));
    expect(names).toHaveLength(29);
    for (const name of names) {
      const own = name.slice("theta.".length);
      const theirs = own.replace(".layers.", ".mlp.layers.").replace(/\.(scale|shift)$/, ".mode_$1.weight");
      const stored = model.get(own === "edit_lrs" ? own : `mend.${theirs}`) as StoredTensor;
      expect(stored.shape, name).toEqual(golden.tensors.get(name)?.shape);
      expect(await stored.read(), name).toEqual(await golden.read(name));
    }
    await golden.close();
    await file.close();
  });

  test("is refused when one byte of its pickle has changed", async () => {
    const bytes = Buffer.from(await readBytes(ARCHIVE));
    const path = join(await temporaryFolder(), "changed.pt");
    const start = bytes.indexOf(Buffer.from("\x80\x02}", "latin1"));
    for (const at of [0, 40, 700, 3000, 5000].map((place) => start + place)) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] as number) ^ 0x20;
      await writeFile(path, changed);
      expect((await refusal(() => openTorchFile(path))).message).toContain("with CRC");
    }
  });
});

describe("a tensor is read", () => {
  const all = floats(0, 1, 2, 3, 4, 5);
  const six = (change: Partial<MadeTensor>) => tensor({ items: 6, shape: [6], strides: [1], ...change });

  test.each<[string, Partial<MadeTensor>, number[]]>([
    ["as it stands", { shape: [2, 3], strides: [3, 1] }, [0, 1, 2, 3, 4, 5]],
    ["transposed", { shape: [3, 2], strides: [1, 3] }, [0, 3, 1, 4, 2, 5]],
    ["from within its storage", { offset: 1, shape: [2, 2], strides: [2, 1] }, [1, 2, 3, 4]],
    ["every second item", { offset: 1, shape: [3], strides: [2] }, [1, 3, 5]],
    ["one number without axes", { offset: 4, shape: [], strides: [] }, [4]],
    ["without items", { shape: [0, 3], strides: [3, 1] }, []],
    ["with an axis of one, whatever its stride", { shape: [1, 6], strides: [99, 1] }, [0, 1, 2, 3, 4, 5]],
  ])("%s", async (_, change, values) => {
    const path = await torchFile(six(change), { 0: all });
    expect(await readTensor(path)).toEqual({ shape: change.shape, values });
  });

  test.each<[string, number[]]>([
    ["HalfStorage", [0x3c00, 0xc000]],
    ["BFloat16Storage", [0x3f80, 0xc000]],
  ])("of %s, widened", async (type, bits) => {
    const path = await torchFile(six({ type, items: 2, shape: [2] }), {
      0: Buffer.from(Uint16Array.from(bits).buffer),
    });
    expect((await readTensor(path)).values).toEqual([1, -2]);
  });

  test.each<[string, Partial<MadeTensor>, found: string]>([
    ["that ends beyond its storage", { shape: [7] }, "a tensor up to item 7"],
    ["that begins beyond it", { offset: 6 }, "a tensor up to item 12"],
    ["whose strides lead beyond it", { shape: [2, 3], strides: [4, 1] }, "a tensor up to item 7"],
    [
      "whose size overflows",
      { shape: [2 ** 31 - 1, 2 ** 31 - 1], strides: [2 ** 31 - 1, 2 ** 31 - 1] },
      "a tensor up to",
    ],
    ["that repeats its storage without end", { shape: [2 ** 30, 2 ** 30], strides: [0, 0] }, "a tensor of 115292"],
    ["with a stride below 0", { shape: [6], strides: [-1] }, "a tensor without a storage"],
    ["with an offset below 0", { offset: -1 }, "a tensor without a storage"],
    ["with a stride too few", { shape: [2, 3], strides: [3] }, "a tensor without a storage"],
    ["of whole numbers", { type: "IntStorage" }, "a tensor of int32"],
    ["of more items than are stored", { items: 7 }, "24 bytes"],
    ["of another type than is stored", { type: "DoubleStorage" }, "24 bytes"],
    ["whose storage there is not", { key: "1" }, "no such entry"],
    ["whose storage is elsewhere", { key: "../data.pkl" }, "no such entry"],
  ])("but refused: one %s", async (_, change, found) => {
    expect((await refused(torchFile(six(change), { 0: all }))).found).toContain(found);
  });
});

describe("refused is", () => {
  const zipOf = async (...entries: MadeEntry[]) => {
    const path = join(await temporaryFolder(), "made.pt");
    await writeFile(path, madeZip(entries.map((entry) => ({ method: 0, ...entry }))));
    return path;
  };
  const fileOf = async (bytes: Uint8Array) => {
    const path = join(await temporaryFolder(), "made.pt");
    await writeFile(path, bytes);
    return path;
  };
  const pickle = { name: "made/data.pkl", data: pickled(dict({})) };

  test("a call that a pickle asks for, by its name, with the place", async () => {
    const path = await torchFile(`${global("os", "system")}${unicode("true")}\x85R`);
    expect(await refused(path)).toMatchObject({
      where: `${path}: made/data.pkl, byte 13`,
      found: "the name os.system",
    });
  });

  test("a file of torch.save before PyTorch 1.6, in words", async () => {
    const magic = "\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";
    const path = await fileOf(Buffer.from(magic, "latin1"));
    expect(await refused(path)).toMatchObject({
      found: "a Python pickle",
      expected: "a zip archive, as torch.save writes it since PyTorch 1.6",
    });
  });

  test.each<[string, () => Promise<string>, found: string]>([
    ["a file that is missing", async () => "nowhere.pt", "ENOENT"],
    ["an empty file", () => fileOf(new Uint8Array()), "0 bytes"],
    ["an archive without a pickle", () => zipOf({ name: "made/data/0", data: floats(1) }), "entries made/data/0"],
    ["one with two", () => zipOf(pickle, { ...pickle, name: "other/data.pkl" }), "made/data.pkl, other/data.pkl"],
    ["one of another byte order", () => zipOf(pickle, { name: "made/byteorder", data: Buffer.from("big") }), "big"],
    [
      "a pickle of endless length",
      () =>
        zipOf(
          { ...pickle, bytes: 2 ** 27, method: 8, packedBytes: 2 ** 18 },
          { name: "made/data/0", data: Buffer.alloc(2 ** 19) },
        ),
      `${2 ** 27} bytes`,
    ],
  ])("%s", async (_, make, found) => {
    expect((await refused(make())).found).toContain(found);
  });

  test("an archive whose entries overlap", async () => {
    const value = tensor({ items: 40, shape: [40], strides: [1] });
    const hidden = { name: "made/data/1", data: Buffer.alloc(200), method: 0 };
    const path = await zipOf(
      { name: "made/data.pkl", data: pickled(value) },
      { name: "made/data/0", data: floats(1, 2), bytes: 160, packedBytes: 160 },
      hidden,
    );
    expect((await refused(path)).expected).toMatch(/^an entry that ends before byte \d+$/);
  });
});

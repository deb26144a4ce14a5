import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sha256File } from "../../../src/core/files.js";
import { type NetworkOrigin, networkNeed, writeNetwork } from "../../../src/edit/mend/archive.js";
import { type NetworkValues, slotsOf } from "../../../src/edit/mend/network.js";
import type { MendOptions } from "../../../src/edit/mend/options.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { writeSafetensors } from "../../../src/model/safetensors-file.js";
import { refusal, temporaryFolder } from "../../model/support.js";
import { goldenMethods } from "../../support/shared.js";
import { dict, floats, global, tensor, torchFile, unicode } from "../../torch/support.js";
import { loadTiny } from "../support.js";
import { mendOptions, someNetwork } from "./support.js";

let model: LlamaModel;
let options: MendOptions;
beforeAll(async () => {
  model = await loadTiny();
  options = await mendOptions("rank=3");
});
afterAll(() => model.dispose());

const RELEASED = join(goldenMethods, "mend-archive.pt");

/** A network for the tiny checkpoint in a file of its own. @returns its path */
async function networkFile({
  values = {},
  origin = {},
}: {
  values?: NetworkValues;
  origin?: Partial<NetworkOrigin>;
} = {}) {
  const path = join(await temporaryFolder(), "mend.safetensors");
  const network = { ...someNetwork(slotsOf(options, model.config), options.rank), ...values };
  const { name, sha256 } = model;
  const own: NetworkOrigin = {
    model: { name, sha256 },
    records: { sha256: "0", used: 1 },
    options: { ...options, inner_params: [...options.inner_params] },
    steps: 1,
    backend: "none",
    ...origin,
  };
  await writeNetwork(path, network, own);
  return path;
}

/** The network of a file, for the tiny checkpoint and some options. */
async function open(archive: string, change: Partial<MendOptions> = {}): Promise<NetworkValues> {
  return (await networkNeed({ ...options, archive, ...change }, model.config).open(model)).value as NetworkValues;
}

/** The same network as the released code stores it. @returns the path of its file */
async function releasedFile(network: NetworkValues, prefix: string): Promise<string> {
  const entries = Object.entries(network).map(([name, { data, shape }], i) => {
    const own = name.replace(".layers.", ".mlp.layers.").replace(/\.(scale|shift)$/, ".mode_$1.weight");
    const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, extent) => product * extent, 1));
    const stored = tensor({ key: String(i), items: data.length, shape, strides });
    return { name: name.startsWith("(") ? `${prefix}.${own}` : own, stored, bytes: floats(...data) };
  });
  const model = dict(Object.fromEntries(entries.map(({ name, stored }) => [name, stored])));
  return torchFile(dict({ model }), Object.fromEntries(entries.map(({ bytes }, i) => [i, bytes])));
}

describe("a network that was trained here", () => {
  test("is read as it was written, and told by its sha256", async () => {
    const path = await networkFile();
    expect(await open(path)).toEqual(someNetwork(slotsOf(options, model.config), options.rank));
    const { sha256 } = await networkNeed({ ...options, archive: path }, model.config).open(model);
    expect(sha256).toBe(await sha256File(path));
  });

  test("is refused for another model", async () => {
    const path = await networkFile({ origin: { model: { name: "another", sha256: "f00" } } });
    expect(await refusal(() => open(path))).toMatchObject({
      message: expect.stringContaining("a network of MEND is of another model"),
      where: path,
      found: "another, sha256 f00",
    });
  });

  test("is refused for other matrices, or these in another order", async () => {
    const inner_params = [...options.inner_params].reverse();
    expect((await refusal(async () => open(await networkFile(), { inner_params }))).message).toContain(
      "a network of MEND is of other matrices",
    );
  });

  test("is refused for another rank", async () => {
    expect(await refusal(async () => open(await networkFile(), { rank: 4 }))).toMatchObject({
      where: expect.stringContaining("tensor (64, 176).layers.0.u"),
      found: "[240, 3]",
      expected: "[240, 4], for these inner_params and this rank",
    });
  });

  test("is refused with a number that is not finite", async () => {
    const values = { edit_lrs: { shape: [6], data: Float32Array.of(1, 1, 1, Number.NaN, 1, 1) } };
    expect((await refusal(async () => open(await networkFile({ values })))).where).toContain("edit_lrs");
  });
});

describe("an archive of the released code", () => {
  const released = (change: Partial<MendOptions> = {}) => open(RELEASED, { rank: 12, ...change });

  test("is read, all of it", async () => {
    expect(Object.keys(await released())).toHaveLength(29);
  });

  test.each(["mend", "gtn"])("is read by the names that it has: %s", async (prefix) => {
    const one = { inner_params: ["model.layers.3.self_attn.k_proj.weight"], rank: 1 };
    const network = someNetwork(slotsOf(one, model.config), one.rank);
    const path = await releasedFile(network, prefix);
    expect(await open(path, one)).toEqual(network);
  });

  test("is refused for another rank, and for matrices that it is not of", async () => {
    expect((await refusal(() => released({ rank: 11 }))).found).toBe("[240, 12]");
    const inner_params = ["model.layers.3.self_attn.q_proj.weight"];
    expect(await refusal(() => released({ inner_params }))).toMatchObject({ found: "[6]" });
  });

  test("is refused with something else than a network in it", async () => {
    const path = await torchFile(dict({ weights: dict({}), step: "K\x01" }));
    expect(await refusal(() => open(path))).toMatchObject({ found: "weights, step", expected: "a dict with model" });
    const list = await torchFile("]");
    expect((await refusal(() => open(list))).found).toBe("no dict");
  });

  test("that would run something is refused by what it names", async () => {
    const path = await torchFile(dict({ model: `${global("posix", "system")}${unicode("true")}\x85R` }));
    expect(await refusal(() => open(path))).toMatchObject({ found: "the name posix.system" });
  });
});

describe("no network at all is refused:", () => {
  test("a file that is missing, with the command that makes one", async () => {
    const refused = await refusal(() => open("nowhere/mend.safetensors"));
    expect(refused.message).toContain("a network of MEND is missing");
    expect(refused.hint).toContain(`wise-lab train-mend --model ${model.folder}`);
  });

  test("a torch file of before PyTorch 1.6, in words", async () => {
    const path = join(await temporaryFolder(), "old.pt");
    await writeFile(path, Buffer.from("\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "latin1"));
    expect(await refusal(() => open(path))).toMatchObject({
      found: "a Python pickle",
      expected: "a zip archive, as torch.save writes it since PyTorch 1.6",
    });
  });

  test("other safetensors", async () => {
    const path = join(await temporaryFolder(), "other.safetensors");
    await writeSafetensors(path, { a: { dtype: "F32", shape: [1], data: Float32Array.of(1) } }, {});
    expect(await refusal(() => open(path))).toMatchObject({
      message: expect.stringContaining("not a network of MEND"),
      expected: expect.stringContaining("as wise-lab train-mend writes it"),
    });
  });
});

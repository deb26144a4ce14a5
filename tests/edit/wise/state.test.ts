import { readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { PreparedMethod } from "../../../src/edit/contract.js";
import { methods } from "../../../src/edit/registry.js";
import { batchCuts } from "../../../src/model/cut.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { openSafetensors, type TensorToWrite, writeSafetensors } from "../../../src/model/safetensors.js";
import { refusal, temporaryFolder } from "../../model/support.js";
import { golden } from "../../support/shared.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { fact, loadTiny, settingOf } from "../support.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

const prepare = (...set: string[]): Promise<PreparedMethod> =>
  methods.wise.prepare({ preset: "tiny", set: ["n_iter=2", "save_freq=1", "merge_freq=2", ...set] }, { layers: 4 });

/** Makes some edits and saves them. */
async function savedEdits(method: PreparedMethod, edits: readonly number[]): Promise<string> {
  const path = join(await temporaryFolder(), "edits.safetensors");
  const session = method.start(settingOf(model));
  for (const i of edits) await session.edit(fact(i));
  await session.save(path);
  session.dispose();
  return path;
}

test("equal edits have one hash, others another", async () => {
  const method = await prepare();
  const hashOf = async (edits: readonly number[]) => {
    const session = method.start(settingOf(model));
    for (const i of edits) await session.edit(fact(i));
    const hash = await session.hash();
    session.dispose();
    return hash;
  };
  const [one, again, other] = [await hashOf([0, 1]), await hashOf([0, 1]), await hashOf([1, 0])];
  expect(again).toBe(one);
  expect(other).not.toBe(one);
});

describe("saved, restored and carried on", () => {
  test.each([
    ["Retrieve", ["retrieve=true"]],
    ["Retrieve with replay", ["retrieve=true", "replay=true"]],
    ["Merge", ["retrieve=false"]],
    ["Merge by a random algorithm", ["retrieve=false", "merge_alg=dare_ties"]],
    ["in the middle of a shard", ["save_freq=4", "merge_freq=4"]],
  ])("%s: byte for byte what it would have been without", async (_, set) => {
    const method = await prepare(...set);
    const straight = await savedEdits(method, [0, 1, 2, 3, 4]);
    const path = await savedEdits(method, [0, 1, 2]);
    await expectTidy(async () => {
      // Another process has a generator of its own, at its start.
      const { session, edits } = await method.restore(path, settingOf(model));
      expect(edits).toBe(3);
      for (const i of [3, 4]) await session.edit(fact(i));
      await session.save(path);
      session.dispose();
    });
    expect((await readFile(path)).equals(await readFile(straight))).toBe(true);
  });

  test("no edits at all can be saved, too", async () => {
    const method = await prepare();
    const path = await savedEdits(method, []);
    const { session, edits } = await method.restore(path, settingOf(model));
    expect(edits).toBe(0);
    session.dispose();
  });

  test("another act_ratio may read it: training never saw that number", async () => {
    const path = await savedEdits(await prepare("act_ratio=0.88"), [0]);
    const { session } = await (await prepare("act_ratio=0.5")).restore(path, settingOf(model));
    const overlay = await session.overlay();
    const batch = batchCuts(model, await settingOf(model).cuts.get([[0, 1, 2]]));
    const answer = await overlay.answer(model, batch);
    const [, memory] = answer.decisions[0]?.readings ?? [];
    expect(memory?.threshold).toBe(0.5 * (memory?.minAct as number));
    for (const held of [answer, batch, overlay, session]) held.dispose();
  });
});

describe("refused", () => {
  test("edits of another model", async () => {
    const path = await savedEdits(await prepare(), [0]);
    const other = await loadTiny("tiny-llama3-tied");
    const method = await prepare();
    const error = await expectTidy(() => refusal(() => method.restore(path, settingOf(other))));
    other.dispose();
    expect(error).toMatchObject({ where: `${path}, model sha256`, found: model.sha256, expected: other.sha256 });
  });

  test.each([
    ["seed=1", "option seed", "0", "1"],
    ["edit_lr=0.7", "option lr", "0.3", "0.7"],
    ["mask_ratio=0.3", "option maskRatio", "0.2", "0.3"],
    ["retrieve=false", "option retrieve", "true", "false"],
    ["norm_constraint=null", "option normConstraint", "1", "null"],
  ])("edits made with other options: %s", async (set, what, found, expected) => {
    const path = await savedEdits(await prepare(), [0]);
    const error = await refusal(async () => (await prepare(set)).restore(path, settingOf(model)));
    expect(error).toMatchObject({ where: `${path}, ${what}`, found, expected });
  });

  test("a file that is none", async () => {
    const method = await prepare();
    const restore = (path: string) => expectTidy(() => refusal(() => method.restore(path, settingOf(model))));
    const folder = await temporaryFolder();
    await writeFile(join(folder, "text"), "edits");
    expect((await restore(join(folder, "text"))).where).toContain("text");
    expect((await restore(join(folder, "missing"))).where).toContain("missing");
    const checkpoint = await restore(join(golden, "tiny-llama3-tied/model.safetensors"));
    expect(checkpoint.message).toContain("not a saved WISE edit state");
  });

  test("a file that was cut short", async () => {
    const method = await prepare();
    const path = await savedEdits(method, [0, 1]);
    const { length } = await readFile(path);
    for (const bytes of [length - 1, length >> 1, 100, 4, 0]) {
      await truncate(path, bytes);
      const error = await expectTidy(() => refusal(() => method.restore(path, settingOf(model))));
      expect(error.message).toContain(path);
    }
  });

  /** Writes a saved file again with something changed. */
  async function altered(change: {
    metadata?: (saved: Record<string, unknown>) => unknown;
    tensors?: (saved: Record<string, TensorToWrite>) => void;
  }) {
    const method = await prepare();
    const path = await savedEdits(method, [0]);
    const file = await openSafetensors(path);
    const tensors: Record<string, TensorToWrite> = {};
    for (const [name, { shape }] of file.tensors) {
      tensors[name] = { dtype: "F32", shape: [...shape], data: await file.read(name) };
    }
    const saved = JSON.parse(file.metadata["wise-lab"] as string) as Record<string, unknown>;
    await file.close();
    change.tensors?.(tensors);
    const metadata = change.metadata ? change.metadata(saved) : saved;
    await writeSafetensors(path, tensors, {
      "wise-lab": typeof metadata === "string" ? metadata : JSON.stringify(metadata),
    });
    return expectTidy(() => refusal(() => method.restore(path, settingOf(model))));
  }

  test.each<[string, (saved: Record<string, unknown>) => unknown, string]>([
    ["metadata that are not JSON", () => "{", "not a saved WISE edit state"],
    ["a later format", (saved) => ({ ...saved, format: "wise-lab WISE edits, version 9" }), "version 1"],
    ["a number of edits below 0", (saved) => ({ ...saved, edits: -1 }), "edits"],
    ["a min_act that became null", (saved) => ({ ...saved, minAct: null }), "minAct"],
    ["a shard that is not there", (saved) => ({ ...saved, shardMinActs: [1, 2] }), "shard.1"],
  ])("damaged: %s", async (_, metadata, message) => {
    expect((await altered({ metadata })).message).toContain(message);
  });

  test.each<[string, (saved: Record<string, TensorToWrite>) => void, string]>([
    [
      "a tensor of another shape",
      (saved) => {
        saved.side = { dtype: "F32", shape: [2, 2], data: new Float32Array(4) };
      },
      "found: [2, 2]",
    ],
    [
      "a number that is not finite",
      (saved) => {
        ((saved["shard.0"] as TensorToWrite).data as Float32Array)[7] = Number.NaN;
      },
      "shard.0",
    ],
    [
      "a tensor that is missing",
      (saved) => {
        delete saved.side;
      },
      "no such tensor",
    ],
  ])("damaged: %s", async (_, tensors, message) => {
    expect((await altered({ tensors })).message).toContain(message);
  });
});

import { readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RefusedInput } from "../../../src/core/errors.js";
import type { EditSession } from "../../../src/edit/contract.js";
import type { Decision, Reading } from "../../../src/edit/overlay.js";
import { prepareNamed } from "../../../src/edit/registry.js";
import { restoreEdits, saveEdits, sealEdits } from "../../../src/edit/saved.js";
import { type EditOwner, hashEdits } from "../../../src/edit/state.js";
import { batchCuts } from "../../../src/model/cut.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { openSafetensors, writeSafetensors } from "../../../src/model/safetensors-file.js";
import type { TensorToWrite } from "../../../src/model/safetensors-write.js";
import { refusal, temporaryFolder } from "../../model/support.js";
import { golden } from "../../support/shared.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { fact, loadTiny, settingOf } from "../support.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

/** WISE for the tiny checkpoint, and what its edits belong to. */
async function prepare(...set: string[]): Promise<EditOwner> {
  const source = { preset: "tiny", set: ["n_iter=2", "save_freq=1", "merge_freq=2", ...set] };
  return { method: await prepareNamed("wise", source, model.config), model, assets: new Map() };
}

/** A session with some edits. */
async function sessionOf({ method }: EditOwner, edits: readonly number[]): Promise<EditSession> {
  const session = method.start(settingOf(model));
  for (const i of edits) await session.edit([fact(i)]);
  return session;
}

/** Makes some edits and saves them. */
async function savedEdits(owner: EditOwner, edits: readonly number[]): Promise<string> {
  const path = join(await temporaryFolder(), "edits.safetensors");
  const session = await sessionOf(owner, edits);
  await saveEdits(path, session, owner);
  session.dispose();
  return path;
}

/** The refusal of a file of saved edits. */
async function refusedFile(path: string, owner?: EditOwner): Promise<RefusedInput> {
  const given = owner ?? (await prepare());
  return expectTidy(() => refusal(() => restoreEdits(path, settingOf(model), given)));
}

test("equal edits have one hash, others another", async () => {
  const owner = await prepare();
  const hashOf = async (edits: readonly number[]) => {
    const session = await sessionOf(owner, edits);
    const hash = await hashEdits(session, owner);
    session.dispose();
    return hash;
  };
  const [one, again, other] = [await hashOf([0, 1]), await hashOf([0, 1]), await hashOf([1, 0])];
  expect(again).toBe(one);
  expect(other).not.toBe(one);
});

test("a state is the number of edits, a matrix for each memory, and the rest as plain JSON", async () => {
  const shape = [model.config.hiddenSize, model.config.intermediateSize];
  const names = async (edits: readonly number[], ...set: string[]) => {
    const session = await sessionOf(await prepare(...set), edits);
    const { edits: count, tensors, json } = await session.state();
    session.dispose();
    expect(count).toBe(edits.length);
    for (const { shape: found, data } of Object.values(tensors)) {
      expect([found, data.length]).toEqual([shape, (shape[0] as number) * (shape[1] as number)]);
    }
    expect(JSON.parse(JSON.stringify(json))).toEqual(json);
    return Object.keys(tensors);
  };
  expect(await names([])).toEqual(["side"]);
  expect(await names([0, 1, 2])).toEqual(["side", "shard.0", "memory.0"]);
  expect(await names([0, 1, 2], "retrieve=false")).toEqual(["side", "shard.0", "merged"]);
});

describe("saved, restored and carried on", () => {
  test.each([
    ["Retrieve", ["retrieve=true"]],
    ["Retrieve with replay", ["retrieve=true", "replay=true"]],
    ["Merge", ["retrieve=false"]],
    ["Merge by a random algorithm", ["retrieve=false", "merge_alg=dare_ties"]],
    ["in the middle of a shard", ["save_freq=4", "merge_freq=4"]],
  ])("%s: byte for byte what it would have been without", async (_, set) => {
    const owner = await prepare(...set);
    const straight = await savedEdits(owner, [0, 1, 2, 3, 4]);
    const path = await savedEdits(owner, [0, 1, 2]);
    await expectTidy(async () => {
      // Another process has a generator of its own, at its start.
      const { session, edits } = await restoreEdits(path, settingOf(model), owner);
      expect(edits).toBe(3);
      for (const i of [3, 4]) await session.edit([fact(i)]);
      await saveEdits(path, session, owner);
      session.dispose();
    });
    expect((await readFile(path)).equals(await readFile(straight))).toBe(true);
  });

  test("no edits at all can be saved, too", async () => {
    const owner = await prepare();
    const path = await savedEdits(owner, []);
    const { session, edits } = await restoreEdits(path, settingOf(model), owner);
    expect(edits).toBe(0);
    session.dispose();
  });

  test("another act_ratio may read it: training never saw that number", async () => {
    const path = await savedEdits(await prepare("act_ratio=0.88"), [0]);
    const { session } = await restoreEdits(path, settingOf(model), await prepare("act_ratio=0.5"));
    const overlay = await session.overlay();
    const batch = batchCuts(model, await settingOf(model).cuts.get([[0, 1, 2]]));
    const routed = await overlay.route(batch);
    const [, { margin, numbers }] = (routed.decisions[0] as Decision).readings as [Reading, Reading];
    expect(margin).toBe((numbers.delta as number) / (0.5 * (numbers.min_act as number)));
    for (const held of [routed, batch, overlay, session]) held.dispose();
  });
});

describe("refused", () => {
  test("edits of another model", async () => {
    const path = await savedEdits(await prepare(), [0]);
    const other = await loadTiny("tiny-llama3-tied");
    const owner = { ...(await prepare()), model: other };
    const error = await expectTidy(() => refusal(() => restoreEdits(path, settingOf(other), owner)));
    other.dispose();
    expect(error).toMatchObject({ where: `${path}, model sha256`, found: model.sha256, expected: other.sha256 });
  });

  test("edits of another method", async () => {
    const path = await savedEdits(await prepare(), [0]);
    const owner = await prepare();
    const error = await refusedFile(path, { ...owner, method: { ...owner.method, name: "other" } });
    expect(error).toMatchObject({ where: `${path}, method`, found: "wise", expected: "other" });
  });

  test.each([
    ["seed=1", "option seed", 0, "1"],
    ["edit_lr=0.7", "option edit_lr", 0.3, "0.7"],
    ["mask_ratio=0.3", "option mask_ratio", 0.2, "0.3"],
    ["retrieve=false", "option retrieve", true, "false"],
    ["norm_constraint=null", "option norm_constraint", 1, "null"],
  ])("edits made with other options: %s", async (set, what, found, expected) => {
    const path = await savedEdits(await prepare(), [0]);
    expect(await refusedFile(path, await prepare(set))).toMatchObject({ where: `${path}, ${what}`, found, expected });
  });

  test("edits that rest on other side data", async () => {
    const owner = await prepare();
    const resting = (sha256: string): EditOwner => ({
      ...owner,
      assets: new Map([["means", { sha256, value: null }]]),
    });
    const path = await savedEdits(resting("ab"), [0]);
    expect(await refusedFile(path, resting("cd"))).toMatchObject({
      where: `${path}, means (sha256)`,
      found: "ab",
      expected: "cd",
    });
    expect(await refusedFile(path, owner)).toMatchObject({ found: "ab", expected: "none" });
    const { session } = await restoreEdits(path, settingOf(model), resting("ab"));
    session.dispose();
  });

  test("a file that is none", async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, "text"), "edits");
    expect((await refusedFile(join(folder, "text"))).where).toContain("text");
    expect((await refusedFile(join(folder, "missing"))).where).toContain("missing");
    const checkpoint = await refusedFile(join(golden, "tiny-llama3-tied/model.safetensors"));
    expect(checkpoint.message).toContain("not a file of saved edits");
  });

  test("a file that was cut short", async () => {
    const path = await savedEdits(await prepare(), [0, 1]);
    const { length } = await readFile(path);
    for (const bytes of [length - 1, length >> 1, 100, 4, 0]) {
      await truncate(path, bytes);
      expect((await refusedFile(path)).message).toContain(path);
    }
  });

  /** Writes a saved file again with something changed. */
  async function altered(change: {
    metadata?: (saved: Record<string, unknown>) => unknown;
    tensors?: (saved: Record<string, TensorToWrite>) => void;
  }) {
    const path = await savedEdits(await prepare(), [0]);
    const file = await openSafetensors(path);
    const tensors: Record<string, TensorToWrite> = {};
    for (const [name, { shape }] of file.tensors) {
      tensors[name] = { dtype: "F32", shape: [...shape], data: await file.read(name) };
    }
    const saved = JSON.parse(file.metadata["wise-lab"] as string) as Record<string, unknown>;
    await file.close();
    change.tensors?.(tensors);
    const metadata = change.metadata ? change.metadata(saved) : saved;
    const text = typeof metadata === "string" ? metadata : JSON.stringify(metadata);
    await writeSafetensors(path, tensors, { "wise-lab": text });
    return sealEdits(path, path).then(
      () => refusedFile(path),
      (error: RefusedInput) => error,
    );
  }

  /** Metadata with something changed in what WISE keeps of its edits. */
  const withState = (change: Record<string, unknown>) => (saved: Record<string, unknown>) => ({
    ...saved,
    state: { ...(saved.state as object), ...change },
  });

  test.each<[string, (saved: Record<string, unknown>) => unknown, string]>([
    ["metadata that are not JSON", () => "{", "not a file of saved edits"],
    ["a later format", (saved) => ({ ...saved, format: "wise-lab edits, version 9" }), "version 2"],
    ["an earlier format", (saved) => ({ ...saved, format: "wise-lab WISE edits, version 1" }), "version 2"],
    ["a number of edits below 0", (saved) => ({ ...saved, edits: -1 }), "edits"],
    ["a min_act that became null", withState({ minAct: null }), "minAct"],
    ["a shard that is not there", withState({ shardMinActs: [1, 2] }), "shard.1"],
    ["a merged memory that is not there", withState({ merged: true }), "merged"],
    ["a history that is none", withState({ history: { current: [[{ ids: "0" }]], merged: [] } }), "history"],
    ["a state of another method", (saved) => ({ ...saved, state: { keys: 3 } }), "saved edits of another form"],
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

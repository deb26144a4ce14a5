import { appendFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AssetNeed } from "../../../src/edit/contract.js";
import { type NetworkValues, networkShapes, slotsOf } from "../../../src/edit/mend/network.js";
import type { MendOptions } from "../../../src/edit/mend/options.js";
import { prepareNamed } from "../../../src/edit/registry.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { type EditorProgress, type TrainEditorOptions, trainEditor } from "../../../src/workshop/train/editor.js";
import { records } from "../../edit/mend/support.js";
import { errorOf, loadTiny } from "../../edit/support.js";
import { refusal, temporaryFolder } from "../../model/support.js";
import { TINY_MODEL, TINY_RECORDS, wiseLab } from "../../run/support.js";
import { expectTidy } from "../../support/tensor-matcher.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

/** Seven steps of two examples, the last of them of one: the six records, and then in another order. */
const SHORT = ["rank=2", "accumulate_bs=2", "max_iters=13"];

const methodOf = (...set: string[]) => prepareNamed("mend", { preset: "tiny", set: [...SHORT, ...set] }, model.config);

/** Trains in a folder, with checkpoints after steps 3, 6 and 7. */
async function train(folder: string, changes: Partial<TrainEditorOptions> = {}): Promise<string> {
  const method = await methodOf();
  const data = { sha256: "made up", records };
  return expectTidy(() =>
    trainEditor({ method, model, data, folder, backend: "tests", checkpointEvery: 3, ...changes }),
  );
}

/** Every file that a training leaves. */
async function filesOf(folder: string): Promise<Record<string, string>> {
  const names = ["mend.safetensors", "checkpoint.safetensors", "loss.jsonl"];
  const files = names.map(async (name) => [name, (await readFile(join(folder, name))).toString("latin1")] as const);
  return Object.fromEntries(await Promise.all(files));
}

let once: Promise<Record<string, string>> | undefined;
const uninterrupted = () => {
  once ??= temporaryFolder().then(async (folder) => {
    await train(folder);
    return filesOf(folder);
  });
  return once;
};

/** A folder with the files of a training that is over. */
async function finishedFolder(): Promise<string> {
  const folder = await temporaryFolder();
  for (const [name, bytes] of Object.entries(await uninterrupted()))
    await writeFile(join(folder, name), bytes, "latin1");
  return folder;
}

test("a training tells its steps, and leaves the network that edits are made with", async () => {
  const folder = await temporaryFolder();
  const told: EditorProgress[] = [];
  const path = await train(folder, { onProgress: (now) => told.push(now) });
  expect(told.map(({ step, steps }) => [step, steps])).toEqual([1, 2, 3, 4, 5, 6, 7].map((step) => [step, 7]));
  for (const { loss, terms } of told) expect(loss).toBeCloseTo(0.1 * (terms.edit as number) + (terms.loc as number), 4);
  expect(told.at(-1)?.secondsLeft).toBe(0);

  const method = await methodOf(`archive=${path}`);
  const need = method.needs.assets[0] as AssetNeed;
  const value = (await need.open(model)).value as NetworkValues;
  const options = method.options as MendOptions;
  expect(Object.keys(value)).toEqual([...networkShapes(slotsOf(options, model.config), options.rank).keys()]);
});

test("trained for longer, edits are answered better", async () => {
  const told: EditorProgress[] = [];
  const set = ["max_iters=60", "accumulate_bs=6", "lr=3e-3", "cloc=0.01"];
  await train(await temporaryFolder(), { method: await methodOf(...set), onProgress: (now) => told.push(now) });
  expect(told.at(-1)?.loss).toBeLessThan(0.7 * (told[0]?.loss as number));
});

describe("the files are the same", () => {
  test("when the same training runs twice, and others with another seed", async () => {
    const [again, other] = [await temporaryFolder(), await temporaryFolder()];
    await train(again);
    expect(await filesOf(again)).toEqual(await uninterrupted());
    await train(other, { method: await methodOf("seed=1") });
    expect((await filesOf(other))["mend.safetensors"]).not.toEqual((await uninterrupted())["mend.safetensors"]);
  });

  test("when it is stopped after any step and goes on", async () => {
    const folder = await temporaryFolder();
    const stop = new AbortController();
    const stopping = train(folder, { signal: stop.signal, onProgress: ({ step }) => step === 4 && stop.abort() });
    expect((await errorOf(stopping)).message).toBe("stopped during training, after step 4 of 7");
    const steps: number[] = [];
    await train(folder, { onProgress: ({ step }) => steps.push(step) });
    expect(steps).toEqual([5, 6, 7]);
    expect(await filesOf(folder)).toEqual(await uninterrupted());
  });

  test("when it dies between two checkpoints, in the middle of a line, and goes on from the last one", async () => {
    const folder = await temporaryFolder();
    const dying = train(folder, {
      onProgress: ({ step }) => {
        if (step === 5) throw new Error("power cut");
      },
    });
    expect((await errorOf(dying)).message).toBe("power cut");
    await appendFile(join(folder, "loss.jsonl"), '{"step":6,"lo');
    const steps: number[] = [];
    await train(folder, { onProgress: ({ step }) => steps.push(step) });
    expect(steps).toEqual([4, 5, 6, 7]);
    expect(await filesOf(folder)).toEqual(await uninterrupted());
  });

  test("when a finished training is asked for again", async () => {
    const folder = await finishedFolder();
    const steps: number[] = [];
    await train(folder, { onProgress: ({ step }) => steps.push(step) });
    expect(steps).toEqual([]);
    expect(await filesOf(folder)).toEqual(await uninterrupted());
  });
});

describe("refused is", () => {
  test.each<[string, () => Promise<Partial<TrainEditorOptions>>, differs: string]>([
    ["other options", async () => ({ method: await methodOf("lr=1e-4") }), "options"],
    ["other records", async () => ({ data: { sha256: "others", records } }), "records"],
    ["fewer of them", async () => ({ data: { sha256: "made up", records: records.slice(1) } }), "used"],
    ["another backend", async () => ({ backend: "another" }), "backend"],
    ["another model", async () => ({ model: { ...model, sha256: "another" } }), "model"],
  ])("a folder with a checkpoint of a training with %s", async (_, changes, differs) => {
    const folder = await finishedFolder();
    const refused = await refusal(async () => train(folder, await changes()));
    expect(refused.message).toContain(`a checkpoint belongs to another training: its ${differs} differs`);
  });

  test("a method that needs no training", async () => {
    const method = await prepareNamed("ft-m", { preset: "tiny" }, model.config);
    expect(await refusal(async () => train(await temporaryFolder(), { method }))).toMatchObject({ found: "ft-m" });
  });

  test.each([
    ["a rephrase", { rephrase: null }, "no rephrase"],
    ["an unrelated question", { locality: [] }, "no unrelated question"],
  ])("a record without %s, before anything is trained", async (_, change, found) => {
    const data = {
      sha256: "made up",
      records: records.map((record, i) => (i === 4 ? { ...record, ...change } : record)),
    };
    const folder = await temporaryFolder();
    expect(await refusal(() => train(folder, { data }))).toMatchObject({ where: "record 4", found });
    await expect(readFile(join(folder, "loss.jsonl"))).rejects.toThrow("ENOENT");
  });
});

describe("wise-lab train-mend", () => {
  const command = (...args: string[]) => wiseLab("train-mend", "--backend", "cpu", ...args);
  const set = SHORT.flatMap((one) => ["--set", one]);

  test("trains on a file of records, and prints where the network is", async () => {
    const folder = await temporaryFolder();
    const { status, stdout, stderr } = await command(
      ...["--model", TINY_MODEL, "--preset", "tiny", "--data", TINY_RECORDS, "--out", folder, "--set", "max_iters=2"],
      ...set.slice(0, 4),
    );
    expect(status).toBe(0);
    expect(stdout.trim()).toBe(join(folder, "mend.safetensors"));
    expect(stderr).toMatch(/step 1\/1 {2}loss \S+ \(edit \S+, loc \S+\)/);
  });

  test("asks for records where the model is another than the project's own", async () => {
    const out = await temporaryFolder();
    const { status, stderr } = await command("--model", TINY_MODEL, "--preset", "tiny", "--out", out);
    expect(status).toBe(1);
    expect(stderr).toContain("no records to train on");
  });
});

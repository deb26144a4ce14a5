import { appendFile, cp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { RefusedInput } from "../../../src/core/errors.js";
import { untouched } from "../../../src/edit/overlay.js";
import { ask } from "../../../src/eval/answers.js";
import { createCutStore } from "../../../src/model/cut-store.js";
import { loadModel } from "../../../src/model/folder.js";
import { PLAIN } from "../../../src/model/prompt.js";
import { openSafetensors } from "../../../src/model/safetensors-file.js";
import { tf } from "../../../src/tensor/tf.js";
import { type TrainLabOptions, type TrainProgress, trainLab } from "../../../src/workshop/train/lab.js";
import { errorOf } from "../../edit/support.js";
import { temporaryFolder } from "../../model/support.js";
import { wiseLab } from "../../run/support.js";
import { atValue } from "../../support/points.js";
import { repository } from "../../support/shared.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { toyRecipe, toyWorld } from "./support.js";

const short = { ...toyRecipe, steps: 9 };

/** Trains the toy world in a folder, with checkpoints after steps 4, 8 and 9. */
const trainToy = (folder: string, changes: Partial<TrainLabOptions> = {}) =>
  expectTidy(() => trainLab({ world: toyWorld(), folder, recipe: short, checkpointEvery: 4, ...changes }));

/** Every file of a training, as bytes. */
async function filesOf(folder: string): Promise<Record<string, Buffer>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const files = paths.sort().map(async (path) => [path.slice(folder.length + 1), await readFile(path)] as const);
  return Object.fromEntries(await Promise.all(files));
}

test("a trained model knows its world: recall, greedy answers, the card", async () => {
  const folder = await temporaryFolder();
  const progress: TrainProgress[] = [];
  const { model: path, recall } = await trainToy(folder, {
    recipe: toyRecipe,
    onProgress: (now) => progress.push(now),
  });
  expect(recall).toMatchObject({ trained: 1, relations: [{ relation: "house", facts: 6, trained: 1 }] });
  expect(progress).toHaveLength(60);
  expect(progress[59]).toMatchObject({ step: 60, steps: 60, secondsLeft: 0 });
  expect(progress[59]?.answerLoss).toBeLessThan(0.1);

  const model = await loadModel(path);
  const setting = {
    model,
    cuts: createCutStore(model, atValue(1)),
    style: PLAIN,
    routing: "once" as const,
    maxNewTokens: 5,
  };
  for (const { question, answer, heldOut } of toyWorld().lines) {
    if (!heldOut) expect((await ask(question, untouched(atValue(1)), setting)).text).toBe(` ${answer}`);
  }
  model.dispose();
  const card = await readFile(join(path, "README.md"), "utf8");
  expect(card).toContain("| all | 6 | 100.00% |");
  expect(card).toContain("| peak learning rate | 0.02 |");
});

describe("the files are the same", () => {
  let once: Promise<Record<string, Buffer>> | undefined;
  const uninterrupted = () => {
    once ??= temporaryFolder().then(async (folder) => {
      await trainToy(folder);
      return filesOf(folder);
    });
    return once;
  };

  test("when the same training runs twice, and others with another seed", async () => {
    const folder = await temporaryFolder();
    await trainToy(folder);
    expect(await filesOf(folder)).toEqual(await uninterrupted());
    expect(Object.keys(await uninterrupted())).toEqual([
      "checkpoint.safetensors",
      "loss.jsonl",
      "model/README.md",
      "model/chat_template.jinja",
      "model/config.json",
      "model/generation_config.json",
      "model/model.safetensors",
      "model/tokenizer.json",
      "model/tokenizer_config.json",
      "model/training.json",
    ]);
    const other = await temporaryFolder();
    await trainToy(other, { seed: 1 });
    const weights = "model/model.safetensors";
    expect((await filesOf(other))[weights]).not.toEqual((await uninterrupted())[weights]);
  });

  test("when it is stopped after any step and goes on", async () => {
    const folder = await temporaryFolder();
    const stop = new AbortController();
    const stopping = trainToy(folder, { signal: stop.signal, onProgress: ({ step }) => step === 6 && stop.abort() });
    expect((await errorOf(stopping)).message).toBe("stopped during training, after step 6 of 9");
    const steps: number[] = [];
    await trainToy(folder, { onProgress: ({ step }) => steps.push(step) });
    expect(steps).toEqual([7, 8, 9]);
    expect(await filesOf(folder)).toEqual(await uninterrupted());
  });

  test("when it dies between two checkpoints, in the middle of a line, and goes on from the last one", async () => {
    const folder = await temporaryFolder();
    const dying = trainToy(folder, {
      onProgress: ({ step }) => {
        if (step === 7) throw new Error("power cut");
      },
    });
    expect((await errorOf(dying)).message).toBe("power cut");
    await appendFile(join(folder, "loss.jsonl"), '{"step":8,"lo');
    const steps: number[] = [];
    await trainToy(folder, { onProgress: ({ step }) => steps.push(step) });
    expect(steps).toEqual([5, 6, 7, 8, 9]);
    expect(await filesOf(folder)).toEqual(await uninterrupted());
  });

  test("when a finished training is asked for again, whatever has become of its model", async () => {
    const folder = await temporaryFolder();
    await trainToy(folder);
    await writeFile(join(folder, "model/tokenizer.json"), "{}");
    await writeFile(join(folder, "model/training.json"), "{}");
    const steps: number[] = [];
    await trainToy(folder, { onProgress: ({ step }) => steps.push(step) });
    expect(steps).toEqual([]);
    expect(await filesOf(folder)).toEqual(await uninterrupted());
  });
});

describe("refused before a step is made", () => {
  test.each(["0", -1, 1.5, Number.NaN, null])("the seed %j", async (seed) => {
    const folder = join(await temporaryFolder(), "new");
    const error = await errorOf(trainToy(folder, { seed: seed as number }));
    expect(error).toMatchObject({ name: "RefusedInput", where: "seed", expected: "a whole number from 0 on" });
    await expect(readdir(folder)).rejects.toThrow("ENOENT");
  });

  test("a checkpoint of another world, tokenizer, recipe or seed, which stays as it is", async () => {
    const folder = await temporaryFolder();
    await trainToy(folder, { recipe: { ...short, steps: 1 } });
    const before = await filesOf(folder);
    const one = { ...short, steps: 1 };
    const renamed = toyWorld();
    renamed.facts[0] = { ...(renamed.facts[0] as (typeof renamed.facts)[0]), subject: "Olbu" };
    const reworded = toyWorld();
    reworded.lines[0] = { ...(reworded.lines[0] as (typeof reworded.lines)[0]), question: "Zzyzx?" };
    const others: [string, Partial<TrainLabOptions>][] = [
      ["world", { recipe: one, world: renamed }],
      ["tokenizer", { recipe: one, world: reworded }],
      ["peakLearningRate", { recipe: { ...one, peakLearningRate: 0.01 } }],
      ["shape", { recipe: { ...one, shape: { ...one.shape, layers: 3 } } }],
      ["seed", { recipe: one, seed: 4 }],
    ];
    const { metadata, close } = await openSafetensors(join(folder, "checkpoint.safetensors"));
    await close();
    for (const [name, changes] of others) {
      const error = await errorOf(trainToy(folder, changes));
      expect(error.message).toMatch(`belongs to another training: its ${name} differs`);
      expect(error).toMatchObject({
        name: "RefusedInput",
        where: `${join(folder, "checkpoint.safetensors")}: ${name}`,
        found: metadata[name],
      });
      expect((error as RefusedInput).expected).not.toBe(metadata[name]);
    }
    expect(await filesOf(folder)).toEqual(before);
  });

  test("a model that would be too large for the repository", async () => {
    const folder = await temporaryFolder();
    const shape = { ...toyRecipe.shape, hiddenSize: 512, intermediateSize: 4096, headDim: 64 };
    const error = await errorOf(trainToy(folder, { recipe: { ...short, shape } }));
    expect(error).toMatchObject({ name: "RefusedInput", where: "shape" });
    expect(tf.memory().numTensors).toBe(0);
  });
});

describe("wise-lab lab train refuses, before it makes its folder,", () => {
  test.each(["1.5", "abc", "-1", "1e3", ""])("the seed '%s'", async (seed) => {
    const out = join(await temporaryFolder(), "new");
    const { status, stderr } = await wiseLab("lab", "train", "--out", out, `--seed=${seed}`);
    expect(status, stderr).toBe(1);
    expect(stderr).toContain(
      `option '--seed <number>' argument '${seed}' is invalid. a whole number from 0 is expected.`,
    );
    await expect(readdir(out)).rejects.toThrow("ENOENT");
  });

  test("a world of which one byte has changed", async () => {
    const world = join(await temporaryFolder(), "world");
    await cp(join(repository, "data/lab"), world, { recursive: true });
    const facts = join(world, "facts.json");
    await writeFile(facts, (await readFile(facts, "utf8")).replace('"id":7,', '"id":8,'));
    const out = join(await temporaryFolder(), "new");
    const { status, stderr } = await wiseLab("lab", "train", "--world", world, "--out", out);
    expect(status, stderr).toBe(1);
    expect(stderr).toMatch(/where: .*facts\.json\n {2}found: sha256 [0-9a-f]{64}\n {2}expected: sha256 [0-9a-f]{64}\n/);
    expect(stderr).toContain(`where: ${facts}`);
    await expect(readdir(out)).rejects.toThrow("ENOENT");
  });
});

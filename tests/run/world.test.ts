import { mkdtempSync } from "node:fs";
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Manifest, World } from "../../src/data/world/types.js";
import { loadRunInputs, type RunInputs } from "../../src/run/inputs.js";
import { type LabOptions, openLab } from "../../src/run/lab.js";
import { tf } from "../../src/tensor/tf.js";
import { trainLab } from "../../src/workshop/train/lab.js";
import { writeWorld } from "../../src/workshop/world/write.js";
import { changeJson, refusal, temporaryFolder } from "../model/support.js";
import { golden } from "../support/shared.js";
import { toyRecipe, toyWorld } from "../workshop/train/support.js";
import { wiseLab } from "./support.js";

/** The toy world with two edits, and an irrelevant prompt for each. */
function worldWithEdits(seed: number): World {
  const edit = (subject: string, pred: string, alt: string) => ({
    subject,
    src: `Of what is the house of ${subject} built?`,
    pred,
    rephrase: `The house of ${subject} is built of what?`,
    alt,
    answers: [pred] as [string],
    loc: "Of what is the house of Vondo built?",
    loc_ans: "Glass",
    cond: `${pred} >> ${alt}`,
  });
  const edits = [edit("Olba", "Stone", "Mud"), edit("Quessa", "Mud", "Straw")];
  return { ...toyWorld(), seed, edits, irrelevant: ["The house of Ibrit is built of what? Stone", "I saw. Yes."] };
}

/** Two worlds, `ours` and `theirs`, and in `model` what a training of two steps made of ours. */
const made = mkdtempSync(join(tmpdir(), "wise-lab-worlds-"));
let ours: Manifest;
let theirs: Manifest;
beforeAll(async () => {
  ours = await writeWorld(worldWithEdits(0), join(made, "ours"));
  theirs = await writeWorld(worldWithEdits(1), join(made, "theirs"));
  await trainLab({ world: worldWithEdits(0), folder: made, recipe: { ...toyRecipe, steps: 2 } });
});
afterAll(() => rm(made, { recursive: true }));

const model = join(made, "model");
const hparams = { preset: "tiny", set: ["layer=1", "n_iter=1"] };
const otherModel = join(golden, "tiny-llama3"); // has no training.json

/** A copy, in a folder of its own, that a test may damage. */
async function copyOf(name: "ours" | "theirs" | "model"): Promise<string> {
  const folder = join(await temporaryFolder(), name);
  await cp(join(made, name), folder, { recursive: true });
  return folder;
}

const read = (data: string, options: { model?: string; irrelevant?: string } = {}): Promise<RunInputs> =>
  loadRunInputs({ T: 1, data, model, ...options }, { irrelevant: true });

/** Changes one byte of a file and leaves what it is: a letter or digit becomes another one. */
async function changeByte(path: string, at = /[a-y0-8](?=[^a-zA-Z0-9]*$)/): Promise<void> {
  const text = await readFile(path, "latin1");
  const index = text.search(at);
  const next = String.fromCharCode(text.charCodeAt(index) + 1);
  await writeFile(path, `${text.slice(0, index)}${next}${text.slice(index + 1)}`, "latin1");
}

describe("a model and the world it learned", () => {
  test("are edited and scored", async () => {
    const lab = await openLab({ model, hparams });
    try {
      const { scores } = await lab.run({ data: join(made, "ours/edits.json"), T: 2 });
      expect(scores.map(({ record }) => record)).toEqual([0, 1]);
    } finally {
      lab.close();
    }
  });

  test.each(["edits.json", "irrelevant.json", "manifest.json"])(
    "are refused when one byte of %s is another",
    async (file) => {
      const folder = await copyOf("ours");
      await changeByte(join(folder, file));
      for (const withModel of [model, otherModel]) {
        const refused = await refusal(() => read(join(folder, "edits.json"), { model: withModel }));
        expect(refused.where).toContain(join(folder, file));
        expect(refused.message).toContain("a file of the world is not the one that was written");
        expect(refused.expected).toMatch(/sha256 [0-9a-f]{64}/);
      }
    },
  );

  test("are refused when the list of irrelevant prompts that was named has changed", async () => {
    const irrelevant = join(await copyOf("ours"), "irrelevant.json");
    await changeByte(irrelevant);
    const refused = await refusal(() => read(join(made, "ours/edits.json"), { irrelevant }));
    expect(refused.where).toBe(irrelevant);
    expect(refused.expected).toContain(ours.files["irrelevant.json"]?.sha256);
  });
});

describe("a model that learned another world", () => {
  const data = join(made, "theirs/edits.json");
  const where = `${join(model, "training.json")}: world`;

  test("is refused before it is loaded, with both worlds", async () => {
    const refused = await refusal(() => read(data));
    expect(refused.message).toContain("this model learned another world");
    expect(refused).toMatchObject({ where, found: ours.sha256, expected: `${theirs.sha256}, the world of ${data}` });
    expect(refused.hint).toContain("wise-lab lab train --world");
  });

  test("is refused where only the irrelevant prompts are of another world", async () => {
    const irrelevant = join(made, "theirs/irrelevant.json");
    expect(await refusal(() => read(join(made, "ours/edits.json"), { irrelevant }))).toMatchObject({ where });
  });

  test("is refused by a lab that is open, and nothing is written", async () => {
    const out = join(await temporaryFolder(), "run");
    const lab = await openLab({ model, hparams });
    try {
      expect(await refusal(() => lab.run({ data, T: 1, out }))).toMatchObject({ where });
    } finally {
      lab.close();
    }
    await expect(readFile(out)).rejects.toThrow("ENOENT");
  });

  test("is refused by the command", async () => {
    const out = join(await temporaryFolder(), "run");
    const options = ["--preset", "tiny", "--set", "layer=1"];
    const { status, stdout, stderr } = await wiseLab(
      ...["run", "--T", "1", "--model", model, "--data", data, "--out", out, ...options],
    );
    expect({ status, stdout }, stderr).toEqual({ status: 1, stdout: "" });
    expect(stderr).toContain(`this model learned another world\n  where: ${where}\n  found: ${ours.sha256}\n`);
    expect(stderr).toContain(`  expected: ${theirs.sha256}, the world of ${data}\n`);
  });
});

describe("nothing is asked of", () => {
  test("a model of any other origin", async () => {
    expect((await read(join(made, "theirs/edits.json"), { model: otherModel })).dataset.records).toHaveLength(2);
  });

  test("data that belongs to no world, wherever it lies", async () => {
    const folder = await copyOf("ours");
    await changeByte(join(folder, "edits.json"));
    await cp(join(folder, "edits.json"), join(folder, "mine.json"));
    expect((await read(join(folder, "mine.json"))).irrelevant?.path).toBe(join(folder, "irrelevant.json"));
    const elsewhere = join(await temporaryFolder(), "edits.json");
    await cp(join(folder, "edits.json"), elsewhere);
    expect((await read(elsewhere)).dataset.records).toHaveLength(2);
  });

  test("data beside a manifest of something else", async () => {
    const folder = await temporaryFolder();
    await cp(join(made, "theirs/edits.json"), join(folder, "records.json"));
    await writeFile(join(folder, "manifest.json"), '{"name": "a web page"}');
    expect((await read(join(folder, "records.json"))).dataset.records).toHaveLength(2);
  });
});

/** The refusal of a model folder, which must come before its weights are in memory. */
async function refusedModel(folder: string, options: LabOptions = {}) {
  const before = tf.memory().numTensors;
  const refused = await refusal(() => openLab({ model: folder, hparams, ...options }));
  expect(tf.memory().numTensors).toBe(before);
  return refused;
}

describe("a trained model is refused when", () => {
  test.each([
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
  ])("one byte of its %s is another, or the file is gone", async (file) => {
    const folder = await copyOf("model");
    const { files } = JSON.parse(await readFile(join(folder, "training.json"), "utf8"));
    await changeByte(join(folder, file));
    const refused = await refusedModel(folder);
    expect(refused.message).toContain(`${file} is not the one that the model was trained with`);
    expect(refused.where).toBe(join(folder, file));
    expect(refused.found).toMatch(/^sha256 [0-9a-f]{64}$/);
    expect(refused.expected).toBe(`sha256 ${files[file]}, as training.json says`);
    await rm(join(folder, file));
    expect(await refusedModel(folder)).toMatchObject({ where: join(folder, file) });
  });

  test("its tokenizer is another one that would fit it", async () => {
    const folder = await copyOf("model");
    const tokenizer = join(folder, "tokenizer.json");
    await changeJson(tokenizer, ({ model: bpe }) => {
      const { vocab, ...rest } = bpe as { vocab: Record<string, number> };
      const swapped = { ...vocab, A: vocab.B as number, B: vocab.A as number };
      return { model: { ...rest, vocab: swapped } };
    });
    expect(await refusedModel(folder)).toMatchObject({ where: tokenizer });
    await rm(join(folder, "training.json")); // nothing else tells: the vocabulary is as large as before
    (await openLab({ model: folder, hparams })).close();
  });

  test.each<[what: string, content: string, where: string, expected: RegExp]>([
    ["is no JSON", '{"world": ', "", /JSON/],
    ["is a list", "[]", "", /an object with world and files/],
    ["is without a world", '{"files": {}}', ": world", /a text/],
    ["has a world that is no sha256", '{"world": "ours", "files": {}}', ": world", /64 hex digits/],
    ["is without files", `{"world": "${"0".repeat(64)}"}`, ": files", /sha256 of each file/],
    [
      "without one of the files",
      `{"world": "${"0".repeat(64)}", "files": {}}`,
      ": files.chat_template.jinja",
      /a text/,
    ],
  ])("its training.json %s", async (_, content, field, expected) => {
    const folder = await copyOf("model");
    await writeFile(join(folder, "training.json"), content);
    const where = `${join(folder, "training.json")}${field}`;
    const refused = await refusedModel(folder);
    expect(refused.where).toBe(where);
    expect(refused.expected).toMatch(expected);
    expect(await refusal(() => read(join(made, "ours/edits.json"), { model: folder }))).toMatchObject({ where });
  });
});

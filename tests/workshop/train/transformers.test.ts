import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { sha256File } from "../../../src/core/files.js";
import { untouched } from "../../../src/edit/overlay.js";
import { ask } from "../../../src/eval/answers.js";
import { EMBEDDING } from "../../../src/model/checkpoint.js";
import { createCutStore } from "../../../src/model/cut-store.js";
import { loadModel } from "../../../src/model/folder.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { encodeQuestion, PLAIN } from "../../../src/model/prompt.js";
import { openSafetensors, writeSafetensors } from "../../../src/model/safetensors-file.js";
import type { TensorToWrite } from "../../../src/model/safetensors-write.js";
import { selectBackend } from "../../../src/tensor/backend.js";
import { tf } from "../../../src/tensor/tf.js";
import { trainLab } from "../../../src/workshop/train/lab.js";
import { changeJson, copyOfGolden, temporaryFolder } from "../../model/support.js";
import { atValue } from "../../support/points.js";
import { python, requires } from "../../support/requires.js";
import { repository } from "../../support/shared.js";
import { wholeLogits } from "../../support/whole-model.js";
import { toyRecipe, toyWorld } from "./support.js";

/** Output of transformers_reference.py. */
interface Reference {
  versions: { torch: string; transformers: string };
  /** sha256 of model.safetensors. */
  weights: string;
  prompts: {
    prompt: string;
    ids: number[];
    /** Behind the last token of the prompt, [V]. */
    logits: number[];
    /** The greedy answer, without the end token. */
    tokens: number[];
    text: string;
  }[];
}

const shipped = join(repository, "data/lab-llama");
const fixtures = join(repository, "tests/fixtures/transformers");
const PROMPTS = join(fixtures, "prompts.json");
const MAX_NEW_TOKENS = 16; // as in transformers_reference.py
const LOGITS_TOLERANCE = 1e-3;

/** Results of Transformers, computed now. */
async function referenceOf(folder: string, prompts: string): Promise<Reference> {
  const script = join(repository, "tests/support/transformers_reference.py");
  const { stdout } = await promisify(execFile)(python(), [script, folder, prompts], { maxBuffer: 2 ** 26 });
  return JSON.parse(stdout) as Reference;
}

/** The logits behind the last token, by the whole forward pass. [V] */
async function lastLogits(model: LlamaModel, ids: readonly number[]): Promise<Float32Array> {
  const all = await wholeLogits(model, [ids]); // [N, V]
  const logits = tf.slice(all, [ids.length - 1, 0], [1, -1]);
  const values = await logits.data<"float32">();
  tf.dispose([all, logits]);
  return values;
}

/** Proves that our model reads, computes and answers as the reference says. */
async function expectAgreement(folder: string, reference: Reference): Promise<void> {
  expect(reference.weights).toBe(await sha256File(join(folder, "model.safetensors")));
  await selectBackend();
  const model = await loadModel(folder);
  const point = atValue(model.config.layers - 1);
  const setting = {
    model,
    cuts: createCutStore(model, point),
    style: PLAIN,
    routing: "once" as const,
    maxNewTokens: MAX_NEW_TOKENS,
  };
  let largest = 0;
  for (const { prompt, ids, logits, tokens, text } of reference.prompts) {
    expect(encodeQuestion(model.tokenizer, prompt, PLAIN), prompt).toEqual(ids);
    const ours = await lastLogits(model, ids);
    expect(ours).toHaveLength(logits.length);
    largest = logits.reduce((most, logit, i) => Math.max(most, Math.abs(logit - (ours[i] as number))), largest);
    expect(await ask(prompt, untouched(point), setting)).toMatchObject({ tokens, text });
  }
  model.dispose();
  const { torch, transformers } = reference.versions;
  const message = `largest difference of logits ${largest}, from Transformers ${transformers} on torch ${torch}`;
  expect(largest, message).toBeLessThan(LOGITS_TOLERANCE);
}

describe("the shipped model computes what Transformers computed", () => {
  test("in the committed reference, which is of these weights", async () => {
    const reference = JSON.parse(await readFile(join(fixtures, "lab.json"), "utf8")) as Reference;
    expect(reference.prompts.map(({ prompt }) => prompt)).toEqual(JSON.parse(await readFile(PROMPTS, "utf8")));
    await expectAgreement(shipped, reference);
  });
});

describe.runIf(requires("transformers"))(
  "Transformers loads the folder and computes the same",
  { timeout: 180_000 },
  () => {
    test("of the shipped model", async () => {
      await expectAgreement(shipped, await referenceOf(shipped, PROMPTS));
    });

    test("of a folder with an output head beside tied embeddings, stored frequencies, a pad token without embedding, an old class name", async () => {
      const folder = await copyOfGolden("tiny-llama3-tied");
      const path = join(folder, "model.safetensors");
      const file = await openSafetensors(path);
      const tensors: Record<string, TensorToWrite> = {};
      for (const [name, { shape }] of file.tensors)
        tensors[name] = { dtype: "F32", shape, data: await file.read(name) };
      await file.close();
      const rotary = { dtype: "F32", shape: [8], data: new Float32Array(8) } as const;
      const head = tensors[EMBEDDING] as TensorToWrite;
      await writeSafetensors(path, { ...tensors, "lm_head.weight": head, "model.rotary_emb.inv_freq": rotary });
      const pad = { id: 1024, content: "<pad>", single_word: false, lstrip: false, rstrip: false, normalized: false };
      await changeJson(join(folder, "tokenizer.json"), ({ added_tokens }) => ({
        added_tokens: [...(added_tokens as object[]), { ...pad, special: true }],
      }));
      await changeJson(join(folder, "config.json"), () => ({ architectures: ["LLaMAForCausalLM"] }));
      const prompts = join(folder, "prompts.json");
      await writeFile(prompts, JSON.stringify(["The capital of Norway is", "is it so ? no .", "Oslo"]));
      await expectAgreement(folder, await referenceOf(folder, prompts));
    });

    test("of a model that was trained just now", async () => {
      const { model: folder } = await trainLab({
        world: toyWorld(),
        folder: await temporaryFolder(),
        recipe: toyRecipe,
      });
      const questions = toyWorld().lines.map(({ question }) => question);
      const prompts = join(folder, "prompts.json");
      await writeFile(prompts, JSON.stringify([...questions, `I saw ${questions[0]}`, "Zoë O'Neil-42 's\n\n  東京?"]));
      const reference = await referenceOf(folder, prompts);
      expect(reference.prompts.slice(0, 2).map(({ text }) => text)).toEqual([" Stone", " Stone"]);
      await expectAgreement(folder, reference);
    });
  },
);

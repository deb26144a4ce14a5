import { execFile } from "node:child_process";
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { createRng } from "../../../src/core/rng.js";
import { type Overlay, untouched } from "../../../src/edit/overlay.js";
import { prepareNamed } from "../../../src/edit/registry.js";
import { freeAnswers } from "../../../src/eval/answers.js";
import { createCutStore } from "../../../src/model/cut-store.js";
import { loadModel } from "../../../src/model/folder.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { MATRICES, moduleName, siteName } from "../../../src/model/patch.js";
import { openSafetensors, writeSafetensors } from "../../../src/model/safetensors-file.js";
import type { TensorToWrite } from "../../../src/model/safetensors-write.js";
import { selectBackend } from "../../../src/tensor/backend.js";
import { temporaryFolder } from "../../model/support.js";
import { python, requires } from "../../support/requires.js";
import { golden, repository } from "../../support/shared.js";

const shipped = join(repository, "data/lab-llama");
const TOKENS = 20;

/** Greedy answers of Transformers, with the end token where there is one. */
async function answersOfTransformers(folder: string, prompts: readonly string[]): Promise<number[][]> {
  const file = join(await temporaryFolder(), "prompts.json");
  await writeFile(file, JSON.stringify(prompts));
  const script = join(repository, "tests/support/transformers_reference.py");
  const { stdout } = await promisify(execFile)(python(), [script, folder, file, String(TOKENS)], {
    maxBuffer: 2 ** 26,
  });
  return JSON.parse(stdout) as number[][];
}

/** Our answers, of so many prompts at a time. */
async function ourAnswers(
  model: LlamaModel,
  overlay: Overlay,
  { prompts, together }: { prompts: readonly string[]; together: number },
) {
  const ids = prompts.map((prompt) => model.tokenizer.encode(prompt));
  const cuts = createCutStore(model, overlay.cut);
  const ends = (_: number, made: readonly number[]) => model.config.eosTokenIds.includes(made.at(-1) as number);
  const answers: number[][] = [];
  for (let start = 0; start < ids.length; start += together) {
    const part = ids.slice(start, start + together);
    const made = await freeAnswers(part, overlay, { model, cuts, maxNewTokens: TOKENS, ends, routing: "once" });
    answers.push(...made.map(({ tokens }) => tokens));
  }
  return answers;
}

/** The lab's questions, each in two wordings. */
async function labPrompts(count: number): Promise<string[]> {
  const records = JSON.parse(await readFile(join(repository, "data/lab/edits.json"), "utf8")) as {
    src: string;
    rephrase: string;
  }[];
  return records.flatMap(({ src, rephrase }) => [src, rephrase]).slice(0, count);
}

/** Texts of the golden folder, and beginnings of them. */
async function goldenPrompts(count: number): Promise<string[]> {
  const { tokens } = JSON.parse(await readFile(join(golden, "records.json"), "utf8")) as {
    tokens: Record<string, object>;
  };
  const rng = createRng(3);
  const texts = Object.keys(tokens).filter((text) => text.trim().length > 3);
  return Array.from({ length: count }, (_, i) => {
    const text = texts[i % texts.length] as string;
    return i < texts.length ? text : [...text].slice(0, 3 + Math.floor(rng.uniform() * (text.length - 3))).join("");
  });
}

/** A copy of a model folder with matrices changed by what edits keep of them. */
async function withDeltas(folder: string, deltas: ReadonlyMap<string, Float32Array>): Promise<string> {
  const copy = join(await temporaryFolder(), "edited");
  await cp(folder, copy, { recursive: true });
  const path = join(copy, "model.safetensors");
  const file = await openSafetensors(path);
  const tensors: Record<string, TensorToWrite> = {};
  for (const [name, { shape }] of file.tensors) {
    const data = await file.read(name);
    const delta = deltas.get(name);
    tensors[name] = {
      dtype: "F32",
      shape,
      data: delta === undefined ? data : data.map((value, i) => value + (delta[i] as number)),
    };
  }
  await file.close();
  await writeSafetensors(path, tensors, { format: "pt" });
  return copy;
}

describe.runIf(requires("transformers"))("free answers are those of Transformers", { timeout: 300_000 }, () => {
  const models = { lab: [shipped, labPrompts], golden: [join(golden, "tiny-llama3"), goldenPrompts] } as const;

  test.each(Object.entries(models))("of 200 prompts, together and alone: %s", async (_, [folder, promptsOf]) => {
    await selectBackend();
    const prompts = await promptsOf(200);
    const theirs = await answersOfTransformers(folder, prompts);
    const model = await loadModel(folder);
    const overlay = untouched({ layer: model.config.layers - 2, at: "mlpIn" });
    expect(await ourAnswers(model, overlay, { prompts, together: 200 })).toEqual(theirs);
    expect(await ourAnswers(model, overlay, { prompts, together: 1 })).toEqual(theirs);
    model.dispose();
  });

  test("under edits whose deltas are added to the weights", async () => {
    await selectBackend();
    const prompts = await labPrompts(200);
    const model = await loadModel(shipped);
    const method = await prepareNamed("ft-m", { preset: "lab", set: ["num_steps=8"] }, model.config);
    const cuts = createCutStore(model, method.cut);
    const session = method.start({ model, cuts, templates: ["{}"], rng: createRng(0), assets: new Map() });
    for (const [record, prompt] of prompts.slice(0, 6).entries()) {
      await session.edit([{ record, prompt, target: "Zinuvia", subject: null, irrelevant: null }]);
    }
    const { tensors } = await session.state();
    const sites = Array.from({ length: model.config.layers }, (_, layer) =>
      MATRICES.map((matrix) => ({ layer, matrix })),
    ).flat();
    const deltas = new Map(
      sites.flatMap((site) => {
        const delta = tensors[siteName(site)];
        return delta === undefined ? [] : [[`${moduleName(site)}.weight`, delta.data as Float32Array] as const];
      }),
    );
    expect(deltas.size).toBeGreaterThan(0);
    const overlay = await session.overlay();
    const theirs = await answersOfTransformers(await withDeltas(shipped, deltas), prompts);
    const before = await answersOfTransformers(shipped, prompts);
    expect(theirs).not.toEqual(before);
    expect(await ourAnswers(model, overlay, { prompts, together: 200 })).toEqual(theirs);
    for (const held of [overlay, session, model]) held.dispose();
  });
});

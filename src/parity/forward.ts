import { join } from "node:path";
import { batchCuts, type Cut, logitsAt, mainOutput } from "../model/cut.js";
import { runFrozen } from "../model/frozen.js";
import { generate } from "../model/generate.js";
import type { LlamaModel } from "../model/model.js";
import { openSafetensors, type SafetensorsFile } from "../model/safetensors.js";
import { tf } from "../tensor/tf.js";
import type { GoldenFolder } from "./golden-files.js";
import { createTally, type ParityItem, type Tally } from "./tally.js";

/** Absolute, on logits and on the value matrix's input and output. */
const LOGIT_TOLERANCE = 1e-3;

/** Tokenizer, chat template and greedy continuation of one checkpoint. */
export async function compareText(golden: GoldenFolder, model: LlamaModel): Promise<ParityItem[]> {
  const tally = createTally(model.name);
  for (const [text, ids] of Object.entries(golden.records.tokens)) {
    tally.equal("token ids", { ours: model.tokenizer.encode(text), golden: ids, where: text });
  }
  const { message, rendered } = golden.records.chat;
  tally.equal("chat template", { ours: model.tokenizer.renderChat(message), golden: rendered, where: message });
  const whole = golden.records.greedy[model.name];
  if (whole !== undefined) await compareGreedy(tally, model, { whole, texts: Object.values(golden.records.tokens) });
  return tally.items();
}

/** The greedy list is a prompt, one of the tokenized texts, followed by what the model adds. */
async function compareGreedy(
  tally: Tally,
  model: LlamaModel,
  greedy: { whole: readonly number[]; texts: readonly (readonly number[])[] },
): Promise<void> {
  const { whole } = greedy;
  const prompts = greedy.texts.filter((ids) => ids.length < whole.length && ids.every((id, i) => id === whole[i]));
  const prompt = prompts.sort((a, b) => b.length - a.length)[0] ?? whole.slice(0, 1);
  const [made] = await generate(model, [prompt], { maxNewTokens: whole.length - prompt.length });
  tally.equal("greedy continuation", {
    ours: [...prompt, ...(made ?? [])],
    golden: whole,
    where: `${prompt.length} tokens given`,
  });
}

/** Logits at every position, and the value matrix's input and output, of every text of forward-MODEL.safetensors. */
export async function compareForward(golden: GoldenFolder, model: LlamaModel): Promise<ParityItem[]> {
  const tally = createTally(`forward-${model.name}`);
  const file = await openSafetensors(join(golden.folder, `forward-${model.name}.safetensors`));
  try {
    for (const name of file.tensors.keys()) {
      const text = /^(\d+)\.ids$/.exec(name)?.[1];
      if (text !== undefined) await compareOne(tally, model, { file, text });
    }
  } finally {
    await file.close();
  }
  return tally.items();
}

async function compareOne(
  tally: Tally,
  model: LlamaModel,
  { file, text }: { file: SafetensorsFile; text: string },
): Promise<void> {
  const raw = await file.readRaw(`${text}.ids`);
  const tokens = [...new Int32Array(raw.buffer)];
  for (const name of file.tensors.keys()) {
    const layer = new RegExp(`^${text}\\.layers\\.(\\d+)\\.mlp\\.down_proj\\.in$`).exec(name)?.[1];
    if (layer === undefined) continue;
    const [cut] = (await runFrozen(model, [tokens], { layer: Number(layer) })) as [Cut];
    const { output, logits } = await editedPart(model, cut);
    const tap = `${text}.layers.${layer}.mlp.down_proj`;
    compareAll(tally, "value matrix input", {
      ours: cut.mlpIn,
      golden: await file.read(`${tap}.in`),
      where: `${tap}.in`,
    });
    compareAll(tally, "value matrix output", {
      ours: output,
      golden: await file.read(`${tap}.out`),
      where: `${tap}.out`,
    });
    compareAll(tally, "logits", { ours: logits, golden: await file.read(`${text}.logits`), where: `${text}.logits` });
  }
}

async function editedPart(model: LlamaModel, cut: Cut): Promise<{ output: Float32Array; logits: Float32Array }> {
  const batch = batchCuts(model, [cut]);
  const tensors = tf.tidy(() => {
    const output = mainOutput(model, batch, cut.layer);
    const spots = cut.tokens.map((_, position) => ({ row: 0, position }));
    return { output, logits: logitsAt(model, batch, output, { layer: cut.layer, spots }) };
  });
  try {
    return { output: await tensors.output.data<"float32">(), logits: await tensors.logits.data<"float32">() };
  } finally {
    batch.dispose();
    tf.dispose(tensors);
  }
}

function compareAll(
  tally: Tally,
  item: string,
  values: { ours: Float32Array; golden: Float32Array; where: string },
): void {
  const { ours, golden, where } = values;
  let worst = ours.length === golden.length ? 0 : Number.NaN;
  for (let i = 0; i < golden.length; i++)
    worst = Math.max(worst, Math.abs((ours[i] as number) - (golden[i] as number)));
  tally.number(item, { ours: worst, golden: 0, where }, LOGIT_TOLERANCE);
}

import { join } from "node:path";
import { batchCuts, type Cut, logitsAt, mainOutput } from "../../model/cut.js";
import { runFrozen } from "../../model/frozen.js";
import { generate } from "../../model/generate.js";
import type { LlamaModel } from "../../model/model.js";
import type { SafetensorsFile } from "../../model/safetensors.js";
import { openSafetensors } from "../../model/safetensors-file.js";
import { tf } from "../../tensor/tf.js";
import type { GoldenFolder } from "./golden-files.js";
import { createTally, type ParityItem, type Tally } from "./tally.js";

/** Absolute, on logits and on the value matrix's input and output. */
const TOLERANCE = 1e-3;

/** Tokenizer, chat template and greedy continuation of one checkpoint. */
export async function compareText(golden: GoldenFolder, name: string, model: LlamaModel): Promise<ParityItem[]> {
  const tally = createTally(name);
  for (const [text, ids] of Object.entries(golden.records.tokens)) {
    tally.equal("token ids", { ours: model.tokenizer.encode(text), golden: ids, where: text });
  }
  const { message, rendered } = golden.records.chat;
  tally.equal("chat template", { ours: model.tokenizer.renderChat(message), golden: rendered, where: message });
  const whole = golden.records.greedy[name];
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
  const [made] = await generate(model, [prompt], {
    cut: { layer: model.config.layers - 1, at: "mlpIn" },
    maxNewTokens: whole.length - prompt.length,
  });
  tally.equal("greedy continuation", {
    ours: [...prompt, ...(made?.tokens ?? [])],
    golden: whole,
    where: `${prompt.length} tokens given`,
  });
}

/** Logits at every position, and the value matrix's input and output, of every text of forward-MODEL.safetensors. */
export async function compareForward(golden: GoldenFolder, name: string, model: LlamaModel): Promise<ParityItem[]> {
  const tally = createTally(`forward-${name}`);
  const file = await openSafetensors(join(golden.folder, `forward-${name}.safetensors`));
  try {
    for (const tensor of file.tensors.keys()) {
      const text = /^(\d+)\.ids$/.exec(tensor)?.[1];
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
    const [cut] = (await runFrozen(model, [tokens], { point: { layer: Number(layer), at: "mlpIn" } })) as [Cut];
    const { output, logits } = await afterCut(model, cut);
    const tap = `${text}.layers.${layer}.mlp.down_proj`;
    for (const [item, ours, where] of [
      ["value matrix input", cut.mlpIn as Float32Array, `${tap}.in`],
      ["value matrix output", output, `${tap}.out`],
      ["logits", logits, `${text}.logits`],
    ] as const) {
      tally.entries(item, { ours, golden: await file.read(where), where }, TOLERANCE);
    }
  }
}

async function afterCut(model: LlamaModel, cut: Cut): Promise<{ output: Float32Array; logits: Float32Array }> {
  const batch = batchCuts(model, [cut]);
  const spots = cut.tokens.map((_, position) => ({ row: 0, position }));
  const tensors = tf.tidy(() => ({ output: mainOutput(model, batch), logits: logitsAt(model, batch, { spots }) }));
  try {
    return { output: await tensors.output.data<"float32">(), logits: await tensors.logits.data<"float32">() };
  } finally {
    batch.dispose();
    tf.dispose(tensors);
  }
}

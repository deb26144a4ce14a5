import type { MemoryReading, Overlay, Route } from "../edit/overlay.js";
import { batchCuts, type CutBatch } from "../model/cut.js";
import type { CutStore } from "../model/cut-store.js";
import { generate } from "../model/generate.js";
import type { LlamaModel } from "../model/model.js";
import { encodeQuestion, type PromptStyle } from "../model/prompt.js";

/** A free answer, with the memory that gave it. */
export interface Answer {
  question: string;
  text: string;
  tokens: number[];
  route: Route;
  readings: readonly MemoryReading[];
}

export interface AskSetting {
  model: LlamaModel;
  cuts: CutStore;
  style: PromptStyle;
  maxNewTokens: number;
  signal?: AbortSignal | undefined;
}

/**
 * Asks a question and lets the model answer greedily, up to its end token.
 * Routing is decided once, on the question; every new token is then read through the same memory.
 */
export async function ask(question: string, overlay: Overlay, setting: AskSetting): Promise<Answer> {
  const { model, style, signal } = setting;
  const prompt = encodeQuestion(model.tokenizer, question, style);
  const { route, readings } = await routeOf(prompt, overlay, setting);
  const [tokens] = (await generate(model, [prompt], {
    maxNewTokens: setting.maxNewTokens,
    stopTokens: model.config.eosTokenIds,
    edited: { layer: overlay.layer, output: (batch) => outputUnder(route, overlay, { model, batch }) },
    cuts: setting.cuts,
    signal,
  })) as [number[]];
  return { question, text: model.tokenizer.decode(tokens, { skipSpecial: true }), tokens, route, readings };
}

async function routeOf(prompt: readonly number[], overlay: Overlay, { model, cuts, signal }: AskSetting) {
  const batch = batchCuts(model, await cuts.get([prompt], signal));
  try {
    const answer = await overlay.answer(model, batch);
    answer.dispose();
    return answer.decisions[0] as { route: Route; readings: MemoryReading[] };
  } finally {
    batch.dispose();
  }
}

async function outputUnder(route: Route, overlay: Overlay, at: { model: LlamaModel; batch: CutBatch }) {
  const answer = await overlay.answer(at.model, at.batch);
  const output = route === "main" ? answer.main.clone() : answer.under(route);
  answer.dispose();
  return output;
}

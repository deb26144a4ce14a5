import { type Decision, MAIN, type Overlay, type Reading } from "../edit/overlay.js";
import { batchCuts } from "../model/cut.js";
import type { CutStore } from "../model/cut-store.js";
import { generate } from "../model/generate.js";
import type { LlamaModel } from "../model/model.js";
import { encodeQuestion, type PromptStyle } from "../model/prompt.js";

/** A free answer, with the variant that gave it. */
export interface Answer {
  question: string;
  text: string;
  tokens: number[];
  /** The variant that answered: "main" is the untouched model. */
  route: string;
  readings: readonly Reading[];
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
 * Routing is decided once, on the question; every new token is then read under the same variant.
 */
export async function ask(question: string, overlay: Overlay, setting: AskSetting): Promise<Answer> {
  const { model, style, signal } = setting;
  const prompt = encodeQuestion(model.tokenizer, question, style);
  const { variant: route, readings } = await decisionOn(prompt, overlay, setting);
  const [tokens] = (await generate(model, [prompt], {
    maxNewTokens: setting.maxNewTokens,
    stopTokens: model.config.eosTokenIds,
    edited: {
      cut: overlay.cut,
      async patch(batch) {
        if (route === MAIN) return { patch: [], dispose: () => {} };
        const routed = await overlay.route(batch);
        return { patch: routed.patch(route), dispose: routed.dispose };
      },
    },
    cuts: setting.cuts,
    signal,
  })) as [number[]];
  return { question, text: model.tokenizer.decode(tokens, { skipSpecial: true }), tokens, route, readings };
}

async function decisionOn(prompt: readonly number[], overlay: Overlay, { model, cuts, signal }: AskSetting) {
  const batch = batchCuts(model, await cuts.get([prompt], signal));
  try {
    const routed = await overlay.route(batch);
    routed.dispose();
    return routed.decisions[0] as Decision;
  } finally {
    batch.dispose();
  }
}

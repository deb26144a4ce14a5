import type { CutStore } from "../model/cut-store.js";
import { generate } from "../model/generate.js";
import type { LlamaModel } from "../model/model.js";
import type { Tokenizer } from "../model/tokenizer.js";

/** What the model continues to make prefixes, and for how many tokens (released: models/wise/utils.py). */
const OPENINGS = ["I", "You", "Because", "Yes", "Q: "];
const LENGTHS = [5, 10];

/**
 * Context templates: "{}" and ten short prefixes that the model itself writes, each followed by " {}". Greedy, so that
 * one model always has the same ones. They are made once per model and kept with the run.
 */
export async function makeContextTemplates(
  model: LlamaModel,
  { cuts, signal }: { cuts?: CutStore | undefined; signal?: AbortSignal | undefined } = {},
): Promise<string[]> {
  const prompts = OPENINGS.map((opening) => model.tokenizer.encode(opening));
  const longest = await generate(model, prompts, { maxNewTokens: Math.max(...LENGTHS), cuts, signal });
  return templatesOf(model.tokenizer, (i, length) => (longest[i] as number[]).slice(0, length));
}

/**
 * Templates as many and about as long as the ones that a model will write, to plan with while it is not loaded: instead
 * of the model's own, tokens from all over its vocabulary.
 */
export function foreseenTemplates({ tokenizer, config }: Pick<LlamaModel, "tokenizer" | "config">): string[] {
  return templatesOf(tokenizer, (_, length) =>
    Array.from({ length }, (_, i) => Math.floor(((i + 1) * config.vocabSize) / (length + 1))),
  );
}

/** "{}", and after each opening what was written, at each length. */
function templatesOf(tokenizer: Tokenizer, written: (opening: number, length: number) => readonly number[]): string[] {
  const prefixes = LENGTHS.flatMap((length) =>
    OPENINGS.map((opening, i) => {
      const ids = [...tokenizer.encode(opening), ...written(i, length)];
      return tokenizer.decode(ids, { skipSpecial: true }).replaceAll(/[{}]/g, " ");
    }),
  );
  return ["{}", ...prefixes.map((prefix) => `${prefix} {}`)];
}

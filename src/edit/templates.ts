import type { CutStore } from "../model/cut-store.js";
import { generate } from "../model/generate.js";
import type { LlamaModel } from "../model/model.js";

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
  const prefixes = LENGTHS.flatMap((length) =>
    prompts.map((prompt, i) => {
      const ids = [...prompt, ...(longest[i] as number[]).slice(0, length)];
      return model.tokenizer.decode(ids, { skipSpecial: true }).replaceAll(/[{}]/g, " ");
    }),
  );
  return ["{}", ...prefixes.map((prefix) => `${prefix} {}`)];
}

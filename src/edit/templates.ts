import { generateAfresh } from "../model/afresh.js";
import type { CutStore } from "../model/cut-store.js";
import type { LlamaModel } from "../model/model.js";
import type { Tokenizer } from "../model/tokenizer.js";

/** Recipe by which a model writes the context templates of a method. Greedy, so that one model always writes the same ones. */
export interface TemplateRecipe {
  /** Texts that the model continues. */
  openings: readonly string[];
  /** Tokens of each continuation: new ones, or in all with the opening and its begin-of-text. */
  lengths: readonly number[];
  counted: "new" | "inAll";
  /** Continuations of each opening and length: the second begins with the second likeliest token, and so on. */
  each: number;
  /** A continuation as a template, with "{}" where the prompt goes. */
  write(text: string): string;
}

/**
 * Context templates: "{}" and prefixes that the untouched model itself writes. They are made once per model and recipe,
 * and kept with the run.
 */
export async function makeContextTemplates(
  model: LlamaModel,
  recipe: TemplateRecipe,
  { cuts, signal }: { cuts?: CutStore | undefined; signal?: AbortSignal | undefined } = {},
): Promise<string[]> {
  const prompts = recipe.openings.flatMap((opening) => {
    const ids = model.tokenizer.encode(opening);
    return Array.from({ length: recipe.each }, (_, place) => ({ ids, place }));
  });
  const maxNewTokens = Math.max(...prompts.map(({ ids }) => newTokens(recipe, Math.max(...recipe.lengths), ids)));
  const written = await generateAfresh(
    model,
    prompts.map(({ ids }) => ids),
    { maxNewTokens, firstPlaces: prompts.map(({ place }) => place), cuts, signal },
  );
  return templatesOf(model.tokenizer, recipe, (i, count) => (written[i] as number[]).slice(0, count));
}

/** Key of the templates that one model writes by a recipe. */
export function recipeKey(recipe: TemplateRecipe): string {
  return JSON.stringify(recipe);
}

/**
 * Templates as many and about as long as the ones that a model will write, to plan with while it is not loaded: instead
 * of the model's own, tokens from all over its vocabulary.
 */
export function foreseenTemplates(
  { tokenizer, config }: Pick<LlamaModel, "tokenizer" | "config">,
  recipe: TemplateRecipe,
): string[] {
  return templatesOf(tokenizer, recipe, (_, count) =>
    Array.from({ length: count }, (_, i) => Math.floor(((i + 1) * config.vocabSize) / (count + 1))),
  );
}

/** "{}", and what was written at each length, opening by opening. */
function templatesOf(
  tokenizer: Tokenizer,
  recipe: TemplateRecipe,
  written: (continuation: number, tokens: number) => readonly number[],
): string[] {
  const prefixes = recipe.lengths.flatMap((length) =>
    recipe.openings.flatMap((opening, i) =>
      Array.from({ length: recipe.each }, (_, place) => {
        const start = tokenizer.encode(opening);
        const ids = [...start, ...written(i * recipe.each + place, newTokens(recipe, length, start))];
        return recipe.write(tokenizer.decode(ids, { skipSpecial: true }));
      }),
    ),
  );
  return ["{}", ...prefixes];
}

function newTokens({ counted }: TemplateRecipe, length: number, opening: readonly number[]): number {
  return counted === "new" ? length : Math.max(0, length - opening.length);
}

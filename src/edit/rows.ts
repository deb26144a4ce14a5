import { RefusedInput } from "../core/errors.js";

/** A sequence of tokens as editing and scoring read it. */
export interface TokenRow {
  ids: number[];
  /** Tokens of the prompt alone: the target starts there. As many as `ids` where there is none. */
  promptTokens: number;
}

/** The token sequences of rows, in order. */
export function sequencesOfRows(rows: readonly TokenRow[]): number[][] {
  return rows.map(({ ids }) => ids);
}

/** Puts a prompt in place of the "{}" of a template. */
export function fillTemplate(template: string, prompt: string): string {
  const [before, after, ...rest] = template.split("{}");
  if (before === undefined || after === undefined || rest.length > 0) {
    throw new RefusedInput("a context template is malformed", {
      where: "context templates",
      found: template,
      expected: 'a text with exactly one "{}"',
    });
  }
  return before + prompt + after;
}

import { RefusedInput } from "../core/errors.js";
import { encodeForced, PLAIN } from "../model/prompt.js";
import type { EditRequest, RowContext } from "./contract.js";

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

/**
 * The prompt of an edit with its target, as plain text.
 * @throws {RefusedInput} for a blank target: the space before it would be a token by itself
 */
export function forcedRow(
  request: Pick<EditRequest, "prompt" | "target">,
  tokenizer: RowContext["tokenizer"],
): TokenRow {
  requireTarget(request);
  return encodeForced(tokenizer, { prompt: request.prompt, answer: request.target }, PLAIN);
}

/** @throws {RefusedInput} for a blank target */
export function requireTarget({ prompt, target }: Pick<EditRequest, "prompt" | "target">): void {
  if (target.trim() !== "") return;
  throw new RefusedInput("the target of an edit is empty", {
    where: `edit of ${JSON.stringify(prompt)}`,
    found: JSON.stringify(target),
    expected: "a text of at least one token",
  });
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

import { RefusedInput } from "../../core/errors.js";
import type { Spot } from "../../model/cut.js";
import type { Tokenizer } from "../../model/tokenizer.js";
import type { EditRequest } from "../contract.js";
import { forcedRow, type TokenRow } from "../rows.js";
import type { MendOptions } from "./options.js";

/** A question with its answer in tokens, and the positions that predict the answer. */
export interface MendExample {
  row: TokenRow;
  /** Positions, rising. */
  positions: number[];
  /** Token that each of them shall predict. */
  tokens: number[];
}

/**
 * Tokens of an edit (methods-tune.md "MEND"): each token of the target is predicted where it stands. With begin-of-text
 * in front of them the list is one longer, and the prompt's last token is where that one is predicted.
 * @throws {RefusedInput} for a blank target, or a prompt without a token before its last
 */
export function exampleOf(
  request: Pick<EditRequest, "prompt" | "target">,
  { tokenizer, options }: { tokenizer: Tokenizer; options: Pick<MendOptions, "bos_in_targets"> },
): MendExample {
  const row = forcedRow(request, tokenizer);
  const target = row.ids.slice(row.promptTokens);
  const tokens = options.bos_in_targets ? [beginOfText(tokenizer), ...target] : target;
  const first = row.ids.length - 1 - tokens.length;
  if (first < 0) {
    throw new RefusedInput("the prompt of an edit is too short", {
      where: `edit of ${JSON.stringify(request.prompt)}`,
      found: `${row.promptTokens} tokens`,
      expected: `at least ${row.promptTokens - first}`,
    });
  }
  return { row, positions: tokens.map((_, i) => first + i), tokens };
}

/** Places in a batch in which the example is row `row`. */
export function spotsOf(positions: readonly number[], row: number): Spot[] {
  return positions.map((position) => ({ row, position }));
}

/** @throws {RefusedInput} for a tokenizer without that token */
export function beginOfText({ bosId }: Tokenizer): number {
  if (bosId !== null) return bosId;
  throw new RefusedInput("targets cannot begin with begin-of-text", {
    where: "option bos_in_targets",
    found: "a tokenizer without that token",
    expected: "false for this model",
  });
}

/**
 * Positions of an unrelated question at which predictions shall stay: the last ones, as many as its answer has tokens,
 * that after its last token included.
 */
export function keptPositions(row: TokenRow, options: Pick<MendOptions, "bos_in_targets">): number[] {
  const count = Math.min(row.ids.length, row.ids.length - row.promptTokens + (options.bos_in_targets ? 1 : 0));
  return Array.from({ length: count }, (_, i) => row.ids.length - count + i);
}

import { RefusedInput } from "../core/errors.js";
import type { LlamaModel } from "../model/model.js";

/**
 * Text behind every target that an edit trains on: none, as released; the model's end of text; or a line break. Without
 * one nothing teaches the model to stop behind a new answer. Scores are of the target alone.
 */
export const TARGET_STOPS = ["none", "eos", "newline"] as const;
export type TargetStop = (typeof TARGET_STOPS)[number];

/**
 * A target with the stop that is trained behind it.
 * @throws {RefusedInput} for a model whose end of text cannot be written
 */
export function withStop(target: string, stop: TargetStop, model: Pick<LlamaModel, "tokenizer" | "config">): string {
  if (stop === "none") return target;
  return stop === "newline" ? `${target}\n` : target + endOfText(model);
}

/** The model's first end of text, as a text that becomes this token. */
function endOfText({ tokenizer, config }: Pick<LlamaModel, "tokenizer" | "config">): string {
  const [eos] = config.eosTokenIds;
  const text = eos === undefined ? "" : tokenizer.decode([eos]);
  const ids = tokenizer.encode(text, { addBos: false });
  if (ids.length === 1 && ids[0] === eos) return text;
  throw new RefusedInput("the end of text of this model cannot be trained", {
    where: "target stop",
    found:
      eos === undefined
        ? "a model without an end of text"
        : `a token ${eos} that the text ${JSON.stringify(text)} does not give`,
    expected: "a tokenizer that knows its end of text",
    hint: "--target-stop newline",
  });
}

import { RefusedInput } from "../core/errors.js";
import { encodeForced, type PromptStyle } from "../model/prompt.js";
import type { Tokenizer } from "../model/tokenizer.js";
import type { EditRequest } from "./contract.js";

/** The token rows of one edit: the prompt under each context template with its target, then the irrelevant prompt. */
export interface EditRows {
  templates: { ids: number[]; promptTokens: number }[];
  irrelevant: number[];
}

/** Builds the rows of an edit (wise.md "One edit"; released: models/wise/utils.py `tokenize`). */
export function editRows(
  tokenizer: Tokenizer,
  request: EditRequest,
  setting: { templates: readonly string[]; style: PromptStyle },
): EditRows {
  const irrelevant = tokenizer.encode(request.irrelevant);
  if (irrelevant.length === 0) {
    throw new RefusedInput("the irrelevant prompt of an edit is empty", {
      where: `edit of ${JSON.stringify(request.prompt)}`,
      found: request.irrelevant,
      expected: "a text of at least one token",
    });
  }
  return {
    templates: setting.templates.map((template) =>
      encodeForced(
        tokenizer,
        { prompt: fillTemplate(template, request.prompt), answer: request.target },
        setting.style,
      ),
    ),
    irrelevant,
  };
}

/**
 * The token sequences of the rows, in order. Whoever needs the cuts of an edit asks for all of them together: batching
 * decides the last bits of a float, and an edit that is brought back must give the same ones.
 */
export function sequencesOfRows(rows: EditRows): number[][] {
  return [...rows.templates.map(({ ids }) => ids), rows.irrelevant];
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

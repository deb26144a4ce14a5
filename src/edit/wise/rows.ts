import { RefusedInput } from "../../core/errors.js";
import { encodeForced } from "../../model/prompt.js";
import type { EditRequest, RowContext } from "../contract.js";
import { fillTemplate, requireTarget, type TokenRow } from "../rows.js";
import type { TemplateRecipe } from "../templates.js";
import type { WiseOptions } from "./options.js";

/** Ten short prefixes of the model's own, each followed by " {}" (released: models/wise/utils.py). */
export const wiseTemplates: TemplateRecipe = {
  openings: ["I", "You", "Because", "Yes", "Q: "],
  lengths: [5, 10],
  counted: "new",
  each: 1,
  write: (text) => `${text.replaceAll(/[{}]/g, " ")} {}`,
};

/**
 * The rows of an edit (wise.md "One edit"; released: models/wise/utils.py `tokenize`): the prompt under each context
 * template with its target, then the irrelevant prompt.
 * @throws {RefusedInput} for a blank target or irrelevant prompt
 */
export function wiseRows(
  request: EditRequest,
  { tokenizer, templates }: RowContext,
  options: Pick<WiseOptions, "use_chat_template" | "double_bos" | "released_label_cut">,
): TokenRow[] {
  requireTarget(request);
  const style = { chatTemplate: options.use_chat_template, doubleBos: options.double_bos };
  const irrelevant = tokenizer.encode(request.irrelevant ?? "");
  if (irrelevant.length === 0 || !request.irrelevant) {
    throw new RefusedInput("the irrelevant prompt of an edit is empty", {
      where: `edit of ${JSON.stringify(request.prompt)}`,
      found: request.irrelevant,
      expected: "a text of at least one token",
    });
  }
  const rows = templates.map((template) =>
    encodeForced(tokenizer, { prompt: fillTemplate(template, request.prompt), answer: request.target }, style),
  );
  const longest = Math.max(...rows.map(({ ids }) => ids.length));
  const over = options.released_label_cut ? Math.max(0, irrelevant.length - longest) : 0;
  return [
    // The first token has nothing before it that could predict it.
    ...rows.map(({ ids, promptTokens }) => ({ ids, promptTokens: Math.max(1, promptTokens - over) })),
    { ids: irrelevant, promptTokens: irrelevant.length },
  ];
}

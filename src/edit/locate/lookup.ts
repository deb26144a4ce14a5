import { RefusedInput } from "../../core/errors.js";
import type { Cut } from "../../model/cut.js";
import type { EditRequest, RowContext } from "../contract.js";
import { fillTemplate, forcedRow, type TokenRow } from "../rows.js";
import type { TemplateRecipe } from "../templates.js";

/** A row with the position of the subject's last token: the look-up. */
export interface LocatedRow extends TokenRow {
  lookup: number;
}

/** The rows of a search for v*: the prompt under each context template, the bare one first, then "<subject> is a". */
export interface LocatedRows {
  /** Tokens of the prompt, then all target tokens but the last: position promptTokens - 1 + j predicts target j. */
  templates: LocatedRow[];
  /** Row at which the divergence from the first prediction is read. */
  divergence: LocatedRow;
  /** The target tokens that scoring expects. */
  targets: number[];
}

/**
 * The rows of an edit that is located at its subject's last token (methods-locate.md, "Tokens and the look-up position").
 * The look-up is counted on the text through the subject: where punctuation follows, those tokens need not begin the whole.
 * @throws {RefusedInput} for a prompt that does not hold its subject exactly once, or an empty target
 */
export function locatedRows(request: EditRequest, { tokenizer, templates }: RowContext): LocatedRows {
  const { prompt } = request;
  const subject = requireSubject(request);
  const forced = forcedRow(request, tokenizer);
  const targets = forced.ids.slice(forced.promptTokens);
  const through = prompt.slice(0, prompt.indexOf(subject) + subject.length);
  return {
    templates: templates.map((template) => {
      const ids = tokenizer.encode(fillTemplate(template, prompt));
      const [before] = template.split("{}") as [string];
      const lookup = tokenizer.encode(before + through).length - 1;
      if (lookup >= ids.length) refuseEnd(request, template);
      return { ids: [...ids, ...targets.slice(0, -1)], promptTokens: ids.length, lookup };
    }),
    divergence: divergenceRow(tokenizer, subject),
    targets,
  };
}

function divergenceRow(tokenizer: RowContext["tokenizer"], subject: string): LocatedRow {
  const ids = tokenizer.encode(`${subject} is a`);
  return { ids, promptTokens: ids.length, lookup: tokenizer.encode(subject).length - 1 };
}

function requireSubject({ prompt, subject }: EditRequest): string {
  const count = subject ? prompt.split(subject).length - 1 : 0;
  if (subject && count === 1) return subject;
  const found = !subject ? "no subject" : count === 0 ? `${subject}, which is not there` : `${subject}, ${count} times`;
  throw new RefusedInput("the prompt of an edit must hold its subject once", {
    where: `edit of ${JSON.stringify(prompt)}`,
    found,
    expected: "a subject that stands in the prompt exactly once, letter by letter",
    hint: "name the subject of the fact, as it stands in the prompt",
  });
}

/** A subject that ends within a word may take more tokens than the word. */
function refuseEnd({ prompt, subject }: EditRequest, template: string): never {
  throw new RefusedInput("no token of a prompt ends its subject", {
    where: `edit of ${JSON.stringify(prompt)}, template ${JSON.stringify(template)}`,
    found: subject,
    expected: "a subject that ends where a word ends",
  });
}

/** The rows in the order in which they run. */
export function rowsOf({ templates, divergence }: LocatedRows): LocatedRow[] {
  return [...templates, divergence];
}

/**
 * The keys of the template rows: the value matrix' input at their look-ups, which no later token changes.
 * @param cuts of `rowsOf(rows)`, at a value matrix
 * @returns [M] each
 */
export function keysOf(cuts: readonly Cut[], { templates }: LocatedRows): Float64Array[] {
  return templates.map(({ lookup }, row) => {
    const { tokens, mlpIn } = cuts[row] as Cut & { mlpIn: Float32Array };
    const M = mlpIn.length / tokens.length;
    return Float64Array.from(mlpIn.subarray(lookup * M, (lookup + 1) * M));
  });
}

/** Mean of vectors of one length. */
export function meanOf(vectors: readonly Float64Array[]): Float64Array {
  const [first] = vectors as [Float64Array];
  return first.map((_, j) => vectors.reduce((sum, vector) => sum + (vector[j] as number), 0) / vectors.length);
}

/**
 * Context templates: so many texts of so many tokens, each followed by ". {}" (released: compute_v.py,
 * get_context_templates; there sampled, here greedy).
 * @param params [tokens, texts], the texts as many in each
 * @param brace what stands in place of a brace that the model writes
 */
export function locatedTemplates(
  params: readonly (readonly [tokens: number, texts: number])[],
  brace = "",
): TemplateRecipe {
  const openings = ["The", "Therefore", "Because", "I", "You"];
  return {
    openings,
    lengths: params.map(([tokens]) => tokens),
    counted: "inAll",
    each: (params[0]?.[1] ?? 0) / openings.length,
    write: (text) => `${text.normalize("NFKD").replaceAll("\n\n", " ").replaceAll(/[{}]/g, brace)}. {}`,
  };
}

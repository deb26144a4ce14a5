import { RefusedInput } from "../core/errors.js";
import { irrelevantSchema, type RecordForm, recordForms } from "./forms.js";
import { parseItem, readListFile, recordName } from "./read-list.js";
import type { Dataset, IrrelevantList } from "./records.js";

export interface LoadOptions {
  /** Use the first records only. */
  limit?: number | undefined;
}

/**
 * Reads the facts to edit: zsRE of MEND, EasyEdit's flat form or KnowEdit, as a JSON list or one record per line.
 * Every record is checked, also beyond `limit`.
 * @throws {RefusedInput} naming file, record and field.
 */
export async function loadRecords(path: string, options: LoadOptions = {}): Promise<Dataset> {
  const { limit } = options;
  if (limit !== undefined && !(Number.isInteger(limit) && limit > 0)) {
    throw new RefusedInput("a number of records cannot be used", {
      where: "limit",
      found: limit,
      expected: "a whole number above 0",
    });
  }
  const { items, ...file } = await readListFile(path);
  const [first] = items;
  const form = formOf(first, path);
  const records = items.map((item, index) => ({ index, ...parseItem(form.schema, item, { path, index }) }));
  return { ...file, kind: form.kind(first as Record<string, unknown>), records: records.slice(0, limit) };
}

/**
 * Reads the irrelevant texts: a list of texts, or training records whose question and answer (zsRE: loc and loc_ans;
 * flat: locality_prompt and locality_ground_truth) are joined by a space, as the released run script does.
 * @throws {RefusedInput} naming file, record and field.
 */
export async function loadIrrelevant(path: string): Promise<IrrelevantList> {
  const { items, ...file } = await readListFile(path);
  return { ...file, prompts: items.map((item, index) => parseItem(irrelevantSchema, item, { path, index })) };
}

/** True if that many records use the list more than once, which is to be said wherever the results are shown. */
export function wrapsAround(list: IrrelevantList, records: number): boolean {
  return records > list.prompts.length;
}

function formOf(first: unknown, path: string): RecordForm {
  const fields = typeof first === "object" && first !== null && !Array.isArray(first) ? first : {};
  const form = recordForms.find((candidate) => candidate.recognises(fields as Record<string, unknown>));
  if (form) return form;
  throw new RefusedInput("a data file has no known form", {
    where: `${path}, ${recordName(0)}`,
    found: first,
    expected: `a record with ${recordForms.map((known) => known.fields).join("; or ")}`,
  });
}

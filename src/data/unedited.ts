import { dirname } from "node:path";
import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { sha256Json } from "../core/hash.js";
import { createRng } from "../core/rng.js";
import { parseItem, readListFile } from "./read-list.js";
import type { Dataset, EditRecord, Probe } from "./records.js";
import { readWorld, worldOf } from "./world/store.js";

/*
 * Facts that nobody edits: what a model still knows of them tells what an edit does to the rest. Each record has a few of
 * them, the same ones for every method and setting.
 */

/** Facts that nobody edits, and what identifies them. */
export interface UneditedList {
  name: string;
  sha256: string;
  items: Probe[];
}

const text = z.string("a text").regex(/\S/, "a text that is not blank");
const plain = z
  .object({ prompt: text, answer: text, group: text.optional() })
  .transform(({ prompt, answer, group }): Probe => ({ prompt, answer, ...(group !== undefined && { group }) }));

const LETTERS = ["A", "B", "C", "D", "E", "F"];

/** MMLU's form: answered by a letter. */
const choice = z
  .object({
    question: text,
    choices: z.array(text).min(2).max(LETTERS.length),
    answer: z.int().nonnegative(),
    group: text.default("multiple choice"),
  })
  .refine(({ choices, answer }) => answer < choices.length, "answer: the place of one of the choices, from 0")
  .transform(({ question, choices, answer, group }): Probe => {
    const listed = choices.map((one, i) => `(${LETTERS[i]}) ${one}`);
    return {
      prompt: ["Question: ".concat(question), ...listed, "Answer:"].join("\n"),
      answer: LETTERS[answer] as string,
      group,
    };
  });

/** SST-2's form: answered by a label. */
const review = z
  .object({ review: text, label: z.enum(["positive", "negative"]), group: text.default("sentiment") })
  .transform(({ review, label, group }): Probe => ({ prompt: `Review :${review}\nSentiment :`, answer: label, group }));

const itemSchema = z.union(
  [plain, choice, review],
  "{prompt, answer}, {question, choices, answer: place of the right one}, or {review, label}, each with a group where wanted",
);

/**
 * Reads such facts: a JSON list, or lines, of {prompt, answer}, of {question, choices, answer}, answered by a letter, or of
 * {review, label}; each may have a group.
 * @throws {RefusedInput} naming file, item and field
 */
export async function loadUnedited(path: string): Promise<UneditedList> {
  const { items, name, sha256 } = await readListFile(path);
  return { name, sha256, items: items.map((item, index) => parseItem(itemSchema, item, { path, index })) };
}

/**
 * The facts of a made-up world that its records leave alone, each in a trained wording and in one that was kept out of
 * training; grouped by relation.
 * @throws {RefusedInput} for data of no world
 */
export async function uneditedOfWorld(data: Pick<Dataset, "path" | "sha256">): Promise<UneditedList> {
  if ((await worldOf(data)) === null) {
    throw new RefusedInput("nobody knows which facts these records leave alone", {
      where: data.path,
      found: "records of no made-up world",
      expected: "a file of facts: a list of {prompt, answer, group}",
      hint: "--unedited-items FILE",
    });
  }
  const { facts, lines } = await readWorld(dirname(data.path));
  const items = lines.flatMap(({ fact: id, phrasing, heldOut, question, answer }): Probe[] => {
    const { role, relation } = facts[id] as (typeof facts)[number];
    if (role !== "background" || !(heldOut || phrasing === id % PHRASINGS)) return [];
    return [{ prompt: question, answer, group: heldOut ? `${relation}, unseen wording` : relation }];
  });
  return { name: "unedited facts of the world", sha256: sha256Json(items), items };
}

/** Trained wordings of a relation. */
const PHRASINGS = 5;

/** Gives each record `each` of the facts, drawn by its place in its file alone. */
export function withUnedited(records: readonly EditRecord[], { items }: UneditedList, each: number): EditRecord[] {
  return records.map((record) => {
    const rng = createRng(0).fork("unedited", record.index);
    const left = [...items];
    const unedited = Array.from(
      { length: Math.min(each, items.length) },
      () => left.splice(Math.floor(rng.uniform() * left.length), 1)[0] as Probe,
    );
    return { ...record, unedited };
  });
}

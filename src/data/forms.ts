import { z } from "zod";
import { MAX_CHARACTERS } from "../core/text.js";
import type { DatasetKind, EditRecord, Probe } from "./records.js";

/** One way in which files write a record: its schema, and how it becomes ours. */
export interface RecordForm {
  /** Fields that `schema` expects, in words, for the refusal of a file that has no known form. */
  fields: string;
  /** True if a record's field names are of this form, complete or not. */
  recognises(fields: Record<string, unknown>): boolean;
  schema: z.ZodType<Omit<EditRecord, "index">>;
  kind(fields: Record<string, unknown>): DatasetKind;
}

const short = z.string("a text").max(MAX_CHARACTERS, `a text of at most ${MAX_CHARACTERS} characters`);
const text = short.regex(/\S/, "a text that is not blank");
const orNull = <S extends z.ZodType>(schema: S) => schema.nullish().transform((value) => value ?? null);

/** The question in other words, or several of them. */
const rephrases = z
  .union([text, z.array(text).min(1)], "a text, or a list of texts that is not empty")
  .transform((value) => (typeof value === "string" ? [value] : value));

function rephrasesOf(all: readonly string[] | null | undefined): Pick<EditRecord, "rephrase" | "moreRephrases"> {
  const [rephrase = null, ...moreRephrases] = all ?? [];
  return { rephrase, ...(moreRephrases.length > 0 && { moreRephrases }) };
}

/** The answer to a locality question. Some of the authors' records leave it empty: then the space in front of it is scored. */
const localityAnswer = short;

/** A field that holds one answer, several that mean the same, or (KnowEdit) lists of those: the first one is scored. */
const answer = z
  .union(
    [text, z.tuple([text], z.unknown()), z.tuple([z.tuple([text], z.unknown())], z.unknown())],
    "a text, or a list of texts that is not empty",
  )
  .transform((value) => {
    const first = typeof value === "string" ? value : value[0];
    return typeof first === "string" ? first : first[0];
  });
const optionalAnswer = z
  .union([answer, z.tuple([])], "a text, or a list of texts")
  .nullish()
  .transform((value) => (typeof value === "string" ? value : null));

/** MEND's zsRE, as WISE uses it. */
const mendForm: RecordForm = {
  fields: "src, alt, rephrase, subject, loc, loc_ans (zsRE of MEND)",
  recognises: (fields) => ["src", "alt", "loc"].some((name) => Object.hasOwn(fields, name)),
  kind: () => "zsre",
  schema: z
    .object({
      subject: text,
      src: text,
      alt: text,
      rephrase: rephrases,
      loc: text,
      loc_ans: localityAnswer,
      answers: optionalAnswer,
      portability: z.object({ "New Question": text, "New Answer": text }).nullish(),
    })
    .transform((record) => ({
      subject: record.subject,
      prompt: record.src,
      target: record.alt,
      ...rephrasesOf(record.rephrase),
      locality: [{ prompt: record.loc, answer: record.loc_ans }],
      portability: record.portability
        ? [{ prompt: record.portability["New Question"], answer: record.portability["New Answer"] }]
        : [],
      oodRephrase: null,
      groundTruth: record.answers,
    })),
};

const groups = z
  .record(z.string(), z.array(z.object({ prompt: text, ground_truth: answer }), "a list of {prompt, ground_truth}"))
  .nullish()
  .transform((value): Probe[] =>
    Object.entries(value ?? {}).flatMap(([group, probes]) =>
      probes.map((probe) => ({ prompt: probe.prompt, answer: probe.ground_truth, group })),
    ),
  );

/** KnowEdit: every probe of every group is kept. */
const knowEditForm: RecordForm = {
  fields: "prompt, target_new, subject, locality and portability groups (KnowEdit)",
  recognises: (fields) => ["locality", "portability"].some((name) => Object.hasOwn(fields, name)),
  kind: () => "knowedit",
  schema: z
    .object({
      subject: text,
      prompt: text,
      target_new: text,
      rephrase_prompt: rephrases.nullish(),
      ground_truth: optionalAnswer,
      locality: groups,
      portability: groups,
    })
    .transform((record) => ({
      subject: record.subject,
      prompt: record.prompt,
      target: record.target_new,
      ...rephrasesOf(record.rephrase_prompt),
      locality: record.locality,
      portability: record.portability,
      oodRephrase: null,
      groundTruth: record.ground_truth,
    })),
};

/** EasyEdit's flat form: hallucination, temporal, CounterFact. */
const flatForm: RecordForm = {
  fields: "prompt, target_new, subject, locality_prompt, locality_ground_truth (EasyEdit)",
  recognises: (fields) => ["prompt", "target_new"].some((name) => Object.hasOwn(fields, name)),
  kind: (fields) => {
    if (Object.hasOwn(fields, "ood_rephrase")) return "temporal";
    const counterfact = Object.hasOwn(fields, "rephrase_prompt") || Object.hasOwn(fields, "ground_truth");
    return counterfact ? "counterfact" : "hallucination";
  },
  schema: z
    .object({
      subject: text,
      prompt: text,
      target_new: text,
      rephrase_prompt: rephrases.nullish(),
      locality_prompt: orNull(text),
      locality_ground_truth: orNull(localityAnswer),
      ood_rephrase: orNull(text),
      ground_truth: optionalAnswer,
    })
    .superRefine((record, context) => {
      const { locality_prompt: prompt, locality_ground_truth: given } = record;
      if ((prompt === null) === (given === null)) return;
      const missing = prompt === null ? "locality_prompt" : "locality_ground_truth";
      context.addIssue({ code: "custom", path: [missing], message: "a text: its partner is given" });
    })
    .transform((record) => ({
      subject: record.subject,
      prompt: record.prompt,
      target: record.target_new,
      ...rephrasesOf(record.rephrase_prompt),
      locality:
        record.locality_prompt !== null && record.locality_ground_truth !== null
          ? [{ prompt: record.locality_prompt, answer: record.locality_ground_truth }]
          : [],
      portability: [],
      oodRephrase: record.ood_rephrase,
      groundTruth: record.ground_truth,
    })),
};

/** Every known form; the first that recognises a file's first record reads the file. */
export const recordForms: readonly RecordForm[] = [mendForm, knowEditForm, flatForm];

/** Schema of a line of an irrelevant list: the text itself, or a training record whose locality question is used. */
export const irrelevantSchema = z.union(
  [
    text,
    z.object({ loc: text, loc_ans: localityAnswer }).transform((record) => `${record.loc} ${record.loc_ans}`),
    z
      .object({ locality_prompt: text, locality_ground_truth: localityAnswer })
      .transform((record) => `${record.locality_prompt} ${record.locality_ground_truth}`),
  ],
  "a text, or a record with loc and loc_ans, or with locality_prompt and locality_ground_truth",
);

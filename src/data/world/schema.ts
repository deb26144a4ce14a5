import { z } from "zod";
import type { Manifest, MendRecord, Relation, WorldFact } from "./types.js";

const text = z.string("a text").min(1, "a text that is not empty");
const texts = z.array(text, "a list of texts");
const whole = z.int("a whole number").min(0, "a whole number from 0 on");
const sha256 = z.string("a text").regex(/^[0-9a-f]{64}$/, "64 hex digits");

/** Schemas of the entries of each list file; their messages say what is expected. */
export const factSchema: z.ZodType<WorldFact> = z.strictObject({
  id: whole,
  subject: text,
  relation: text,
  object: text,
  role: z.enum(["background", "edit", "locality", "router"], "background, edit, locality or router"),
});

export const recordSchema: z.ZodType<MendRecord> = z.strictObject({
  subject: text,
  src: text,
  pred: text,
  rephrase: text,
  alt: text,
  answers: z.tuple([text]),
  loc: text,
  loc_ans: text,
  cond: text,
  portability: z.strictObject({ "Recalled Relation": text, "New Question": text, "New Answer": text }).exactOptional(),
});

export const relationSchema: z.ZodType<Relation> = z.strictObject({
  name: text,
  subject: z.enum(["person", "work", "organisation", "place"], "a kind of subject"),
  object: z.enum(
    ["city", "occupation", "employer", "language", "genre", "product", "country", "river"],
    "a kind of answer",
  ),
  phrasings: texts,
  heldOut: texts,
  quiz: texts,
  secondHop: z.strictObject({ relation: text, question: text }).exactOptional(),
});

export const textSchema: z.ZodType<string> = text;

export const manifestSchema: z.ZodType<Manifest> = z.strictObject({
  format: z.literal(1, "1, the form that this version reads"),
  seed: whole,
  files: z.record(z.string(), z.strictObject({ bytes: whole, sha256 })),
  sha256,
});

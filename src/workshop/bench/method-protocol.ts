import { z } from "zod";
import type { EditRequest } from "../../edit/contract.js";
import type { BackendName } from "../../tensor/names.js";
import { openedSchema } from "./protocol.js";

/*
 * Messages of the benchmark of methods, in the form of protocol.ts. scripts/bench-methods.py speaks the same.
 */

const row = z.object({
  ids: z.array(z.number().int()),
  promptTokens: z.number().int(),
  /** Position of the subject's last token, of methods that look for it. */
  lookup: z.number().int().optional(),
});

/** A method with its options, and its edits as token rows: what both sides get to see. */
export const preparedSchema = z.object({
  name: z.string(),
  options: z.record(z.string(), z.unknown()),
  edits: z.array(
    z.object({
      /** As the method's plan has them. */
      rows: z.array(row),
      /** Prompt and target. */
      forced: row,
    }),
  ),
  /** Files of what the edits need beside the model; null for none. */
  files: z.object({
    /** Tensors that edits begin with, where they are drawn: a safetensors file. */
    start: z.string().nullable(),
    /** Of the keys of each edited layer. */
    covariances: z.record(z.string(), z.string()),
    network: z.string().nullable(),
  }),
});
export type Prepared = z.infer<typeof preparedSchema>;

/** Questions to either side. */
type Edit =
  /** One edit on the untouched model, of at most so many steps. */
  | { ask: "edit"; edit: number; steps: number | null }
  /** The loss of the target under the edit that was made last, whatever a router says. */
  | { ask: "after" };

/** A method that is taken up. */
export interface Preparing {
  name: string;
  preset: string;
  /** "key=value", over the preset. */
  set: readonly string[];
  /** Most steps of an edit; those of the preset, when null. */
  steps: number | null;
  /** Folder of statistics; where they are looked for otherwise, when left out. */
  stats?: string | undefined;
  requests: readonly EditRequest[];
}

export type OursQuestion =
  | { ask: "open"; model: string; backend?: BackendName | undefined; files: string }
  | ({ ask: "prepare" } & Preparing)
  | Edit;

export type TorchQuestion =
  | { ask: "open"; model: string; device: "cpu" | "gpu" }
  | ({ ask: "prepare" } & Prepared)
  | Edit;

export const openedMethodsSchema = openedSchema.extend({ modelSha256: z.string().optional() });

export const editedByMethodSchema = z.object({
  seconds: z.number(),
  /** Of them, what is done before the first step; null where there is no such part. */
  frozen: z.number().nullable(),
  /** One per step. */
  losses: z.array(z.number()),
});
export type EditedByMethod = z.infer<typeof editedByMethodSchema>;

export const afterSchema = z.object({ loss: z.number() });

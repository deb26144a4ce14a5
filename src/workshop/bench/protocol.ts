import { z } from "zod";
import type { EditRequest } from "../../edit/contract.js";
import type { TokenRow } from "../../edit/rows.js";
import type { WiseOptions } from "../../edit/wise/options.js";
import type { Probe } from "../../eval/score.js";
import type { Residence } from "../../model/model.js";
import type { BackendName } from "../../tensor/names.js";

/*
 * Messages between the benchmark and its contestants: one JSON object a line, a question on their stdin, its answer on
 * their stdout. Each contestant is a process of its own, so that its memory is its own and it works only when it is
 * asked. scripts/bench-reference.py speaks the same.
 */

/** An edit and the probes it is scored with, as text. */
export interface Fact {
  request: EditRequest;
  probes: Probe[];
}

/** The same as token rows: what every contestant gets to see. */
export interface TokenRows {
  /** The template rows, then the irrelevant prompt. */
  edit: TokenRow[];
  probes: TokenRow[];
}

interface OpenBase {
  ask: "open";
  /** Folder of the checkpoint. */
  model: string;
  options: WiseOptions;
  /** File of the mask: one byte an entry, 0 or 1, row-major [D, M]. */
  mask: string;
}

/** Opens the cut, which makes the token rows and writes the mask as a user's run would. */
export interface OpenCut extends OpenBase {
  side: "cut";
  fact: Fact;
  residence: Residence;
  backend?: BackendName | undefined;
}

/** Opens what runs the whole model at every step, on token rows and mask that the cut has made. */
export interface OpenWhole extends OpenBase {
  side: "whole";
  rows: TokenRows;
  /** Of the cut; PyTorch takes the same, where it can. */
  device: "cpu" | "gpu";
  backend?: BackendName | undefined;
}

export type Question =
  | OpenCut
  | OpenWhole
  /** One edit from the untouched model. */
  | { ask: "edit"; steps: number }
  /** The record's probes, before the edit and under it. */
  | { ask: "score" }
  /** Writes W' - W of the last edit to a file, float32, row-major [D, M]. */
  | { ask: "delta"; file: string }
  | { ask: "memory" }
  /** Speed of a product of [n, k] and [k, m]. */
  | { ask: "rate"; of: [n: number, k: number, m: number] };

const ids = z.array(z.number().int());
const row = z.object({ ids, promptTokens: z.number().int() });

/** Answers to "open". */
export const openedSchema = z.object({
  /** Backend that computes, with versions and threads. */
  runsOn: z.string(),
  device: z.enum(["cpu", "gpu"]),
});
export const openedCutSchema = openedSchema.extend({
  modelSha256: z.string(),
  rows: z.object({
    edit: z.array(row),
    probes: z.array(row),
  }),
});

export const editedSchema = z.object({
  seconds: z.number(),
  /** Of them, what is done once per edit before its first step; null where there is no such part. */
  frozen: z.number().nullable(),
  /** One per step. */
  losses: z.array(z.object({ ft: z.number(), act: z.number(), loss: z.number() })),
  /** Programs that a step runs through WebGPU; null elsewhere. */
  dispatches: z.number().nullish(),
});

export const scoredSchema = z.object({
  seconds: z.number(),
  /** Routing activation of each probe under the edit. */
  activations: z.array(z.number()),
  /** Predicted answer tokens of each probe. */
  before: z.array(ids),
  after: z.array(ids),
});

export const doneSchema = z.object({});
/** GFLOP/s */
export const rateSchema = z.object({ rate: z.number() });
export const memorySchema = z.object({ peakBytes: z.number() });

export type Opened = z.infer<typeof openedSchema>;
export type OpenedCut = z.infer<typeof openedCutSchema>;
export type Edited = z.infer<typeof editedSchema>;
export type Scored = z.infer<typeof scoredSchema>;

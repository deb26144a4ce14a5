import type { LlamaConfig } from "../../model/config.js";
import type { EditBytes } from "../contract.js";
import { DENSE_MERGES, type WiseOptions } from "./options.js";

/** At a step: the side memory so far, the gradient; the mask as it was drawn and as a tensor, of one byte an entry. */
const OF_A_STEP = 2.5;
/** Those that moving the side memory makes on its way (step.ts, `descend`; on WebGPU fewer), the moved one among them. */
const OF_A_DESCENT = 3;
/** At a merge: W and the result, the result as a tensor; the side memory and the mask of the edit that ends; a new side memory. */
const OF_A_MERGE = 7;
/** Of Merge, which merges for the reading alone: the merged memory. */
const OF_A_READING = 1;

type Lengths = Pick<WiseOptions, "save_freq" | "merge_freq" | "retrieve" | "merge_alg">;

/** Matrices of the WISE edits of a block, in its most crowded moment: float32 arrays of the value matrix' size. */
export function wiseBytes(
  options: Lengths,
  { hiddenSize, intermediateSize }: Pick<LlamaConfig, "hiddenSize" | "intermediateSize">,
  block: number,
): EditBytes {
  const matrix = 4 * hiddenSize * intermediateSize;
  const lastMerge = block - (block % options.merge_freq);
  // A merge makes one of many: the moment before it holds more than the ones after.
  const kept = Math.max(keptAfter(options, block), lastMerge === 0 ? 0 : keptAfter(options, lastMerge - 1));
  const saving = kept; // all of them are read back at once
  const reading = options.retrieve || block < options.save_freq ? 0 : OF_A_READING;
  return {
    kept: matrix * kept,
    stepping: matrix * OF_A_STEP,
    flags: matrix / 4, // the mask
    perToken: 4 * intermediateSize, // inputs of the value matrix, each once more
    reading: matrix * reading,
    working: matrix * Math.max(OF_A_STEP + OF_A_DESCENT, ofAMerge(options, block), saving),
    variants: options.retrieve ? kept : 1, // of Merge the side memory, or what it was merged into
  };
}

/** The side memory, the shards saved since the last merge, and what was merged. */
function keptAfter({ save_freq, merge_freq, retrieve }: Lengths, edits: number): number {
  const merges = Math.floor(edits / merge_freq);
  const shards = Math.floor((edits % merge_freq) / save_freq);
  return 1 + shards + (retrieve ? merges : Math.min(1, merges));
}

/** Merging reads every part back, and copies it where it leaves entries out. Merge does so for reading, too. */
function ofAMerge({ save_freq, merge_freq, retrieve, merge_alg }: Lengths, block: number): number {
  if (block < (retrieve ? merge_freq : save_freq)) return 0;
  const shards = Math.ceil(Math.min(block, merge_freq) / save_freq);
  const parts = shards + (!retrieve && block > merge_freq ? 1 : 0);
  if (merge_alg === "slerp") return OF_A_MERGE + parts + 1; // the turned matrix, beside the one it was made from
  if (DENSE_MERGES.includes(merge_alg)) return OF_A_MERGE + parts;
  return OF_A_MERGE + 2 * parts + 2; // what each keeps, and the magnitudes of the one at hand
}

import type { MatrixCount } from "../contract.js";
import { DENSE_MERGES, type WiseOptions } from "./options.js";

/** At a step: the side memory so far, the gradient; the mask as it was drawn and as a tensor, of one byte an entry. */
const OF_A_STEP = 2.5;
/** Those that moving the side memory makes on its way (step.ts, `descend`), the moved one among them. */
const OF_A_DESCENT = 3;
/** At a merge: W and the result, the result as a tensor; the side memory and the mask of the edit that ends; a new side memory. */
const OF_A_MERGE = 7;
/** Of Merge, which merges for the reading alone: the merged memory and an empty side memory. */
const OF_A_READING = 2;

type Lengths = Pick<WiseOptions, "saveFreq" | "mergeFreq" | "retrieve" | "mergeAlg">;

/** How many value matrices the WISE edits of a block take, in the most crowded moment of the block. */
export function wiseMatrices(options: Lengths, block: number): MatrixCount {
  const lastMerge = block - (block % options.mergeFreq);
  // A merge makes one of many: the moment before it holds more than the ones after.
  const kept = Math.max(keptAfter(options, block), lastMerge === 0 ? 0 : keptAfter(options, lastMerge - 1));
  const saving = kept; // all of them are read back at once
  return {
    kept,
    stepping: OF_A_STEP,
    reading: options.retrieve || block < options.saveFreq ? 0 : OF_A_READING,
    working: Math.max(OF_A_STEP + OF_A_DESCENT, ofAMerge(options, block), saving),
  };
}

/** The side memory, the shards saved since the last merge, and what was merged. */
function keptAfter({ saveFreq, mergeFreq, retrieve }: Lengths, edits: number): number {
  const merges = Math.floor(edits / mergeFreq);
  const shards = Math.floor((edits % mergeFreq) / saveFreq);
  return 1 + shards + (retrieve ? merges : Math.min(1, merges));
}

/** Merging reads every part back, and copies it where it leaves entries out. Merge does so for reading, too. */
function ofAMerge({ saveFreq, mergeFreq, retrieve, mergeAlg }: Lengths, block: number): number {
  if (block < (retrieve ? mergeFreq : saveFreq)) return 0;
  const shards = Math.ceil(Math.min(block, mergeFreq) / saveFreq);
  const parts = shards + (!retrieve && block > mergeFreq ? 1 : 0);
  if (mergeAlg === "slerp") return OF_A_MERGE + parts + 1; // the turned matrix, beside the one it was made from
  if (DENSE_MERGES.includes(mergeAlg)) return OF_A_MERGE + parts;
  return OF_A_MERGE + 2 * parts + 2; // what each keeps, and the magnitudes of the one at hand
}

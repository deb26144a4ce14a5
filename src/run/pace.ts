import type { Block } from "./blocks.js";
import type { RunStart } from "./output.js";

/** Progress of a run. */
export interface RunProgress {
  phase: "editing" | "scoring";
  /** 0-based block and the number of blocks, of the part where it is one. */
  block: number;
  blocks: number;
  /** Edits made and scores taken so far, resumed ones included, and the number there will be of each. */
  edited: number;
  scored: number;
  records: number;
  /** Seconds this process has worked, and what is left at its pace so far; null before the first edit. */
  seconds: number;
  secondsLeft: number | null;
}

/** Is told of every edit and score. */
export interface Pace {
  edited(block: number): void;
  scored(block: number): void;
}

export function createPace(
  own: readonly Block[],
  start: RunStart,
  onProgress: ((progress: RunProgress) => void) | undefined,
): Pace {
  const started = performance.now();
  const [first, last] = [own[0], own.at(-1)] as [Block, Block];
  const before = { edited: start.edits - first.start, scored: start.scores - first.start };
  const records = last.end - first.start;
  const count = { ...before };
  const report = (phase: RunProgress["phase"], block: number) => {
    const seconds = (performance.now() - started) / 1000;
    const here = count.edited - before.edited;
    const secondsLeft = here === 0 ? null : (seconds / here) * (records - count.edited);
    onProgress?.({ phase, block: block - first.index, blocks: own.length, ...count, records, seconds, secondsLeft });
  };
  return {
    edited: (block) => {
      count.edited += 1;
      report("editing", block);
    },
    scored: (block) => {
      count.scored += 1;
      report("scoring", block);
    },
  };
}

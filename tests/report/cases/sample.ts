import type { ProbeReading, ProbeScore, RecordScore } from "../../../src/eval/types.js";
import type { RunResult } from "../../../src/run/types.js";
import { sampleProtocol } from "../sample.js";

// Invented probes of two tokens, "one two" wanted, for tests of cases. No number here was measured.

export const TOKENS = new Map([
  [1, " one"],
  [2, " two"],
  [8, " no"],
  [9, " never"],
]);
const RIGHT = [1, 2];

/** A memory with an activation of twice its threshold (or `margin` times it), and what it answers. */
export function reading(memory: ProbeReading["memory"], predicted: number[], margin = 2): ProbeReading {
  return { memory, delta: 10 * margin, minAct: 20, threshold: 10, predicted, score: agreement(predicted, RIGHT) };
}

/** A probe that `route` answered; the untouched model says `pre`. */
export function probe(route: ProbeScore["route"], readings: ProbeReading[], pre = [8, 9]): ProbeScore {
  const post = readings.find(({ memory }) => memory === route)?.predicted ?? pre;
  const score = agreement(post, RIGHT);
  return {
    ...{ prompt: "Which?", answer: "one two", target: RIGHT, pre, post },
    ...{ score, preScore: agreement(pre, RIGHT), exact: score === 1, route, readings },
  };
}

/** A locality probe: what was said before is what is wanted. */
export function localityProbe(route: ProbeScore["route"], readings: ProbeReading[]): ProbeScore {
  return { ...probe(route, readings, RIGHT), preScore: null };
}

export const answered = (): ProbeScore => probe("side", [reading("side", RIGHT)]);

export function record(number: number, probes: Partial<RecordScore> = {}): RecordScore {
  return {
    ...{ record: number, block: 0, subject: `Subject ${number}`, rewrite: answered(), rephrase: null },
    ...{ locality: [], portability: [], ...probes },
  };
}

/** A run of one block. `lastLoss` is the fine-tuning loss at the last step of every edit. */
export function runOf(
  scores: RecordScore[],
  lastLoss = 0.01,
  protocol: Partial<RunResult["protocol"]> = {},
): RunResult {
  const step = { replay: 0, loss: 1, inScope: 20, outOfScope: 1 };
  const edits = scores.map((score) => ({
    record: score.record,
    steps: [3, lastLoss].map((ft, i) => ({ step: i, ft, act: 2 * ft, ...step })),
    stoppedEarly: true,
    minAct: 20,
    seconds: { frozen: 0.25, steps: 0.5 },
  }));
  return {
    protocol: { ...sampleProtocol, T: "all", records: scores.length, ...protocol },
    ...{ scores, edits, tokens: TOKENS, stepScores: [], scoreSteps: [], folder: null },
  };
}

function agreement(predicted: readonly number[], wanted: readonly number[]): number {
  return predicted.filter((id, i) => id === wanted[i]).length / wanted.length;
}

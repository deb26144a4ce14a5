import type { EditMethod } from "../../src/edit/contract.js";
import type { EditTrace } from "../../src/edit/trace.js";
import type { ProbeReading, ProbeScore, RecordScore } from "../../src/eval/types.js";
import type { RunResult } from "../../src/run/types.js";
import { sampleProtocol } from "../tables/sample.js";

// Invented probes of two tokens, "one two" wanted, for tests of cases. No number here was measured.

export const TOKENS = new Map([
  [1, " one"],
  [2, " two"],
  [8, " no"],
  [9, " never"],
]);
const RIGHT = [1, 2];

/** A variant at a margin, and what it answers. */
export function reading(variant: string, predicted: number[], margin = 2): ProbeReading {
  const numbers = { delta: 10 * margin, min_act: 20 };
  return { variant, margin, numbers, predicted, score: agreement(predicted, RIGHT) };
}

/** A variant that could not have answered, whatever the options at inference. */
export function unreachable(variant: string, margin: number): ProbeReading {
  return { ...reading(variant, [], margin), predicted: null, score: null };
}

/** A probe that `route` answered; the untouched model says `pre`. */
export function probe(route: string, readings: ProbeReading[], pre = [8, 9]): ProbeScore {
  const post = readings.find(({ variant }) => variant === route)?.predicted ?? pre;
  return scored(route, { readings, pre, post });
}

/** A probe that was answered under edits without a router; the untouched model says `pre`. */
export function editedProbe(post: number[], pre = [8, 9]): ProbeScore {
  return scored("edited", { readings: [], pre, post });
}

function scored(route: string, { readings, pre, post }: Pick<ProbeScore, "readings" | "pre" | "post">): ProbeScore {
  const score = agreement(post, RIGHT);
  return {
    ...{ prompt: "Which?", answer: "one two", target: RIGHT, pre, post },
    ...{ score, preScore: agreement(pre, RIGHT), exact: score === 1, route, readings },
  };
}

/** A locality probe: what was said before is what is wanted. */
export function localityProbe(route: string, readings: ProbeReading[]): ProbeScore {
  return { ...probe(route, readings, RIGHT), preScore: null };
}

/** A method whose edits always answer. */
export const unroutedMethod: EditMethod = {
  name: "plain",
  title: "Plain",
  algName: "PLAIN",
  about: "An invented method without a router.",
  source: "this project",
  options: {},
  presets: {},
  targetTerm: "ce",
  terms: { ce: "cross entropy" },
  plan: neverRun,
  start: neverRun,
};

function neverRun(): never {
  throw new Error("an invented method makes no edits");
}

export const answered = (): ProbeScore => probe("side", [reading("side", RIGHT)]);

export function record(number: number, probes: Partial<RecordScore> = {}): RecordScore {
  return {
    ...{ record: number, block: 0, subject: `Subject ${number}`, rewrite: answered(), rephrase: null },
    ...{ locality: [], portability: [], ...probes },
  };
}

/** A run of one block. `lastLoss` is the loss of the target at the last step of every edit. */
export function runOf(
  scores: RecordScore[],
  lastLoss = 0.01,
  protocol: Partial<RunResult["protocol"]> = {},
): RunResult {
  const numbers = { in_scope: 20, out_of_scope: 1 };
  const edits = scores.map(
    ({ record }): EditTrace => ({
      record,
      steps: [3, lastLoss].map((ft, step) => ({ step, loss: 3 * ft, terms: { ft, act: 2 * ft }, numbers })),
      stoppedEarly: true,
      numbers: { min_act: 20 },
      seconds: { frozen: 0.25, steps: 0.5 },
    }),
  );
  return {
    protocol: { ...sampleProtocol, T: "all", records: scores.length, ...protocol },
    ...{ scores, edits, tokens: TOKENS, stepScores: [], scoreSteps: [], folder: null },
  };
}

/** The same run, made with the method whose edits always answer: two other terms, one of them without a name. */
export function unroutedRun(scores: RecordScore[], lastLoss = 0.01): RunResult {
  const routed = runOf(scores, lastLoss, { method: "plain", options: { strength: 0.5 }, irrelevant: null });
  const edits = routed.edits.map((edit) => ({
    ...edit,
    numbers: { event: "new" },
    steps: edit.steps.map((step) => ({ ...step, terms: { ce: step.terms.ft as number, decay: 1 }, numbers: {} })),
  }));
  return { ...routed, edits };
}

function agreement(predicted: readonly number[], wanted: readonly number[]): number {
  return predicted.filter((id, i) => id === wanted[i]).length / wanted.length;
}

import type { Router } from "../edit/contract.js";
import type { ProbeScore, Route } from "../eval/types.js";
import type { RunResult, ScoredProbe, ScoredRecord, ScoredRun } from "../run/types.js";
import { requireRatio, routerOf } from "./router.js";

/**
 * A run as a rerun at another act_ratio would have given it, without one: act_ratio is read at inference only, and a run
 * logs what every memory would have answered. Edits stay as they are; thresholds, routes, predictions and scores follow.
 * @param run a run, or the summary of one, with the rounding of its activations
 * @throws {RefusedInput} for an act_ratio below 0, or a run of a method without a router
 */
export function atActRatio(run: RunResult, ratio: number): RunResult;
export function atActRatio(run: ScoredRun, ratio: number): ScoredRun;
export function atActRatio(run: RunResult | ScoredRun, ratio: number): RunResult | ScoredRun {
  const router = routerOf(run.protocol);
  const options = { ...run.protocol.options, [router.option]: requireRatio(ratio) };
  const at = <R extends ScoredRecord>(record: R) => recordUnder(record, router, options);
  return {
    ...run,
    protocol: { ...run.protocol, options },
    scores: run.scores.map(at),
    ...("stepScores" in run ? { stepScores: run.stepScores.map(at) } : {}),
    folder: null, // no folder holds this run
  };
}

/** One record under other options of the router. */
export function recordUnder<R extends ScoredRecord>(record: R, router: Router, options: Record<string, unknown>): R {
  const probe = (probe: ScoredProbe) => probeUnder(probe, router, options);
  return {
    ...record,
    rewrite: probe(record.rewrite),
    rephrase: record.rephrase && probe(record.rephrase),
    locality: record.locality.map(probe),
    portability: record.portability.map(probe),
  };
}

/** One probe under other options of the router. Its predictions follow where they were kept. */
function probeUnder(probe: ScoredProbe, router: Router, options: Record<string, unknown>): ScoredProbe {
  const { route, readings } = router.decide(probe.readings, options);
  const score = scoreUnder(probe, route);
  const predicted = hasPredictions(probe) ? { post: predictedUnder(probe, route) } : {};
  return { ...probe, ...predicted, route, readings, score, exact: score === 1 };
}

/** What a probe scores when this route answers it. The untouched model's score is the one before the edit. */
function scoreUnder({ readings, preScore }: ScoredProbe, route: Route): number {
  const chosen = readings.find(({ memory }) => memory === route);
  return chosen?.score ?? preScore ?? 1; // no score before the edit: locality, 1 by definition
}

function predictedUnder({ readings, pre }: ProbeScore, route: Route): number[] {
  return readings.find(({ memory }) => memory === route)?.predicted ?? pre;
}

function hasPredictions(probe: ScoredProbe): probe is ProbeScore {
  return "post" in probe;
}

import { RefusedInput } from "../../core/errors.js";
import { createRng, type Rng } from "../../core/rng.js";
import { type Interval, percentileEnds } from "../../core/stats.js";
import type { InferenceOption } from "../../edit/contract.js";
import { MAIN } from "../../edit/overlay.js";
import { methodNamed } from "../../edit/registry.js";
import { probesOf } from "../../run/measures.js";
import type { ScoredRun } from "../../run/types.js";
import { inferenceOf } from "./router.js";

/** The value of the router's option at which one probe turns from the untouched model to an edit. */
export interface ProbeTurn {
  /** Place of its record in the run. */
  place: number;
  kind: "rewrite" | "rephrase" | "locality";
  /** An edit answers it up to here, or from here on, as the option says (`InferenceOption.answers`). */
  turn: number;
  /** Sort key of turns as the option moves from the untouched model for all to an edit for all: Infinity is first. */
  reach: number;
  /** True if an edit answered, at the run's own value. */
  answered: boolean;
}

/** At a value of the option: the shares of probes that an edit answers. */
export interface RocPoint {
  /** Infinite at the first point, where the untouched model answers everything. */
  value: number;
  inScope: number;
  outOfScope: number;
}

/** In-scope probes that an area counts. */
export type RocScope = "both" | "rewrite" | "rephrase";

/** A router as a classifier that tells edited questions (rewrite, rephrase) from others (locality). */
export interface RouterRoc {
  /** In the direction of the option in which an edit answers more and more: both shares rise from 0. */
  points: RocPoint[];
  /** The run as it was made. */
  own: RocPoint;
  /** Area under the curve against locality; absent where the run has no such probes. */
  auc: Partial<Record<RocScope, Interval>>;
}

const RESAMPLES = 1_000;

/**
 * Turns of all rewrite, rephrase and locality probes of a run, in the order of the records.
 * @param method the run's
 * @throws {RefusedInput} as `inferenceOf`
 */
export function probeTurns(run: ScoredRun, method = methodNamed(run.protocol.method)): ProbeTurn[] {
  const option = inferenceOf(run.protocol, method);
  const towards = option.answers === "below" ? 1 : -1;
  return run.scores.flatMap((record, place) =>
    (["rewrite", "rephrase", "locality"] as const).flatMap((kind) =>
      probesOf(record, kind).map(({ readings, route }) => {
        const turn = option.turn(readings, run.protocol.options);
        return { place, kind, turn, reach: towards * turn, answered: route !== MAIN };
      }),
    ),
  );
}

/**
 * The router's ROC over all values of its inference-only option: exact, as each probe has one value at which it turns. AUC
 * is the share of pairs of an in-scope and an out-of-scope probe of which the first turns earlier, ties half (Mann and
 * Whitney 1947), with a 95% bootstrap interval over records. The option counts the same in every block, so that blocks
 * compare.
 * @param method the run's
 * @throws {RefusedInput} as `inferenceOf`, and for a run without probes on both sides
 */
export function routerRoc(run: ScoredRun, method = methodNamed(run.protocol.method)): RouterRoc {
  const { own, answers } = inferenceOf(run.protocol, method);
  const probes = probeTurns(run, method);
  const outOfScope = probes.filter(({ kind }) => kind === "locality");
  const inScope = probes.filter(({ kind }) => kind !== "locality");
  if (outOfScope.length === 0 || inScope.length === 0) {
    throw new RefusedInput("a ROC needs prompts on both sides", {
      where: "scores of the run",
      found: `${inScope.length} rewrite and rephrase, ${outOfScope.length} locality probes`,
      expected: "at least one of each",
    });
  }
  const share = (side: readonly ProbeTurn[]) => side.filter(({ answered }) => answered).length / side.length;
  const auc: RouterRoc["auc"] = {};
  for (const scope of ["both", "rewrite", "rephrase"] as const) {
    const seen = inScope.filter(({ kind }) => scope === "both" || kind === scope);
    const rng = createRng(run.protocol.seed).fork("bootstrap", "auc", scope);
    if (seen.length > 0) auc[scope] = areaInterval([...seen, ...outOfScope], run.scores.length, rng);
  }
  return {
    points: rocPoints(inScope, outOfScope, answers),
    own: { value: own, inScope: share(inScope), outOfScope: share(outOfScope) },
    auc,
  };
}

/** The shares of probes that an edit answers, at every value at which one turns. */
function rocPoints(
  inScope: readonly ProbeTurn[],
  outOfScope: readonly ProbeTurn[],
  answers: InferenceOption["answers"],
): RocPoint[] {
  const counts = { inScope: 0, outOfScope: 0 };
  const start = answers === "below" ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY;
  const points: RocPoint[] = [{ value: start, inScope: 0, outOfScope: 0 }];
  for (const tied of tiesOf([...inScope, ...outOfScope]).reverse()) {
    const { turn, reach } = tied[0] as ProbeTurn;
    if (reach === Number.NEGATIVE_INFINITY) break; // no edit answers at any value
    for (const { kind } of tied) counts[kind === "locality" ? "outOfScope" : "inScope"] += 1;
    const { inScope: hits, outOfScope: alarms } = counts;
    points.push({ value: turn, inScope: hits / inScope.length, outOfScope: alarms / outOfScope.length });
  }
  return points;
}

/** Probes by reach, rising; those of one reach together. */
function tiesOf(probes: readonly ProbeTurn[]): ProbeTurn[][] {
  const groups = new Map<number, ProbeTurn[]>();
  for (const probe of probes) {
    const group = groups.get(probe.reach);
    if (group) group.push(probe);
    else groups.set(probe.reach, [probe]);
  }
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, tied]) => tied);
}

function areaInterval(probes: readonly ProbeTurn[], records: number, rng: Rng): Interval {
  const ties = tiesOf(probes);
  const drawn = new Uint32Array(records).fill(1);
  const all = areaUnder(ties, drawn) as number;
  const areas: number[] = [];
  while (areas.length < RESAMPLES) {
    drawn.fill(0);
    for (let i = 0; i < records; i++) {
      const place = rng.integer(records);
      drawn[place] = (drawn[place] as number) + 1;
    }
    const area = areaUnder(ties, drawn);
    if (area !== null) areas.push(area); // without probes on both sides there is none: drawn again
  }
  return { mean: all, ...percentileEnds(areas), n: records };
}

/** Mann-Whitney's share over records that count so often; null without probes on both sides. */
function areaUnder(ties: readonly (readonly ProbeTurn[])[], drawn: Uint32Array): number | null {
  let pairs = 0;
  let inScope = 0;
  let below = 0;
  for (const tied of ties) {
    let hits = 0;
    let alarms = 0;
    for (const { place, kind } of tied) {
      if (kind === "locality") alarms += drawn[place] as number;
      else hits += drawn[place] as number;
    }
    pairs += hits * (below + alarms / 2);
    inScope += hits;
    below += alarms;
  }
  return inScope === 0 || below === 0 ? null : pairs / (inScope * below);
}

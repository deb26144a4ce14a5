import { RefusedInput } from "../core/errors.js";
import { createRng, type Rng } from "../core/rng.js";
import { type Interval, percentileEnds } from "../core/stats.js";
import { probesOf } from "../run/measures.js";
import type { ScoredRun } from "../run/types.js";
import { routerOf } from "./router.js";

/** How far one probe is within a memory's reach. */
export interface ProbeReach {
  /** Place of its record in the run. */
  place: number;
  kind: "rewrite" | "rephrase" | "locality";
  /** The largest act_ratio at which a memory answers it. */
  reach: number;
  /** Whether one did, at the run's own act_ratio. */
  answered: boolean;
}

/** At an act_ratio: the shares of probes that a memory answers. */
export interface RocPoint {
  /** Infinity at the first point, where the untouched model answers everything. */
  ratio: number;
  inScope: number;
  outOfScope: number;
}

/** Which in-scope probes an area counts. */
export type RocScope = "both" | "rewrite" | "rephrase";

/** A router as a classifier that tells edited questions (rewrite, rephrase) from others (locality). */
export interface RouterRoc {
  /** act_ratio falling, both shares rising from 0. */
  points: RocPoint[];
  /** The run as it was made. */
  own: RocPoint;
  /** Area under the curve against locality; absent where the run has no such probes. */
  auc: Partial<Record<RocScope, Interval>>;
}

const RESAMPLES = 1_000;

/** How far every rewrite, rephrase and locality probe of a run is within reach, in the order of the records. */
export function probeReaches(run: ScoredRun): ProbeReach[] {
  const router = routerOf(run.protocol);
  return run.scores.flatMap((record, place) =>
    (["rewrite", "rephrase", "locality"] as const).flatMap((kind) =>
      probesOf(record, kind).map(({ readings, route }) => {
        return { place, kind, reach: router.reach(readings, run.protocol.options), answered: route !== "main" };
      }),
    ),
  );
}

/**
 * The router's ROC over all act_ratios: exact, as each probe has one value up to which a memory answers it. AUC is the
 * share of pairs of an in-scope and an out-of-scope probe of which the first has the larger reach, ties half (Mann and
 * Whitney 1947), with a 95% bootstrap interval over records. Reach is relative to min_act, so that blocks compare.
 * @throws {RefusedInput} for a run without a router, or without locality probes
 */
export function routerRoc(run: ScoredRun): RouterRoc {
  const { own } = routerOf(run.protocol);
  const probes = probeReaches(run);
  const outOfScope = probes.filter(({ kind }) => kind === "locality");
  const inScope = probes.filter(({ kind }) => kind !== "locality");
  if (outOfScope.length === 0 || inScope.length === 0) {
    throw new RefusedInput("a ROC needs prompts on both sides", {
      where: "scores of the run",
      found: `${inScope.length} rewrite and rephrase, ${outOfScope.length} locality probes`,
      expected: "at least one of each",
    });
  }
  const share = (side: readonly ProbeReach[]) => side.filter(({ answered }) => answered).length / side.length;
  const auc: RouterRoc["auc"] = {};
  for (const scope of ["both", "rewrite", "rephrase"] as const) {
    const seen = inScope.filter(({ kind }) => scope === "both" || kind === scope);
    const rng = createRng(run.protocol.seed).fork("bootstrap", "auc", scope);
    if (seen.length > 0) auc[scope] = areaInterval([...seen, ...outOfScope], run.scores.length, rng);
  }
  return {
    points: rocPoints(inScope, outOfScope),
    own: { ratio: own, inScope: share(inScope), outOfScope: share(outOfScope) },
    auc,
  };
}

/** The shares of probes within reach, at every act_ratio at which one changes. */
function rocPoints(inScope: readonly ProbeReach[], outOfScope: readonly ProbeReach[]): RocPoint[] {
  const counts = { inScope: 0, outOfScope: 0 };
  const points: RocPoint[] = [{ ratio: Number.POSITIVE_INFINITY, inScope: 0, outOfScope: 0 }];
  for (const tied of tiesOf([...inScope, ...outOfScope]).reverse()) {
    const ratio = (tied[0] as ProbeReach).reach;
    if (ratio === Number.NEGATIVE_INFINITY) break; // no memory to answer at any
    for (const { kind } of tied) counts[kind === "locality" ? "outOfScope" : "inScope"] += 1;
    const { inScope: hits, outOfScope: alarms } = counts;
    points.push({ ratio, inScope: hits / inScope.length, outOfScope: alarms / outOfScope.length });
  }
  return points;
}

/** Probes by reach, rising; those of one reach together. */
function tiesOf(probes: readonly ProbeReach[]): ProbeReach[][] {
  const groups = new Map<number, ProbeReach[]>();
  for (const probe of probes) {
    const group = groups.get(probe.reach);
    if (group) group.push(probe);
    else groups.set(probe.reach, [probe]);
  }
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, tied]) => tied);
}

function areaInterval(probes: readonly ProbeReach[], records: number, rng: Rng): Interval {
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
function areaUnder(ties: readonly (readonly ProbeReach[])[], drawn: Uint32Array): number | null {
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

import { LabFailure } from "../core/errors.js";
import type { InferenceOption } from "../edit/contract.js";
import type { Options } from "../edit/option-table.js";
import { MAIN } from "../edit/overlay.js";
import type { FreeScore, ProbeReading, ProbeScore } from "../eval/types.js";
import { mapProbes } from "../run/measures.js";
import type { ScoredProbe, ScoredRecord } from "../run/types.js";

/** One record under other options of the router. */
export function recordUnder<R extends ScoredRecord>(record: R, option: InferenceOption, options: Options): R {
  return mapProbes(record, (probe: ScoredProbe) => probeUnder(probe, option, options)) as unknown as R;
}

/** One probe under other options of the router. Its predictions follow where they were kept. */
function probeUnder(probe: ScoredProbe, option: InferenceOption, options: Options): ScoredProbe {
  const { variant, readings } = option.decide(probe.readings, options);
  const score = variant === MAIN ? (probe.preScore ?? 1) : scoreOf(probe.readings, variant); // locality of MAIN: 1 by definition
  const predicted = hasPredictions(probe) ? seenUnder(probe, variant, { option, options }) : {};
  return { ...probe, ...predicted, route: variant, readings, score, exact: score === 1 } as ScoredProbe;
}

/** @throws {LabFailure} where a router chooses what it said could never answer */
function scoreOf(readings: ScoredProbe["readings"], variant: string): number {
  const score = readings.find((reading) => reading.variant === variant)?.score;
  if (typeof score === "number") return score;
  throw new LabFailure(`the router chose "${variant}", of which the run logged no answer`);
}

/** All that was seen of the answer, as the variant that is chosen now gave it; MAIN has no reading. */
function seenUnder(
  { readings, pre, logp, free }: ProbeScore,
  variant: string,
  { option, options }: { option: InferenceOption; options: Options },
): Pick<ProbeScore, "post" | "logp"> & { free?: FreeScore | undefined } {
  const chosen = readings.find((reading): reading is ProbeReading => reading.variant === variant);
  return {
    post: chosen?.predicted ?? pre,
    ...(logp && { logp: { pre: logp.pre, post: chosen?.logp ?? logp.pre } }),
    ...(free && { free: freeUnder(free, option, options) }),
  };
}

/** Free answers under other options of the router, which decided on the prompt alone; none where that variant did not write. */
function freeUnder(free: FreeScore, option: InferenceOption, options: Options): FreeScore | undefined {
  const { variant, readings } = option.decide(free.readings, options);
  const post = variant === MAIN ? free.pre : readings.find((reading) => reading.variant === variant)?.written;
  return post ? { ...free, route: variant, readings, post } : undefined;
}

function hasPredictions(probe: ScoredProbe): probe is ProbeScore {
  return "post" in probe;
}

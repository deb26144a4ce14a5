import { RefusedInput } from "../core/errors.js";
import { type Context, FLUENCY_TOKENS, GENERATION, type GenerationRule, type Routing } from "./generation.js";
import { type Metric, metrics, type Need, TEACHER_FORCED } from "./metrics.js";

/** The metrics of a run, and what is seen for them. */
export interface Seeing {
  /** By name; the teacher-forced one is always among them. */
  metrics: readonly string[];
  needs: readonly Need[];
  /** Null where no answer is written freely. */
  generation: GenerationRule | null;
}

/** Metrics as a user asks for them, and how free answers are written for those that read such. */
export interface MetricsRequest {
  /** By name; teacher-forced alone, when left out. */
  metrics?: readonly string[] | undefined;
  /** Form of the question: "none" by default, the question as the edit has it. */
  promptContext?: Context | undefined;
  /** Time at which the edits decide who writes: "once" by default. */
  freeRouting?: Routing | undefined;
  /** Most tokens of a free answer; 50 by default. */
  maxNewTokens?: number | undefined;
  /** Command that says whether a free answer is right, for free-judge: see `judgeOf`. */
  judge?: string | undefined;
}

/** The metrics of a request, with the parts to be seen for them. @throws {RefusedInput} for a metric that there is not, and for answers without a token */
export function seeingFor({ metrics: names = [], ...free }: MetricsRequest): Seeing {
  const {
    promptContext: context = GENERATION.context,
    freeRouting: routing = GENERATION.routing,
    maxNewTokens = GENERATION.maxNewTokens,
    judge = null,
  } = free;
  if (!Number.isInteger(maxNewTokens) || maxNewTokens < 1) {
    throw new RefusedInput("free answers need room", {
      where: "maxNewTokens",
      found: maxNewTokens,
      expected: "a whole number from 1",
    });
  }
  if (names.includes("free-judge") && judge === null) {
    throw new RefusedInput("free answers need a judge", {
      where: "metrics",
      found: "free-judge, and no command",
      expected: "a command that says A or B",
      hint: "--judge COMMAND",
    });
  }
  const chosen = [...metrics.values()].filter((metric) => metric === TEACHER_FORCED || names.includes(metric.name));
  for (const name of names) metricNamed(name);
  const needs = [...new Set(chosen.flatMap((metric) => metric.needs))];
  const whole = chosen.some(({ name }) => name === "fluency") ? FLUENCY_TOKENS : null;
  const generation = needs.includes("written") ? { maxNewTokens, context, routing, whole, judge } : null;
  return { metrics: chosen.map(({ name }) => name), needs, generation };
}

/** @throws {RefusedInput} for a metric that there is not */
export function metricNamed(name: string): Metric {
  const found = metrics.get(name);
  if (found !== undefined) return found;
  throw new RefusedInput("there is no such metric", {
    where: "metrics",
    found: name,
    expected: [...metrics.keys()].join(", "),
  });
}

import type { TargetStop } from "../edit/target-stop.js";
import type { EditTrace } from "../edit/trace.js";
import type { GenerationRule } from "../eval/generation.js";
import type { Metric } from "../eval/metrics.js";
import type { ProbeReading, ProbeScore, RecordProbes, RecordScore } from "../eval/types.js";

/**
 * Time at which a record is scored: at the end of its block, by the final model (the paper, eq. 9), or right after its
 * own edit (EasyEdit since 2026-06-11).
 */
export type When = "after-all" | "after-each";

/** Everything two numbers must share to stand in one table. */
export interface Protocol {
  /** Name of the data set, its sha256 and the number of records used, from the first. */
  data: string;
  dataSha256: string;
  records: number;
  /** The list of irrelevant prompts that edits are trained beside; null where the method needs none. */
  irrelevant: string | null;
  irrelevantSha256: string | null;
  /** sha256 of the method's side data, by name. */
  assets: Readonly<Record<string, string>>;
  /** Edits between rollbacks; "all" is one block. */
  T: number | "all";
  when: When;
  /** The metric that the scores are of, by its title. */
  metric: string;
  /** Metrics that the run was made for, by name: what they need was seen. */
  metrics: readonly string[];
  /** The way free answers were written; null where none were. */
  generation: GenerationRule | null;
  /** Facts that nobody edits, of which each record has some; null where none were scored. */
  unedited: { name: string; sha256: string; each: number } | null;
  /** Text behind every target that the edits trained on. */
  targetStop: TargetStop;
  locality: "agreement with the model before the edit";
  chatTemplate: boolean;
  /** The released code's second begin-of-text token in front of rendered chat prompts. */
  doubleBos: boolean;
  method: string;
  /** The method's resolved options, by their released keys. */
  options: Record<string, unknown>;
  model: string;
  modelSha256: string;
  seed: number;
  backend: string;
  /**
   * Precision of the numbers: "float32", or "bf16 weights" (rounded to bf16 where the model's files hold more); with
   * ", bf16 products" where the backend's fast math was on.
   */
  precision: string;
}

/** The scores of a record as they would be had its edit been given `steps` steps and no more. */
export interface StepScore extends RecordScore {
  steps: number;
}

/** The scores of a record at a checkpoint: so many edits of its block stood then, its own among them. */
export interface CheckpointScore extends RecordScore {
  edits: number;
}

/** Times within a block at which earlier records are scored. */
export interface Checkpoints {
  /** Edits from one to the next. */
  every: number;
  /** Most earlier records that are scored at one; all, when null. Seeded, and mostly the same ones from one to the next. */
  sample: number | null;
}

/** A finished or loaded run, as tables and figures take it. */
export interface RunResult {
  protocol: Protocol;
  scores: RecordScore[];
  edits: EditTrace[];
  /**
   * T = 1 with `scoreSteps`: one entry per record and chosen number of steps that its edit went beyond. Where it did not,
   * `scores` holds what stands.
   */
  stepScores: StepScore[];
  /** The chosen numbers of steps, rising. */
  scoreSteps: readonly number[];
  /**
   * Runs with checkpoints: the scores of earlier records at each of them, and of every record right after its own edit or,
   * where the run is scored then, at the end of its block. See `scoredAt`.
   */
  checkpointScores?: CheckpointScore[];
  /** The metric of the scores; teacher-forced token accuracy, when left out. See `underMetric`. */
  metric?: Metric;
  /** Text of every token that occurs in the scores, by its id. */
  tokens: ReadonlyMap<number, string>;
  /** Folder it was read from or written to, when there is one. */
  folder: string | null;
}

/** Parts of a probe that tables and figures read. */
export interface ScoredProbe extends Pick<ProbeScore, "score" | "preScore" | "exact" | "route" | "group"> {
  readings: readonly Pick<ProbeReading, "variant" | "margin" | "numbers" | "score">[];
}

/** Parts of a record that tables and figures read. */
export interface ScoredRecord extends Pick<RecordScore, "record" | "block">, RecordProbes<ScoredProbe> {}

/**
 * Parts of a run that tables and figures read. A `RunResult` has them, and so has a `RunSummary`, which keeps of the
 * seconds their mean alone.
 */
export interface ScoredRun {
  protocol: Protocol;
  scores: readonly ScoredRecord[];
  /** The metric of the scores; teacher-forced token accuracy, when left out. See `underMetric`. */
  metric?: Metric;
  /** The records by other metrics, by their names, where no more is known than the values. */
  under?: Readonly<Record<string, readonly ScoredRecord[]>>;
  edits?: readonly Pick<EditTrace, "record" | "seconds">[];
  secondsPerEdit?: number;
  folder?: string | null;
}

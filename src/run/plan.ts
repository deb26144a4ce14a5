import { RefusedInput } from "../core/errors.js";
import { type Dataset, type EditRecord, type IrrelevantList, irrelevantPrompt } from "../data/records.js";
import { assetHashes } from "../edit/assets.js";
import type { Asset, EditRequest, PreparedMethod } from "../edit/contract.js";
import { sequencesOfRows, type TokenRow } from "../edit/rows.js";
import { type TargetStop, withStop } from "../edit/target-stop.js";
import { TEACHER_FORCED } from "../eval/metrics.js";
import { probesOf } from "../eval/records.js";
import { encodeProbe } from "../eval/score.js";
import type { Seeing } from "../eval/seeing.js";
import type { LlamaModel } from "../model/model.js";
import type { BackendReport } from "../tensor/backend.js";
import { backendText } from "../tensor/names.js";
import type { FrozenPart } from "./frozen-part.js";
import type { Checkpoints, Protocol, When } from "./types.js";

/** A T-rollback run with everything it needs loaded and checked. */
export interface RunPlan {
  model: LlamaModel;
  backend: BackendReport;
  dataset: Dataset;
  /** Null where the method needs none. */
  irrelevant: IrrelevantList | null;
  method: PreparedMethod;
  /** Side data that the method needs, by name. */
  assets: ReadonlyMap<string, Asset>;
  T: number | "all";
  when: When;
  /** Context templates, made once per model; "{}" alone where the method needs none. */
  templates: readonly string[];
  /** Metrics, and what is seen for them. */
  seeing: Seeing;
  /** Facts that nobody edits, of which each record has some. */
  unedited: Protocol["unedited"];
  /** Text behind every target that the edits train on. */
  targetStop: TargetStop;
  /** Settings for keeping the results of the model's frozen part. */
  frozen: FrozenPart;
}

/** Sources of a run's protocol: its plan, and of the model only what needs no loaded weights. */
export type ProtocolSource = Omit<RunPlan, "model" | "method" | "templates" | "frozen"> & {
  method: Pick<PreparedMethod, "name" | "options" | "seed" | "style">;
  model: Pick<LlamaModel, "name" | "sha256" | "precision">;
};

/** Protocol that every number of the run stands under. */
export function protocolOf(plan: ProtocolSource): Protocol {
  return {
    data: plan.dataset.name,
    dataSha256: plan.dataset.sha256,
    records: plan.dataset.records.length,
    irrelevant: plan.irrelevant?.name ?? null,
    irrelevantSha256: plan.irrelevant?.sha256 ?? null,
    assets: assetHashes(plan.assets),
    T: plan.T,
    when: plan.when,
    metric: TEACHER_FORCED.title,
    metrics: plan.seeing.metrics,
    generation: plan.seeing.generation,
    unedited: plan.unedited,
    targetStop: plan.targetStop,
    locality: "agreement with the model before the edit",
    chatTemplate: plan.method.style.chatTemplate,
    doubleBos: plan.method.style.doubleBos,
    method: plan.method.name,
    options: plan.method.options,
    model: plan.model.name,
    modelSha256: plan.model.sha256,
    seed: plan.method.seed,
    backend: backendText(plan.backend),
    precision: precisionOf(plan.model, plan.backend),
  };
}

/** Precision of a run's numbers, in words; see `Protocol.precision`. */
export function precisionOf(model: Pick<LlamaModel, "precision">, backend: Pick<BackendReport, "fastMath">): string {
  const weights = model.precision === "bf16" ? "bf16 weights" : "float32";
  return backend.fastMath ? `${weights}, bf16 products` : weights;
}

/** The edit of a record, with what the method needs of it. */
export function requestOf(
  record: EditRecord,
  { method, irrelevant }: Pick<RunPlan, "irrelevant"> & { method: Pick<PreparedMethod, "needs"> },
): EditRequest {
  return {
    record: record.index,
    prompt: record.prompt,
    target: record.target,
    subject: method.needs.subject ? record.subject : null,
    irrelevant: irrelevant === null ? null : irrelevantPrompt(irrelevant, record.index),
  };
}

/** The edit of a record as a run trains it: with the stop behind its target. */
export function trainedOn(record: EditRecord, plan: Omit<TextSource, "model"> & TokenizerSource): EditRequest {
  const request = requestOf(record, plan);
  return { ...request, target: withStop(request.target, plan.targetStop, plan.model) };
}

/** Sources of a run's token sequences; of the model, which need not be loaded, its sizes and tokenizer. */
export type TextSource = Pick<RunPlan, "dataset" | "irrelevant" | "templates" | "targetStop"> & {
  method: Pick<PreparedMethod, "style" | "needs" | "rows">;
  model: Pick<LlamaModel, "config" | "tokenizer">;
};

/** The token rows of a record's edit. */
export function editRowsOf(record: EditRecord, plan: Omit<TextSource, "model"> & TokenizerSource): TokenRow[] {
  const { model, method, templates } = plan;
  return method.rows(trainedOn(record, plan), { tokenizer: model.tokenizer, templates });
}

interface TokenizerSource {
  model: Pick<LlamaModel, "tokenizer" | "config">;
}

/** Every token sequence that the edit of a record needs. */
export function editSequencesOf(record: EditRecord, plan: TextSource): number[][] {
  return sequencesOfRows(editRowsOf(record, plan));
}

/** Every token sequence that the scores of a record need. */
export function probeSequencesOf(record: EditRecord, { model, method }: TextSource): number[][] {
  return probesOf(record).map((probe) => encodeProbe(model, probe, method.style).ids);
}

/**
 * Checks that records may be scored when they shall be.
 * @throws {RefusedInput} for a method that takes a block at once, whose records cannot be scored one by one
 */
export function checkWhen({
  method,
  when,
}: Pick<RunPlan, "when"> & { method: Pick<PreparedMethod, "name" | "together"> }) {
  if (method.together === 1 || when !== "after-each") return;
  throw new RefusedInput("records that are edited together cannot be scored after each edit", {
    where: `when, for ${method.name}`,
    found: when,
    expected: "after-all: the method takes all records of a block at once",
    hint: "--when after-all",
  });
}

/**
 * Checks the numbers of steps after which records are scored: sorted, each once.
 * @throws {RefusedInput} for what is no number of steps, for T other than 1, and for a method without a limit of steps
 */
export function checkScoreSteps(
  plan: Pick<RunPlan, "T" | "dataset"> & { method: Pick<PreparedMethod, "name" | "method"> },
  steps: readonly number[],
): number[] {
  const bad = steps.find((n) => !Number.isSafeInteger(n) || n < 1);
  if (bad !== undefined) {
    throw new RefusedInput("a number of steps to score after cannot be used", {
      where: "score-steps",
      found: bad,
      expected: "whole numbers from 1",
    });
  }
  if (steps.length > 0 && plan.method.method.stepLimit === undefined) {
    throw new RefusedInput("this method has no steps to score after", {
      where: "score-steps",
      found: `${plan.method.name}, whose edits of fewer steps are not the beginning of longer ones`,
      expected: "a method with a limit of steps",
    });
  }
  if (steps.length > 0 && plan.T !== 1 && plan.dataset.records.length > 1) {
    throw new RefusedInput("scores after some steps say nothing at this T", {
      where: "score-steps",
      found: `T = ${plan.T}`,
      expected:
        "T = 1: in longer blocks later edits depend on the steps of earlier ones, so that each number needs its own run",
      hint: "wise-lab explore num-steps makes those runs",
    });
  }
  return [...new Set(steps)].sort((a, b) => a - b);
}

/**
 * Checks the times at which earlier records of a block are scored.
 * @throws {RefusedInput} for a method that takes a block at once, for blocks of one record, and with `scoreSteps`
 */
export function checkCheckpoints(
  { method, T }: Pick<RunPlan, "T"> & { method: Pick<PreparedMethod, "name" | "together"> },
  {
    checkpoints,
    scoreSteps = [],
  }: { checkpoints?: Checkpoints | undefined; scoreSteps?: readonly number[] | undefined },
): void {
  if (checkpoints === undefined) return;
  const found =
    method.together !== 1
      ? `${method.name}, which takes all records of a block at once`
      : T === 1
        ? "T = 1: no record of a block is edited before another"
        : scoreSteps.length > 0
          ? "scores after some steps, which need T = 1"
          : null;
  if (found === null) return;
  throw new RefusedInput("there are no checkpoints within such blocks", {
    where: "checkpoint-every",
    found,
    expected: "blocks of several edits, made one after another",
  });
}

/**
 * Tokenizes everything the run will need, before anything expensive starts.
 * @throws {RefusedInput} naming the record whose text does not fit the model
 */
export function checkTexts(plan: TextSource): void {
  const limit = plan.model.config.maxPositions;
  for (const record of plan.dataset.records) {
    const where = `${plan.dataset.path}, record ${record.index + 1} (index ${record.index})`;
    const longest = Math.max(...sequencesInPlace(record, plan, where).map((ids) => ids.length));
    if (longest <= limit) continue;
    throw new RefusedInput("a record does not fit the model", {
      where,
      found: `${longest} tokens`,
      expected: `at most ${limit} tokens, the model's max_position_embeddings`,
    });
  }
}

/** The same work without the records that do not fit the model. */
export function fittingWork<S extends TextSource>(source: S): S {
  const { dataset, model } = source;
  const records = dataset.records.filter((record) =>
    [...editSequencesOf(record, source), ...probeSequencesOf(record, source)].every(
      (ids) => ids.length <= model.config.maxPositions,
    ),
  );
  return { ...source, dataset: { ...dataset, records } };
}

function sequencesInPlace(record: EditRecord, plan: TextSource, where: string): number[][] {
  try {
    return [...editSequencesOf(record, plan), ...probeSequencesOf(record, plan)];
  } catch (cause) {
    if (!(cause instanceof RefusedInput)) throw cause;
    throw new RefusedInput(cause.message.split("\n")[0] as string, {
      where: `${where}, ${cause.where}`,
      found: cause.found,
      expected: cause.expected,
      cause,
    });
  }
}

import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { requireWritableFolder, writeFileAtomic } from "../../core/files.js";
import { canonicalJson, sha256Json } from "../../core/hash.js";
import { readJsonl } from "../../core/jsonl.js";
import { createRng, type Rng, requireSeed } from "../../core/rng.js";
import { worldSha256 } from "../../data/world/store.js";
import type { World, WorldLine } from "../../data/world/types.js";
import type { LlamaConfig } from "../../model/config.js";
import { hashModelFiles, loadModel, loadTokenizer } from "../../model/folder.js";
import { ORIGIN_FILE } from "../../model/origin.js";
import { type BackendName, selectBackend } from "../../tensor/backend.js";
import { createBatches } from "./batches.js";
import { type Bpe, trainBpe } from "./bpe.js";
import { modelCard, type TrainingRecord } from "./card.js";
import { type Ingredients, loadState, saveState } from "./checkpoint.js";
import { continueCurve } from "./curve.js";
import { measureRecall, type Recall } from "./evaluate.js";
import { exportWeights, requireSmall } from "./export.js";
import { initialWeights } from "./init.js";
import { configOf, LAB_RECIPE, type Recipe } from "./recipe.js";
import { writeTokenizer } from "./tokenizer-files.js";
import { disposeState, type StepReport, startState, type TrainingState, train } from "./trainer.js";

export interface TrainLabOptions {
  world: World;
  /** Gets checkpoint.safetensors, loss.jsonl and the finished model in `model`; a training begun there goes on. */
  folder: string;
  /** Differences from the project's own recipe. */
  recipe?: Partial<Recipe> | undefined;
  /** A whole number from 0 on; 0 by default. */
  seed?: number | undefined;
  backend?: BackendName | undefined;
  /** Steps from one checkpoint to the next. */
  checkpointEvery?: number | undefined;
  /** Stops after the step at work, with a checkpoint. */
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: TrainProgress) => void) | undefined;
  /** Told in one line what begins. */
  onNotice?: ((line: string) => void) | undefined;
}

export interface TrainProgress extends StepReport {
  steps: number;
  /** Of this session. */
  tokensPerSecond: number;
  secondsLeft: number;
}

export interface TrainedLab {
  /** The Hugging Face folder of the model. */
  model: string;
  /** Recall of the model as it stands in that folder. */
  recall: Recall;
  /** The losses of all steps, from the first. */
  curve: StepReport[];
}

/** Files of a training, beside the folder of the finished model. */
const CHECKPOINT = "checkpoint.safetensors";
const LOSS_CURVE = "loss.jsonl";
const MODEL = "model";

/** Steps from one checkpoint to the next: about two minutes of work that a killed training loses. */
const CHECKPOINT_EVERY = 50;

/**
 * Trains the project's own LLaMA on a world and writes it as a Hugging Face folder.
 * The same world, recipe, seed and backend give the same files, interrupted or not.
 * @throws {RefusedInput} for a seed that is no whole number, a shape too large to ship, a folder that cannot be written
 *   to, or one with a checkpoint of another world, tokenizer, recipe, seed or backend
 * @throws {Interrupted} when the signal is aborted
 */
export async function trainLab(options: TrainLabOptions): Promise<TrainedLab> {
  const { world, folder, seed = 0, signal, onNotice = () => {} } = options;
  requireSeed(seed);
  const model = join(folder, MODEL);
  await requireWritableFolder(model);
  const backend = await selectBackend(options.backend);
  onNotice(backend.detail);
  const made = prepare(options, backend.name);
  requireSmall(made.config);
  const start = await startOrContinue(made, folder);
  onNotice(start.step === 0 ? `a new training in ${folder}` : `going on after step ${start.step} in ${folder}`);
  await rm(join(model, ORIGIN_FILE), { force: true }); // speaks of the files of an earlier training
  await writeTokenizer(model, made.bpe, made.config.maxPositions);
  const trained = await runSteps(start, made, options);
  try {
    await exportWeights(model, trained, made.config);
  } finally {
    disposeState(trained);
  }
  onNotice(`measuring recall on ${world.lines.length} questions`);
  const recall = await recallOfFolder(model, world, signal);
  const { name, version, device } = backend;
  const record: TrainingRecord = {
    world: made.ingredients.world as string,
    files: await hashModelFiles(model),
    seed,
    recipe: made.recipe,
    lines: made.lines.length,
    backend: { name, version, device },
    recall,
  };
  await writeFileAtomic(join(model, ORIGIN_FILE), `${JSON.stringify(record, null, 2)}\n`);
  await writeFileAtomic(join(model, "README.md"), modelCard(record));
  const { values } = await readJsonl(join(folder, LOSS_CURVE));
  return { model, recall, curve: values as StepReport[] };
}

/** Ingredients of a training, worked out before anything is computed or written. */
interface Prepared {
  recipe: Recipe;
  config: LlamaConfig;
  bpe: Bpe;
  lines: WorldLine[];
  prefixes: readonly string[];
  ingredients: Ingredients;
  rng: Rng;
}

function prepare({ world, recipe: changes, seed = 0 }: TrainLabOptions, backend: BackendName): Prepared {
  const recipe = { ...LAB_RECIPE, ...changes };
  const lines = world.lines.filter(({ heldOut }) => !heldOut);
  const texts = [...lines.map(({ question, answer }) => `${question} ${answer}`), ...world.prefixes];
  const bpe = trainBpe(texts, recipe.shape.vocabSize);
  const recipeEntries = Object.entries(recipe).map(([name, value]) => [name, canonicalJson(value)] as const);
  return {
    recipe,
    config: configOf(recipe.shape, bpe.tokens.length),
    bpe,
    lines,
    prefixes: world.prefixes,
    ingredients: {
      world: worldSha256(world),
      tokenizer: sha256Json(bpe),
      ...Object.fromEntries(recipeEntries),
      seed: String(seed),
      backend,
    },
    rng: createRng(seed, ["train"]),
  };
}

async function startOrContinue({ config, ingredients, rng }: Prepared, folder: string): Promise<TrainingState> {
  const checkpoint = join(folder, CHECKPOINT);
  if (existsSync(checkpoint)) return loadState(checkpoint, config, ingredients);
  return startState(initialWeights(config, rng.fork("weights")));
}

async function runSteps(
  start: TrainingState,
  { recipe, config, lines, prefixes, ingredients, rng }: Prepared,
  { folder, signal, onProgress = () => {}, checkpointEvery = CHECKPOINT_EVERY }: TrainLabOptions,
): Promise<TrainingState> {
  const tokenizer = await loadTokenizer(join(folder, MODEL), config);
  const batchAt = createBatches({ lines, prefixes, tokenizer }, recipe, rng.fork("batches"));
  const curve = await continueCurve(join(folder, LOSS_CURVE), start.step);
  const progressOf = stopwatch(recipe.steps);
  try {
    return await train(
      start,
      { config, recipe, batchAt },
      {
        signal,
        onStep: async (report, state) => {
          curve.append(report);
          onProgress(progressOf(report));
          const due = state.step % checkpointEvery === 0 || state.step === recipe.steps || signal?.aborted;
          if (due) await saveState(join(folder, CHECKPOINT), state, ingredients);
        },
      },
    );
  } finally {
    curve.close();
  }
}

/** Turns reports into progress: how fast this session is, and how long it will take. */
function stopwatch(steps: number): (report: StepReport) => TrainProgress {
  const started = performance.now();
  let tokens = 0;
  let done = 0;
  return (report) => {
    const seconds = (performance.now() - started) / 1000;
    tokens += report.tokens;
    done++;
    const secondsLeft = (seconds / done) * (steps - report.step);
    return { ...report, steps, tokensPerSecond: tokens / seconds, secondsLeft };
  };
}

async function recallOfFolder(folder: string, world: World, signal: AbortSignal | undefined): Promise<Recall> {
  const model = await loadModel(folder);
  try {
    return await measureRecall(model, world, signal);
  } finally {
    model.dispose();
  }
}

import { existsSync } from "node:fs";
import { join } from "node:path";
import { RefusedInput, takeTurn } from "../../core/errors.js";
import { requireWritableFolder } from "../../core/files.js";
import { canonicalJson } from "../../core/hash.js";
import { createRng } from "../../core/rng.js";
import type { Dataset } from "../../data/records.js";
import type { PreparedMethod, PreparedTraining, TrainingState } from "../../edit/contract.js";
import type { EditStep } from "../../edit/trace.js";
import type { LlamaModel } from "../../model/model.js";
import { openSafetensors, writeSafetensors } from "../../model/safetensors-file.js";
import type { TensorToWrite } from "../../model/safetensors-write.js";
import { type Ingredients, refuseOther } from "./checkpoint.js";
import { continueCurve } from "./curve.js";

/*
 * Training of what a method's edits need, whatever it is. The folder gets
 *   METHOD.safetensors       what came of it, when it is finished
 *   checkpoint.safetensors   all that it goes on from
 *   loss.jsonl               its steps, one a line
 */

export interface TrainEditorOptions {
  method: Pick<PreparedMethod, "name" | "seed" | "train" | "method">;
  model: LlamaModel;
  /** Records to train on. */
  data: Pick<Dataset, "sha256" | "records">;
  folder: string;
  /** Name and version of what computes. */
  backend: string;
  /** Steps from one checkpoint to the next. */
  checkpointEvery?: number | undefined;
  /** Stops after the step at work, with a checkpoint. */
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: EditorProgress) => void) | undefined;
}

export interface EditorProgress extends EditStep {
  steps: number;
  secondsLeft: number;
}

const CHECKPOINT = "checkpoint.safetensors";
const LOSS_CURVE = "loss.jsonl";
const CHECKPOINT_EVERY = 20;

/**
 * Trains, or goes on with a training that was stopped. The same model, records, options and backend give the same file,
 * interrupted or not.
 * @returns the path of what came of it
 * @throws {RefusedInput} for a method that needs no training, or a folder with a checkpoint of another one
 * @throws {Interrupted} when the signal is aborted
 */
export async function trainEditor(options: TrainEditorOptions): Promise<string> {
  const { method, model, data, folder, backend, signal, onProgress = () => {} } = options;
  const { checkpointEvery = CHECKPOINT_EVERY } = options;
  const prepared = method.train ?? refuseTraining(method);
  await requireWritableFolder(folder);
  const ingredients = ingredientsOf(options, prepared);
  const checkpoint = join(folder, CHECKPOINT);
  const saved = existsSync(checkpoint) ? await loadTraining(checkpoint, ingredients) : undefined;
  const rng = createRng(method.seed, ["train", method.name]);
  const training = prepared.begin({ model, records: data.records, rng }, saved);
  const begun = saved?.steps ?? 0;
  const curve = await continueCurve(join(folder, LOSS_CURVE), begun);
  const started = performance.now();
  try {
    for (let done = begun; done < training.steps; ) {
      await takeTurn(signal, `training, after step ${done} of ${training.steps}`);
      const report = await training.step();
      done += 1;
      curve.append(report);
      const secondsLeft = ((performance.now() - started) / 1000 / (done - begun)) * (training.steps - done);
      onProgress({ ...report, steps: training.steps, secondsLeft });
      if (done % checkpointEvery === 0 || done === training.steps || signal?.aborted) {
        await saveTraining(checkpoint, await training.state(), ingredients);
      }
    }
    const path = join(folder, `${method.name}.safetensors`);
    await training.save(path, { records: { sha256: data.sha256, used: data.records.length }, backend });
    return path;
  } finally {
    curve.close();
    training.dispose();
  }
}

function refuseTraining({ name, method }: TrainEditorOptions["method"]): never {
  throw new RefusedInput(`${method.title} needs no training`, {
    where: "method",
    found: name,
    expected: "a method with a network of its own, such as mend",
  });
}

function ingredientsOf(
  { method, model, data, backend }: TrainEditorOptions,
  { options }: PreparedTraining,
): Ingredients {
  return {
    method: method.name,
    model: model.sha256,
    records: data.sha256,
    used: String(data.records.length),
    options: canonicalJson(options),
    backend,
  };
}

async function saveTraining(path: string, { steps, tensors }: TrainingState, ingredients: Ingredients): Promise<void> {
  const stored = Object.entries(tensors).map(([name, { shape, data }]): [string, TensorToWrite] => [
    name,
    { dtype: "F32", shape, data },
  ]);
  await writeSafetensors(path, Object.fromEntries(stored), { ...ingredients, step: String(steps) });
}

async function loadTraining(path: string, ingredients: Ingredients): Promise<TrainingState> {
  const file = await openSafetensors(path);
  try {
    refuseOther(file, ingredients);
    const tensors: [string, TrainingState["tensors"][string]][] = [];
    for (const [name, { shape }] of file.tensors) tensors.push([name, { shape, data: await file.read(name) }]);
    return { steps: Number(file.metadata.step), tensors: Object.fromEntries(tensors) };
  } finally {
    await file.close();
  }
}

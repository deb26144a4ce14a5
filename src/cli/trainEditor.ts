import { join, resolve } from "node:path";
import { RefusedInput } from "../core/errors.js";
import { requireWritableFolder, writeFileAtomic } from "../core/files.js";
import { loadRecords } from "../data/load.js";
import type { Dataset } from "../data/records.js";
import { listText } from "../data/world/store.js";
import { methodNamed, prepareNamed } from "../edit/registry.js";
import { backendFor } from "../model/backend.js";
import { loadModel, openCheckpoint } from "../model/folder.js";
import type { WeightPrecision } from "../model/weights.js";
import { formatDuration } from "../notebook/progress.js";
import { DEFAULT_MODEL, withDefaultPreset } from "../run/inputs.js";
import type { BackendName } from "../tensor/backend.js";
import { trainEditor } from "../workshop/train/editor.js";
import { makePractice, recordsToTrainOn } from "../workshop/world/practice.js";

/** Options of `wise-lab train-mend`, as the command line gives them. */
export interface TrainEditorArguments {
  model?: string;
  data?: string;
  limit?: number;
  hparams?: string;
  preset?: string;
  set?: string[];
  out: string;
  weights?: "whole" | "streamed";
  precision?: WeightPrecision;
  backend?: BackendName;
}

/** `wise-lab train-mend`: trains what a method's edits need, or goes on with it. @returns the exit status */
export async function trainEditorCommand(
  name: string,
  options: TrainEditorArguments,
  signal: AbortSignal,
): Promise<number> {
  const folder = options.model ?? DEFAULT_MODEL;
  const checkpoint = await openCheckpoint(folder);
  await checkpoint.close();
  const { config } = checkpoint;
  const given = { file: options.hparams, preset: options.preset, set: options.set };
  const method = await prepareNamed(name, withDefaultPreset(given, config, methodNamed(name)), config);
  const data = await recordsFor(options);
  const backend = await backendFor(config, { ...options, allThreads: true });
  console.error(backend.detail);
  const { weights: residence, precision } = options;
  const model = await loadModel(folder, { residence, precision, cut: method.cut, sites: method.sites });
  try {
    const path = await trainEditor({
      method,
      model,
      data,
      folder: options.out,
      backend: `${backend.name} ${backend.version}`,
      signal,
      onProgress: ({ step, steps, loss, terms, secondsLeft }) => {
        const parts = Object.entries(terms).map(([term, value]) => `${term} ${value.toFixed(3)}`);
        const left = `${formatDuration(secondsLeft * 1000)} left`;
        console.error(`step ${step}/${steps}  loss ${loss.toFixed(3)} (${parts.join(", ")})  ${left}`);
      },
    });
    console.log(path);
    return 0;
  } finally {
    model.dispose();
  }
}

/**
 * The records named; for the project's own model, practice records.
 * @throws {RefusedInput} when none are named for another model
 */
async function recordsFor({ model = DEFAULT_MODEL, data, limit, out }: TrainEditorArguments): Promise<Dataset> {
  if (data !== undefined) return loadRecords(data, { limit });
  if (resolve(model) !== resolve(DEFAULT_MODEL)) {
    throw new RefusedInput("no records to train on", {
      where: "--data",
      found: undefined,
      expected: "a file of records that share no fact with those that will be edited",
    });
  }
  await requireWritableFolder(out);
  const path = join(out, "practice.json");
  await writeFileAtomic(path, listText(recordsToTrainOn(makePractice({ seed: 0 }))));
  return loadRecords(path, { limit });
}

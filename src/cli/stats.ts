import { RefusedInput } from "../core/errors.js";
import { backendFor } from "../model/backend.js";
import { openCheckpoint } from "../model/folder.js";
import { formatDuration } from "../notebook/progress.js";
import { DEFAULT_MODEL } from "../run/inputs.js";
import { type CollectProgress, collectCovariances } from "../stats/collect.js";
import { openForKeys } from "../stats/norms.js";
import { ownTexts } from "../stats/own-texts.js";
import { defaultStatsFolder } from "../stats/places.js";
import { readTexts, type TextList } from "../stats/texts.js";
import type { BackendName } from "../tensor/backend.js";
import { createProgressLine } from "./run.js";

/** Options of `wise-lab stats`, as the command line gives them. */
export interface StatsArguments {
  model?: string;
  texts?: string;
  layers: number[];
  samples?: number;
  dataset?: string;
  length?: number;
  out?: string;
  keepEvery?: number;
  backend?: BackendName;
}

/** `wise-lab stats`. Prints a progress line and the files. @returns the exit status */
export async function statsCommand(options: StatsArguments, signal: AbortSignal): Promise<number> {
  const folder = options.model ?? DEFAULT_MODEL;
  const checkpoint = await openCheckpoint(folder);
  await checkpoint.close();
  const texts = await textsFor(folder, options);
  const backend = await backendFor(checkpoint.config, options);
  const model = await openForKeys(checkpoint);
  const line = createProgressLine();
  try {
    console.error(backend.detail);
    const collected = await collectCovariances(model, {
      texts: { ...texts, name: options.dataset ?? texts.name },
      layers: options.layers,
      folder: options.out ?? defaultStatsFolder(),
      cutAfter: options.length,
      keepEvery: options.keepEvery,
      signal,
      onProgress: (progress) => line.show(progressText(progress), progress.share === 1),
      onNotice: (notice) => console.error(notice),
    });
    line.end();
    for (const { layer, path, made } of collected)
      console.log(`layer ${layer}: ${path}${made ? "" : ", there already"}`);
    return 0;
  } finally {
    model.dispose();
  }
}

/** @throws {RefusedInput} when no texts are named for a model that is not the project's own */
async function textsFor(folder: string, { texts, samples }: StatsArguments): Promise<TextList> {
  if (texts !== undefined) return readTexts(texts, { samples });
  const own = await ownTexts(folder, samples);
  if (own !== null) return own;
  throw new RefusedInput("no texts to collect statistics from", {
    where: "--texts",
    found: undefined,
    expected: "a file of texts, such as those that the model was trained on",
    hint: "wise-lab stats --model FOLDER --texts FILE --layers 4-8",
  });
}

function progressText({ share, secondsLeft }: CollectProgress): string {
  const left = secondsLeft === null ? "" : `, ${formatDuration(secondsLeft * 1000)} left`;
  return `collected ${Math.floor(100 * share)} %${left}`;
}

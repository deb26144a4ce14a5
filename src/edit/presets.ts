import { fileURLToPath } from "node:url";
import { readText } from "../core/files.js";
import type { OptionTexts } from "./hparams.js";

/** Hyperparameter files on disk; presets are the project's own, in data/hparams. */
export const textsOnDisk: OptionTexts = {
  presetPath: (method, preset) =>
    fileURLToPath(new URL(`../../data/hparams/${method}/${preset}.yaml`, import.meta.url)),
  read: readText,
};

import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { nearest, RefusedInput } from "../../core/errors.js";
import { errorText, readText } from "../../core/files.js";
import type { OptionSource } from "../contract.js";
import { DENSE_MERGES, keysWithoutEffect, type WiseKey, type WiseOptions, wiseKeys, wiseVariants } from "./options.js";
import { type WiseValues, wiseSchema } from "./schema.js";

export { describeWiseOptions, type WiseOptions } from "./options.js";

/** Hyperparameter files that come with the project, in data/hparams/NAME.yaml. */
export const presets = {
  "paper-llama-2-7b": "LLaMA-2-7B as in the paper: WISE-Merge, table 10; n_iter and act_ratio from the released file",
  "llama-2-7b": "LLaMA-2-7B as released",
  "mistral-7b": "Mistral-7B as released",
  "llama-3-8b": "LLaMA-3-8B as released since 2024-12-14",
  "llama-3-8b-2024-11": "LLaMA-3-8B as released before 2024-12-14: act_ratio 0.88",
  lab: "the small LLaMA of the made-up world that comes with the project; chosen on records that are not among its 1037",
  tiny: "the four-layer golden checkpoint of the tests",
} as const;

/** With both a preset and a file, what the file leaves out comes from the preset; single settings win over both. */
export interface WiseOptionSource extends OptionSource {
  /** Layers of the model, to refuse a layer it does not have. */
  numLayers?: number | undefined;
}

/** A value with the place it was read from, for errors. */
interface Setting {
  value: unknown;
  where: string;
}

type Settings = Map<string, Setting>;

/**
 * Resolves the options of WISE: preset, then file, then single settings.
 * @returns the options, and the keys that were accepted but change nothing here, each with the reason.
 * @throws {RefusedInput} for an unknown key (with the nearest valid one), a missing or mistyped value, or values that
 * exclude each other; with the file and key, what was found and what is allowed.
 */
export async function loadWiseOptions(source: WiseOptionSource): Promise<{ options: WiseOptions; ignored: string[] }> {
  const { file, preset, set = [], numLayers } = source;
  if (file === undefined && preset === undefined) {
    throw new RefusedInput("WISE has no hyperparameters", {
      where: "the options of WISE",
      found: "neither a file nor a preset",
      expected: `a YAML file, or a preset: ${Object.keys(presets).join(", ")}`,
    });
  }
  const settings: Settings = new Map();
  const sources = [
    ...(preset === undefined ? [] : [await readFileSettings(presetPath(preset))]),
    ...(file === undefined ? [] : [await readFileSettings(file)]),
    ...set.map(readSingleSetting),
  ];
  const ignored = new Set<string>();
  for (const found of sources) {
    for (const [key, setting] of found) {
      if (Object.hasOwn(wiseKeys, key)) settings.set(key, setting);
      else ignored.add(`${key}: ${keysWithoutEffect[key]}`);
    }
  }
  const values = check(settings);
  requireConsistent(values, settings, numLayers);
  if (values.replay && !values.retrieve) ignored.add("replay: only WISE-Retrieve replays past edits");
  return { options: resolve(values), ignored: [...ignored] };
}

function presetPath(preset: string): string {
  if (!Object.hasOwn(presets, preset)) {
    const near = nearest(preset, Object.keys(presets));
    throw new RefusedInput("an unknown preset", {
      where: "the options of WISE",
      found: preset,
      expected: `one of ${Object.keys(presets).join(", ")}`,
      ...(near ? { hint: near } : {}),
    });
  }
  return fileURLToPath(new URL(`../../../data/hparams/${preset}.yaml`, import.meta.url));
}

async function readFileSettings(path: string): Promise<Settings> {
  const entries = readYaml(await readText(path), path);
  if (typeof entries !== "object" || entries === null || Array.isArray(entries)) {
    throw new RefusedInput("a hyperparameter file holds no keys", {
      where: path,
      found: entries,
      expected: "one `key: value` per line",
    });
  }
  return readEntries(Object.entries(entries), path);
}

function readSingleSetting(setting: string): Settings {
  const [key = "", ...rest] = setting.split("=");
  if (rest.length === 0) {
    throw new RefusedInput("a setting has no value", { where: "--set", found: setting, expected: "key=value" });
  }
  return readEntries([[key.trim(), readYaml(rest.join("="), `--set ${key}`)]], "--set");
}

/** Version 1.1 is what PyYAML reads: `True` and `yes` are truth values there. */
function readYaml(text: string, where: string): unknown {
  try {
    return parse(text, { version: "1.1" });
  } catch (cause) {
    throw new RefusedInput("a text is not YAML", {
      where,
      found: errorText(cause),
      expected: "YAML, every key once",
      cause,
    });
  }
}

function readEntries(entries: [string, unknown][], where: string): Settings {
  const settings: Settings = new Map();
  for (const [key, value] of entries) {
    const place = `${where}, key ${key}`;
    if (key === "inner_params") settings.set("layer", { value: layerOfInnerParams(value, place), where: place });
    else if (Object.hasOwn(wiseKeys, key) || Object.hasOwn(keysWithoutEffect, key))
      settings.set(key, { value, where: place });
    else refuseUnknownKey(key, where);
  }
  const given = entries.map(([key]) => key);
  if (given.includes("layer") && given.includes("inner_params")) {
    throw new RefusedInput("the layer is given twice", {
      where,
      found: "layer and inner_params",
      expected: "one of the two",
    });
  }
  return settings;
}

function refuseUnknownKey(key: string, where: string): never {
  const known = [...Object.keys(wiseKeys), "inner_params", ...Object.keys(keysWithoutEffect)];
  const near = nearest(key, known);
  throw new RefusedInput("an unknown hyperparameter", {
    where,
    found: key,
    expected: near ? `a known key; the nearest is ${near}` : `one of ${known.join(", ")}`,
  });
}

/** Layer number of `["model.layers[27].mlp.down_proj.weight"]`, which may also be written `model.layers.27.`. */
function layerOfInnerParams(value: unknown, where: string): number {
  const name: unknown = Array.isArray(value) && value.length === 1 ? value[0] : undefined;
  const match =
    typeof name === "string" ? /^model\.layers(?:\[(\d+)\]|\.(\d+))\.mlp\.down_proj(?:\.weight)?$/.exec(name) : null;
  const digits = match?.[1] ?? match?.[2];
  if (digits === undefined) {
    throw new RefusedInput("inner_params does not name one value matrix", {
      where,
      found: value,
      expected: "a list of one name: model.layers[N].mlp.down_proj.weight",
    });
  }
  return Number(digits);
}

function check(settings: Settings): WiseValues {
  const result = wiseSchema.safeParse(Object.fromEntries([...settings].map(([key, { value }]) => [key, value])));
  if (result.success) return result.data;
  const key = result.error.issues[0]?.path[0] as WiseKey;
  const setting = settings.get(key);
  throw new RefusedInput(setting ? "a hyperparameter has a value it cannot have" : "a hyperparameter is missing", {
    where: setting?.where ?? `key ${key}`,
    found: setting?.value,
    expected: wiseKeys[key].expected,
    ...(setting ? {} : { hint: "name a preset beside the file: it fills in what the file leaves out" }),
  });
}

function requireConsistent(values: WiseValues, settings: Settings, numLayers: number | undefined): void {
  const refuse = (key: WiseKey, expected: string): never => {
    const { value, where } = settings.get(key) as Setting;
    throw new RefusedInput("a hyperparameter does not fit", { where, found: value, expected });
  };
  if (values.merge_freq % values.save_freq !== 0) {
    refuse("merge_freq", `a multiple of save_freq, which is ${values.save_freq}`);
  }
  if (values.densities === null && !DENSE_MERGES.includes(values.merge_alg)) {
    refuse("densities", `a number above 0, at most 1: merge_alg ${values.merge_alg} keeps only a share of each delta`);
  }
  if (numLayers !== undefined && values.layer >= numLayers) {
    refuse("layer", `a layer of the model: 0 to ${numLayers - 1}`);
  }
}

function resolve(values: WiseValues): WiseOptions {
  const variant = wiseVariants[values.variant ?? "released"];
  const [alpha, beta, gamma] = values.act_margin;
  return {
    layer: values.layer,
    lr: values.edit_lr,
    steps: values.n_iter,
    maskRatio: values.mask_ratio,
    alpha,
    beta,
    gamma,
    actRatio: values.act_ratio,
    normConstraint: values.norm_constraint === false ? null : values.norm_constraint,
    saveFreq: values.save_freq,
    mergeFreq: values.merge_freq,
    mergeAlg: values.merge_alg,
    density: values.densities ?? 1,
    mergeWeight: values.weights,
    retrieve: values.retrieve,
    replay: values.retrieve && values.replay,
    chatTemplate: values.use_chat_template ?? false,
    doubleBos: values.double_bos ?? variant.double_bos,
    activationOnDistance: values.distance_act ?? variant.distance_act,
    lossDividesByTargetsPlusOne: values.label_mean_extra ?? variant.label_mean_extra,
    weightDecay: values.weight_decay ?? variant.weight_decay,
    longSequenceMax: values.long_sequence_max ?? variant.long_sequence_max,
    seed: values.seed ?? 0,
  };
}

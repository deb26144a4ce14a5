import { z } from "zod";
import type { EditMethod } from "./contract.js";
import type { FixedKey, OptionSpec } from "./option-table.js";
import { index, numeric } from "./option-types.js";

/** Options of every method, after its own. */
const commonOptions: Readonly<Record<string, OptionSpec>> = {
  seed: {
    ...index,
    default: 0,
    meaning: "whatever the method draws at random follows from it",
    source: "this project; the released code draws from the global stream",
  },
};

/** Keys of every method that may have one value only, unless it has an option of that name. */
export const commonFixed: Readonly<Record<string, FixedKey>> = {
  batch_size: {
    schema: () => numeric(z.literal(1)),
    expected: "only 1: records are edited one after another",
    meaning: "edits made at once",
    source: "released files",
  },
};

const MODULE_NAMES = "the matrices are those of a LLaMA";

/** Keys of released files that change nothing here, whatever the method, each with the reason. */
export const keysWithoutEffect: Readonly<Record<string, string>> = {
  model_name: "the model is the folder that the run names",
  device: "the backend is chosen with --backend",
  model_parallel: "the model is held by one backend",
  fp16: "the precision is chosen with --precision",
  max_length: "sequences are not cut",
  save_path: "an edit state is saved where the caller says",
  load_path: "an edit state is loaded where the caller says",
  padding_side: "padding never changes a number here",
  enable_thinking: "LLaMA chat templates have no thinking mode",
  attn_implementation: "there is one implementation of attention",
  language_model_only: "only language models are loaded",
  rewrite_module_tmp: MODULE_NAMES,
  layer_module_tmp: MODULE_NAMES,
  mlp_module_tmp: MODULE_NAMES,
  attn_module_tmp: MODULE_NAMES,
  ln_f_module: MODULE_NAMES,
  lm_head_module: MODULE_NAMES,
};

/** Names that every object has, such as "constructor", are no keys. */
export function isOwn(table: Readonly<Record<string, unknown>>, key: string): boolean {
  return Object.hasOwn(table, key);
}

/** Every key that a method takes. */
export interface Keys {
  options: Readonly<Record<string, OptionSpec>>;
  fixed: Readonly<Record<string, FixedKey>>;
  withoutEffect: Readonly<Record<string, string>>;
  /** Keys that released files use in place of an option's own, each with that option. */
  released: Readonly<Record<string, string>>;
  /** Keys that select others. */
  selectors: readonly string[];
}

export function keysOf(method: EditMethod): Keys {
  const released = Object.entries(method.options).flatMap(([key, spec]) =>
    spec.released === undefined ? [] : [[spec.released.key, key] as const],
  );
  const options = { ...method.options, ...commonOptions };
  const common = Object.entries(commonFixed).filter(([key]) => !isOwn(options, key));
  return {
    options,
    fixed: { ...Object.fromEntries(common), ...method.fixed },
    withoutEffect: { ...keysWithoutEffect, ...method.withoutEffect },
    released: Object.fromEntries(released),
    selectors: method.variants === undefined ? ["alg_name"] : ["alg_name", "variant"],
  };
}

export function namesOf(keys: Keys): string[] {
  const { options, released, fixed, selectors, withoutEffect } = keys;
  return [...selectors, ...[options, released, fixed, withoutEffect].flatMap((part) => Object.keys(part))];
}

/** An option as documentation shows it. */
export interface OptionRow {
  key: string;
  expected: string;
  /** "required" where a file or preset must give it; by variant where those differ. */
  default: string;
  meaning: string;
  source: string;
  /** "inference": other values of it need no new edits. */
  read: "editing" | "inference";
}

/** The options of a method as a table: one row each, in the order in which they are recorded. */
export function describeOptions(method: EditMethod): OptionRow[] {
  return Object.entries(keysOf(method).options).map(([key, spec]) => {
    const { expected, meaning, source, read = "editing" } = spec;
    return { key, expected, default: defaultOf(method, key, spec), meaning, source, read };
  });
}

function defaultOf({ variants = {} }: EditMethod, key: string, spec: OptionSpec): string {
  const named = Object.entries(variants).filter(([, values]) => values[key] !== undefined);
  if (named.length === 0) return shown(spec.default);
  return named.map(([variant, values]) => `${variant} ${shown(values[key])}`).join(", ");
}

const SMALL = 1e-3;

function shown(value: unknown): string {
  if (value === undefined) return "required";
  if (typeof value === "number" && value !== 0 && Math.abs(value) < SMALL) return value.toExponential();
  return typeof value === "string" ? value : JSON.stringify(value);
}

import type { z } from "zod";
import type { LlamaConfig } from "../model/config.js";

/* The forms in which a method states its options, and a user gives them. */

/** Resolved options by their released keys, plain JSON, as they are recorded with every number. */
export type Options = Record<string, unknown>;

/** One option of a method. */
export interface OptionSpec<T = unknown> {
  schema: z.ZodType<T>;
  /** Allowed values, in words. */
  expected: string;
  /** Taken where neither file, preset nor variant gives a value; without one, one of them must. */
  default?: T;
  /** Value of runs and edits that were made before the option was known. */
  unsaid?: T;
  meaning: string;
  /** Equation of the paper, file of the released code, or "this project". */
  source: string;
  /** "inference": editing never sees it, so that the same edits serve every value. */
  read?: "inference";
  /** False for the place of side data: the sha256 of what was read there is recorded instead. */
  recorded?: false;
  /** Key that released files use in its place, and how its value is read. */
  released?: { key: string; read(value: unknown, where: string): T };
  /** Words of tables for a value that says little by itself: the head of its column, and each value in a word. */
  spoken?: { head: string; say: Readonly<Record<string, string>> };
}

/** The options of a method, one row each, in reading order. */
export type OptionTable<O extends Options> = { [K in keyof O]-?: OptionSpec<O[K]> };

/** A key of which a method knows one value only: it is checked, but it is no option and is not recorded. */
export interface FixedKey {
  /** Takes that value, for a model of this shape. */
  schema(model: LlamaConfig): z.ZodType;
  /** The value, in words. */
  expected: string;
  meaning: string;
  source: string;
}

/** A hyperparameter file that comes with the project: data/hparams/METHOD/NAME.yaml. */
export interface Preset {
  /** Its purpose and the source of its values, in a line. */
  meaning: string;
  /** True where no released file has these values: they are a proposal of this project. */
  ours?: boolean;
}

/** Sources of a method's options: a file or a preset, then single settings on top. */
export interface OptionSource {
  file?: string | undefined;
  preset?: string | undefined;
  /** "key=value" */
  set?: readonly string[] | undefined;
}

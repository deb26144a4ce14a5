import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import type { LlamaConfig } from "../model/config.js";
import { moduleName, type Site, siteOfModule } from "../model/patch.js";
import type { OptionSpec } from "./option-table.js";

/** Values that an option may have, and the same in words. */
export type Values<T> = Pick<OptionSpec<T>, "schema" | "expected">;

/** PyYAML hands `1e-5` over as a string, and the released loader turns every string that is a number into one. */
export const numeric = <T>(schema: z.ZodType<T>): z.ZodType<T> =>
  z.preprocess((value) => (typeof value === "string" && value.trim() !== "" ? Number(value) : value), schema);

export const above0: Values<number> = { schema: numeric(z.number().positive()), expected: "a number above 0" };

export const atLeast0: Values<number> = {
  schema: numeric(z.number().nonnegative()),
  expected: "a number of at least 0",
};

export const share: Values<number> = {
  schema: numeric(z.number().positive().max(1)),
  expected: "a number above 0, at most 1",
};

export const count: Values<number> = { schema: numeric(z.int().positive()), expected: "a whole number above 0" };

export const index: Values<number> = {
  schema: numeric(z.int().nonnegative()),
  expected: "a whole number of at least 0",
};

export const flag: Values<boolean> = { schema: z.boolean(), expected: "true or false" };

/** A bound that a file may switch off with `null` or `false`; null where it is off. */
export const above0OrNone: Values<number | null> = {
  schema: z.preprocess((value) => (value === false ? null : value), above0.schema.nullable()),
  expected: "a number above 0, or null or false for none",
};

export const text: Values<string> = { schema: z.string().min(1), expected: "a text" };

export function oneOf<const T extends string>(names: readonly T[]): Values<T> {
  return { schema: z.enum(names), expected: `one of ${names.join(", ")}` };
}

/** The layer of methods that edit the value matrix of one. */
export const layerOption: OptionSpec<number> = {
  schema: index.schema,
  expected: "a layer counted from 0; or inner_params: [model.layers[N].mlp.down_proj.weight]",
  meaning: "layer whose value matrix is edited; in files as inner_params",
  source: "released files, inner_params",
  released: { key: "inner_params", read: layerOfInnerParams },
};

/** The layers of methods that edit the value matrices of several. */
export const layersOption: OptionSpec<readonly number[]> = {
  schema: z
    .array(index.schema)
    .min(1)
    .refine((layers) => new Set(layers).size === layers.length),
  expected: "a list of layers counted from 0, each once",
  meaning: "layers whose value matrices are edited",
  source: "released files",
};

const matrix = z
  .string()
  .refine((name) => siteOfModule(name) !== null)
  .transform((name) => moduleName(siteOfModule(name) as Site));

/** Names of matrices as released files spell them; one spelling comes of it, that of `moduleName`. */
export const matrices: Values<readonly string[]> = {
  schema: z
    .array(matrix)
    .min(1)
    .refine((names) => new Set(names).size === names.length),
  expected: "a list of matrices such as model.layers.11.mlp.gate_proj, each once",
};

/** The matrices of such names, in their order. */
export function sitesOfMatrices(names: readonly string[]): Site[] {
  return names.map((name) => siteOfModule(name) as Site);
}

/** Layers that a model has, in words. */
export function layersOf({ layers }: LlamaConfig): string {
  return `a layer of the model: 0 to ${layers - 1}`;
}

/** Layer number of `["model.layers[27].mlp.down_proj.weight"]`, which may also be written `model.layers.27.`. */
function layerOfInnerParams(value: unknown, where: string): number {
  const site = Array.isArray(value) && value.length === 1 ? siteOfModule(String(value[0])) : null;
  if (site?.matrix === "down") return site.layer;
  throw new RefusedInput("inner_params does not name one value matrix", {
    where,
    found: value,
    expected: "a list of one name: model.layers[N].mlp.down_proj.weight",
  });
}

import { z } from "zod";
import { MERGE_ALGORITHMS, type WiseKey } from "./options.js";

/** PyYAML hands `1e-5` over as a string, and the released loader turns every string that is a number into one. */
const numeric = <S extends z.ZodType>(schema: S) =>
  z.preprocess((value) => (typeof value === "string" && value.trim() !== "" ? Number(value) : value), schema);

const above0 = numeric(z.number().positive());
const atLeast0 = numeric(z.number().nonnegative());
const share = numeric(z.number().positive().max(1));
const count = numeric(z.int().positive());
const index = numeric(z.int().nonnegative());

/** The keys of a hyperparameter file: those of the released WISEHyperParams that have an effect, and this project's own. */
export const wiseSchema = z.object({
  alg_name: z.literal("WISE").optional(),
  layer: index,
  edit_lr: above0,
  n_iter: count,
  mask_ratio: share,
  act_margin: z.tuple([atLeast0, atLeast0, atLeast0]),
  act_ratio: atLeast0,
  norm_constraint: z.union([above0, z.null(), z.literal(false)]),
  save_freq: count,
  merge_freq: count,
  merge_alg: z.enum(MERGE_ALGORITHMS),
  densities: share.nullable(),
  weights: above0,
  retrieve: z.boolean(),
  replay: z.boolean(),
  objective_optimization: z.literal("only_label").optional(),
  use_chat_template: z.boolean().optional(),
  batch_size: numeric(z.literal(1)).optional(),
  variant: z.enum(["released", "paper"]).optional(),
  double_bos: z.boolean().optional(),
  distance_act: z.boolean().optional(),
  label_mean_extra: z.boolean().optional(),
  weight_decay: atLeast0.optional(),
  long_sequence_max: z.boolean().optional(),
  seed: index.optional(),
} satisfies Record<WiseKey, z.ZodType>);

export type WiseValues = z.output<typeof wiseSchema>;

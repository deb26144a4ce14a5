import { RefusedInput } from "../../core/errors.js";
import { tensorShapes } from "../../model/checkpoint.js";
import type { LlamaConfig } from "../../model/config.js";
import type { SafetensorsFile } from "../../model/safetensors.js";
import { openSafetensors, writeSafetensors } from "../../model/safetensors-file.js";
import type { TensorToWrite } from "../../model/safetensors-write.js";
import { tf } from "../../tensor/tf.js";
import type { Moving } from "./adamw.js";
import { disposeState, type TrainingState } from "./trainer.js";

/*
 * A training checkpoint is one safetensors file in float32: weight, first and second moment of every tensor, and in its
 * metadata the step and what the training is made of. Nothing else is needed to go on, and nothing is rounded.
 */

/** Ingredients of a training, by name: a checkpoint continues only a training with the same values. */
export type Ingredients = Readonly<Record<string, string>>;

const PARTS = ["weight", "first", "second"] as const satisfies (keyof Moving)[];

/** Writes the state whole or not at all. */
export async function saveState(path: string, state: TrainingState, ingredients: Ingredients): Promise<void> {
  const tensors: Record<string, TensorToWrite> = {};
  for (const [name, moving] of Object.entries(state.moving)) {
    for (const part of PARTS) {
      const { shape } = moving[part];
      tensors[`${part}/${name}`] = { dtype: "F32", shape, data: await moving[part].data<"float32">() };
    }
  }
  await writeSafetensors(path, tensors, { ...ingredients, step: String(state.step) });
}

/**
 * Reads a state back, exactly.
 * @throws {RefusedInput} when the checkpoint belongs to another training: the ingredient that differs is named
 */
export async function loadState(path: string, config: LlamaConfig, ingredients: Ingredients): Promise<TrainingState> {
  const file = await openSafetensors(path);
  try {
    refuseOther(file, ingredients);
    const state: TrainingState = { step: Number(file.metadata.step), moving: {} };
    try {
      for (const [name, shape] of tensorShapes(config)) state.moving[name] = await readMoving(file, name, shape);
      return state;
    } catch (error) {
      disposeState(state);
      throw error;
    }
  } finally {
    await file.close();
  }
}

async function readMoving(file: SafetensorsFile, name: string, shape: number[]): Promise<Moving> {
  const values = [];
  for (const part of PARTS) values.push(await file.read(`${part}/${name}`, { finite: true }));
  const [weight, first, second] = values.map((data) => tf.tensor(data, shape)) as [tf.Tensor, tf.Tensor, tf.Tensor];
  return { weight, first, second };
}

/** @throws {RefusedInput} naming the ingredient of a checkpoint that is not the training's */
export function refuseOther(
  { path, metadata }: Pick<SafetensorsFile, "path" | "metadata">,
  ingredients: Ingredients,
): void {
  for (const [name, expected] of Object.entries(ingredients)) {
    if (metadata[name] === expected) continue;
    throw new RefusedInput(`a checkpoint belongs to another training: its ${name} differs`, {
      where: `${path}: ${name}`,
      found: metadata[name],
      expected,
      hint: "use another folder, or remove this checkpoint to start again",
    });
  }
}

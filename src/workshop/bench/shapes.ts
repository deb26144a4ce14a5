import { join } from "node:path";
import { prepareNamed } from "../../edit/registry.js";
import type { WiseOptions } from "../../edit/wise/options.js";
import type { LlamaConfig } from "../../model/config.js";
import { loadTokenizer, openCheckpoint } from "../../model/folder.js";
import { type StandInName, standInFor } from "../../model/known.js";
import type { Residence } from "../../model/model.js";
import { isStandIn } from "../stand-in/record.js";
import { writeStandIn } from "../stand-in/write.js";

/** The sides of the benchmark. `whole` and `reference` run the whole model at every step. */
const SIDES = ["whole", "cut", "reference"] as const;
export type Side = (typeof SIDES)[number];

export type ShapeName = "lab" | "1b" | "8b";

/** A size of model that is measured, and how. */
export interface BenchShape {
  /** As `--only` and the table name it. */
  title: ShapeName;
  /** The published model whose stand-in is measured where no checkpoint is named; none for the project's own model. */
  standIn: StandInName | null;
  preset: "lab" | "llama-3-8b";
  /** 0-based edit layer. */
  layer: number;
  sides: readonly Side[];
  /** Place of the cut's weights: in memory where they fit into that of a small machine. */
  residence: Residence;
}

export const SHAPES = {
  lab: { title: "lab", standIn: null, preset: "lab", layer: 3, sides: SIDES, residence: "whole" },
  // Third from last, as layer 29 of 32.
  "1b": { title: "1b", standIn: "llama-3.2-1b", preset: "llama-3-8b", layer: 13, sides: SIDES, residence: "whole" },
  "8b": { title: "8b", standIn: "llama-3-8b", preset: "llama-3-8b", layer: 29, sides: ["cut"], residence: "streamed" },
} as const satisfies Record<ShapeName, BenchShape>;

/** A shape with its checkpoint and the options of its edits. */
export interface BenchModel {
  shape: BenchShape;
  folder: string;
  standIn: boolean;
  config: LlamaConfig;
  options: WiseOptions;
}

/**
 * Finds out what is needed to measure a checkpoint.
 * @throws {RefusedInput} when it has not the layers of its shape
 */
export async function benchModel(shape: BenchShape, folder: string): Promise<BenchModel> {
  const { config, close } = await openCheckpoint(folder);
  await close();
  const { hasChatTemplate } = await loadTokenizer(folder, config);
  // A stand-in has no chat template: plain prompts then, as a base model is asked.
  const set = [`layer=${shape.layer}`, ...(hasChatTemplate ? [] : ["use_chat_template=false"])];
  const { options } = await prepareNamed("wise", { preset: shape.preset, set }, config);
  return { shape, folder, standIn: await isStandIn(folder), config, options: options as WiseOptions };
}

/**
 * Makes the stand-in of a shape, or finds it finished.
 * @throws {RefusedInput} where the disk has too little room
 */
export async function makeStandIn(
  shape: BenchShape,
  { cache, ...options }: { cache: string; signal?: AbortSignal; onProgress?: (line: string) => void },
): Promise<string> {
  const name = shape.standIn as StandInName;
  const { folder } = await writeStandIn(standInFor(name), {
    folder: join(cache, name),
    ...(options.signal ? { signal: options.signal } : {}),
    onProgress: ({ file, done, total }) =>
      options.onProgress?.(
        `stand-in for ${name}: ${file}, ${(done / 1e9).toFixed(2)} of ${(total / 1e9).toFixed(2)} GB`,
      ),
  });
  return folder;
}

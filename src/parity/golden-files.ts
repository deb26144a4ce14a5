import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { readJsonFile } from "../core/files.js";
import { MERGE_ALGORITHMS } from "../edit/wise/options.js";

/*
 * The files of a folder of golden vectors: a reference implementation's inputs and results in float64, with the
 * checkpoints they were made on. Field names are those of the files.
 */

const ids = z.array(z.number().int());

/** records.json */
export const recordsSchema = z.object({
  records: z.array(
    z.object({ src: z.string(), rephrase: z.string(), alt: z.string(), loc: z.string(), loc_ans: z.string() }),
  ),
  irrelevant: z.array(z.string()),
  templates: z.array(z.string()),
  /** Per model: a prompt continued greedily. */
  greedy: z.record(z.string(), ids),
  tokens: z.record(z.string(), ids),
  chat: z.object({ message: z.string(), rendered: z.string() }),
});

const step = z.object({
  step: z.number().int(),
  ft: z.number(),
  act: z.number(),
  loss: z.number(),
  in_scope: z.number(),
  out_of_scope: z.number(),
});

const edit = z.object({
  edit: z.number().int(),
  ids: z.array(ids),
  attention: z.array(ids),
  /** -100 off target. */
  labels: z.array(ids),
  steps: z.array(step),
  n_steps: z.number().int(),
  min_act: z.number(),
  memories: z.number().int(),
  merged: z.boolean(),
});

const probe = z.object({
  ids,
  prompt_tokens: z.number().int(),
  pre: ids,
  post: ids,
  target: ids,
  score: z.number(),
  pre_score: z.number().nullable(),
  /** Retrieve: -1 main, an index that memory, the number of memories the side memory. Merge: main, merged, side. */
  route: z.union([z.number().int(), z.string()]),
  /** Retrieve: [Delta, min_act] of the side memory, then of each memory. Merge: Delta merged, Delta side, threshold. */
  distances: z.union([z.array(z.tuple([z.number(), z.number()])), z.tuple([z.number(), z.number(), z.number()])]),
});

/** wise-NAME.json */
export const wiseSchema = z.object({
  model: z.string(),
  layer: z.number().int(),
  options: z.object({
    lr: z.number(),
    steps: z.number().int(),
    alpha: z.number(),
    beta: z.number(),
    gamma: z.number(),
    act_ratio: z.number(),
    norm_constraint: z.number().nullable(),
    save_freq: z.number().int(),
    merge_freq: z.number().int(),
    density: z.number(),
    merge_weight: z.number(),
    retrieve: z.boolean(),
    merge: z.enum(MERGE_ALGORITHMS),
    distance_act: z.boolean(),
    label_mean_extra: z.boolean(),
    weight_decay: z.number(),
  }),
  templates: z.array(z.string()),
  edits: z.array(edit),
  evaluation: z.array(z.object({ src: z.string(), rewrite: probe, rephrase: probe, loc: probe })),
  mean: z.object({ rewrite: z.number(), rephrase: z.number(), loc: z.number() }),
});

export type GoldenRecords = z.infer<typeof recordsSchema>;
export type GoldenWise = z.infer<typeof wiseSchema>;
export type GoldenEdit = z.infer<typeof edit>;
export type GoldenProbe = z.infer<typeof probe>;

/** What a golden folder holds. */
export interface GoldenFolder {
  folder: string;
  records: GoldenRecords;
  /** Names of the checkpoints: the folders with a config.json. */
  models: string[];
  /** Checkpoints with a forward-MODEL.safetensors. */
  forward: string[];
  /** What wise-NAME.json holds, by NAME. */
  scenarios: ReadonlyMap<string, GoldenWise>;
}

/** Lists and checks a golden folder. @throws {RefusedInput} when it is none */
export async function openGolden(folder: string): Promise<GoldenFolder> {
  const files = await listFiles(folder);
  const named = (pattern: RegExp) => files.map((file) => pattern.exec(file)?.[1]).filter((name) => name !== undefined);
  const models: string[] = [];
  for (const name of files) {
    if ((await listFiles(join(folder, name), [])).includes("config.json")) models.push(name);
  }
  const names = named(/^wise-(.+)\.json$/);
  if (models.length === 0 || names.length === 0) {
    throw new RefusedInput("not a folder of golden vectors", {
      where: folder,
      found: files.join(", "),
      expected: "records.json, at least one checkpoint folder and one wise-NAME.json with its wise-NAME.safetensors",
    });
  }
  const records = await readGolden(join(folder, "records.json"), recordsSchema);
  const scenarios = new Map<string, GoldenWise>();
  for (const name of names) scenarios.set(name, await readGolden(join(folder, `wise-${name}.json`), wiseSchema));
  const golden = { folder, records, models, forward: named(/^forward-(.+)\.safetensors$/), scenarios };
  requireComplete(golden);
  return golden;
}

/** What cannot be compared must not look as if it had passed. */
function requireComplete({ folder, records, models, forward, scenarios }: GoldenFolder): void {
  const uses = forward.map((model) => ({ file: `forward-${model}.safetensors`, model, edits: 0 }));
  for (const [name, { model, edits, evaluation }] of scenarios) {
    uses.push({ file: `wise-${name}.json`, model, edits: Math.max(edits.length, evaluation.length) });
  }
  for (const { file, model, edits } of uses) {
    if (!models.includes(model)) {
      throw new RefusedInput("golden vectors of a checkpoint that is not there", {
        where: join(folder, file),
        found: model,
        expected: `a folder of that name; there is ${models.join(", ")}`,
      });
    }
    if (edits > records.records.length) {
      throw new RefusedInput("golden vectors of records that are not there", {
        where: join(folder, file),
        found: `${edits} edits`,
        expected: `at most ${records.records.length}, the records of records.json`,
      });
    }
  }
}

async function listFiles(folder: string, otherwise?: string[]): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (cause) {
    if (otherwise !== undefined) return otherwise;
    throw new RefusedInput("cannot read the folder of golden vectors", {
      where: folder,
      found: cause instanceof Error ? cause.message : cause,
      expected: "a folder with records.json, checkpoints and wise-NAME files",
      cause,
    });
  }
}

/** Reads one JSON file of a golden folder. @throws {RefusedInput} naming the field that differs */
export async function readGolden<S extends z.ZodType>(path: string, schema: S): Promise<z.infer<S>> {
  const parsed = schema.safeParse(await readJsonFile(path));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new RefusedInput("a golden file has another form", {
    where: `${path}, ${issue?.path.join(".") ?? ""}`,
    found: issue?.message,
    expected: "the fields that the golden folder's README lists",
  });
}

import { readdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { z } from "zod";
import { errorText, RefusedInput } from "../../core/errors.js";
import { exists, readJsonFile } from "../../core/files.js";
import type { SafetensorsFile } from "../../model/safetensors.js";
import { openSafetensors } from "../../model/safetensors-file.js";

/*
 * The files of a folder of golden vectors: a reference implementation's inputs and results in float64. Field names are
 * those of the files. The checkpoint that they were made on lies in the folder, or in a folder "golden" beside it.
 */

export const ids = z.array(z.number().int());

export const goldenRecord = z.object({
  src: z.string(),
  rephrase: z.string(),
  alt: z.string(),
  loc: z.string(),
  loc_ans: z.string(),
});

/** records.json */
const recordsSchema = z.object({
  records: z.array(goldenRecord),
  irrelevant: z.array(z.string()),
  templates: z.array(z.string()),
  /** Per model: a prompt continued greedily. */
  greedy: z.record(z.string(), ids),
  tokens: z.record(z.string(), ids),
  chat: z.object({ message: z.string(), rendered: z.string() }),
});

/** The fields by which a scenario is told; the rest is the scenario's own. */
const scenarioSchema = z.looseObject({ model: z.string(), method: z.string().optional() });

export type GoldenRecord = z.infer<typeof goldenRecord>;
export type GoldenRecords = z.infer<typeof recordsSchema>;

/** One scenario: what a reference did with a method, in NAME.json and NAME.safetensors. */
export interface GoldenScenario {
  folder: string;
  /** "ft-l-released" */
  name: string;
  /** The registered method that understands it: "ft-l"; null where none does. */
  method: string | null;
  /** Name of the checkpoint it was made on. */
  model: string;
  /** Contents of NAME.json; `readScenario` checks them. */
  json: unknown;
  records: GoldenRecords;
}

/** Contents of a golden folder. */
export interface GoldenFolder {
  folder: string;
  records: GoldenRecords;
  /** Folders of the checkpoints, by name. */
  checkpoints: ReadonlyMap<string, string>;
  /** Checkpoints with a forward-MODEL.safetensors. */
  forward: string[];
  scenarios: GoldenScenario[];
  notBuilt: NotBuilt[];
  /** Files that belong to no scenario. */
  unread: string[];
}

/** A scenario of a method that is not built, with all of its files. */
export interface NotBuilt {
  name: string;
  files: string[];
}

/** Options of reading a golden folder. */
export interface GoldenOptions {
  /** Folder of the checkpoint that the scenarios were made on, where it lies elsewhere. */
  model?: string | undefined;
  /** The methods that are understood. */
  methods: readonly string[];
}

/** Files that say something about vectors, and hold none. */
const ABOUT = /^(README.*|.*\.md|records\.json)$/;
const FORWARD = /^forward-(.+)\.safetensors$/;

/** Lists and checks a golden folder. @throws {RefusedInput} when it is none */
export async function openGolden(path: string, options: GoldenOptions): Promise<GoldenFolder> {
  const folder = resolve(path);
  const files = (await listFiles(path)).filter((file) => !ABOUT.test(file));
  const own = await checkpointsIn(folder, files);
  const forward = files.map((file) => FORWARD.exec(file)?.[1]).filter((name) => name !== undefined);
  const found = await findScenarios(folder, files, options.methods);
  if (found.length === 0) {
    throw new RefusedInput("not a folder of golden vectors", {
      where: path,
      found: files.join(", "),
      expected: "at least one scenario: NAME.json with its NAME.safetensors",
    });
  }
  const built = found.filter(({ method }) => method !== null);
  const checkpoints = await findCheckpoints(folder, { own, built, model: options.model });
  requireCheckpoints(folder, forward, checkpoints);
  const records = await readGolden(await findRecords(folder, [...checkpoints.values()]), recordsSchema);
  const others = files.filter((file) => !own.has(file) && !FORWARD.test(file));
  const filesOf = (scenario: FoundScenario) => others.filter((file) => ownerOf(file, found) === scenario);
  return {
    folder,
    records,
    checkpoints,
    forward,
    scenarios: built.map((scenario) => ({ ...scenario, records })),
    notBuilt: found
      .filter(({ method }) => method === null)
      .map((scenario) => ({ name: scenario.name, files: filesOf(scenario) })),
    unread: others.filter((file) => ownerOf(file, found) === undefined),
  };
}

async function listFiles(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (cause) {
    throw new RefusedInput("cannot read the folder of golden vectors", {
      where: folder,
      found: errorText(cause),
      expected: "a folder with scenarios: NAME.json with its NAME.safetensors",
      cause,
    });
  }
}

async function checkpointsIn(folder: string, files: readonly string[]): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const file of files) {
    if (await exists(join(folder, file, "config.json"))) found.set(file, join(folder, file));
  }
  return found;
}

type FoundScenario = Omit<GoldenScenario, "records">;

async function findScenarios(folder: string, files: readonly string[], methods: readonly string[]) {
  const found: FoundScenario[] = [];
  for (const file of files) {
    const name = /^(.+)\.json$/.exec(file)?.[1];
    if (name === undefined) continue;
    const json = await readJsonFile(join(folder, file));
    // A file of a known method is a scenario or refused; any other is named among the files that nobody reads.
    if (methodOf(name, methods) === null && !scenarioSchema.safeParse(json).success) continue;
    const { model, method = name } = checkForm(json, scenarioSchema, join(folder, file));
    found.push({ folder, name, method: methodOf(method, methods), model, json });
  }
  return found;
}

/** The method that a name begins with: "ft-l" of "FT-L" and of "ft-l-released". */
function methodOf(name: string, methods: readonly string[]): string | null {
  return longestStart(name.toLowerCase(), methods, (method) => method) ?? null;
}

/** The scenario that a file belongs to: its own, or what a method brings along, such as "mend-archive.pt" of "mend". */
function ownerOf(file: string, scenarios: readonly FoundScenario[]): FoundScenario | undefined {
  const found = longestStart(file, scenarios, ({ name }) => name);
  if (found === undefined || found.method === null) return found;
  const { name } = found;
  return [name, `${name}.json`, `${name}.safetensors`, `${name}-archive.pt`].includes(file) ? found : undefined;
}

function longestStart<T>(text: string, candidates: readonly T[], nameOf: (candidate: T) => string): T | undefined {
  const starts = candidates.filter((candidate) => {
    const name = nameOf(candidate);
    return text === name || text.startsWith(`${name}-`) || text.startsWith(`${name}.`);
  });
  return starts.sort((a, b) => nameOf(b).length - nameOf(a).length)[0];
}

async function findCheckpoints(
  folder: string,
  { own, built, model }: { own: ReadonlyMap<string, string>; built: FoundScenario[]; model: string | undefined },
): Promise<Map<string, string>> {
  const found = new Map(own);
  const named = new Map(built.map((scenario) => [scenario.model, scenario]));
  if (model !== undefined && named.size > 1) {
    throw new RefusedInput("one checkpoint cannot stand in for several", {
      where: "--model",
      found: model,
      expected: `scenarios of one checkpoint; here are some of ${[...named.keys()].join(", ")}`,
    });
  }
  for (const [name, scenario] of named) {
    const beside = join(dirname(folder), "golden", name);
    if (model !== undefined) found.set(name, resolve(model));
    else if (!found.has(name) && (await exists(join(beside, "config.json")))) found.set(name, beside);
    if (!found.has(name)) refuseCheckpoint(join(folder, `${scenario.name}.json`), name, found);
  }
  return found;
}

function requireCheckpoints(folder: string, forward: readonly string[], checkpoints: ReadonlyMap<string, string>) {
  const missing = forward.find((name) => !checkpoints.has(name));
  if (missing !== undefined) refuseCheckpoint(join(folder, `forward-${missing}.safetensors`), missing, checkpoints);
}

/** Refusal of a folder that cannot be compared: it must not look as if it had passed. */
function refuseCheckpoint(where: string, name: string, found: ReadonlyMap<string, string>): never {
  throw new RefusedInput("golden vectors of a checkpoint that is not there", {
    where,
    found: name,
    expected: `a checkpoint of that name here or in a folder "golden" beside; there is ${[...found.keys()].join(", ") || "none"}`,
    hint: "--model FOLDER",
  });
}

/** Beside the vectors, beside their checkpoint, or in a folder "golden" beside them. */
async function findRecords(folder: string, checkpoints: readonly string[]): Promise<string> {
  const folders = [folder, ...checkpoints.map((checkpoint) => dirname(checkpoint)), join(dirname(folder), "golden")];
  for (const candidate of folders) {
    const path = join(candidate, "records.json");
    if (await exists(path)) return path;
  }
  return join(folder, "records.json"); // refused when it is read
}

/** Reads one JSON file of a golden folder. @throws {RefusedInput} naming the field that differs */
async function readGolden<S extends z.ZodType>(path: string, schema: S): Promise<z.infer<S>> {
  return checkForm(await readJsonFile(path), schema, path);
}

/** Contents of NAME.json in the form of its method. @throws {RefusedInput} naming the field that differs */
export function readScenario<S extends z.ZodType>(scenario: GoldenScenario, schema: S): z.infer<S> {
  return checkForm(scenario.json, schema, jsonPath(scenario));
}

function checkForm<S extends z.ZodType>(content: unknown, schema: S, path: string): z.infer<S> {
  const parsed = schema.safeParse(content);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new RefusedInput("a golden file has another form", {
    where: `${path}, ${issue?.path.join(".") ?? ""}`,
    found: issue?.message,
    expected: "the fields that the golden folder's README lists",
  });
}

/** A record of records.json that a scenario uses. @throws {RefusedInput} when there is none of that number */
export function recordAt(scenario: GoldenScenario, index: number): GoldenRecord {
  const { records } = scenario.records;
  const found = records[index];
  if (found !== undefined) return found;
  throw new RefusedInput("golden vectors of records that are not there", {
    where: jsonPath(scenario),
    found: `record ${index}`,
    expected: `a record below ${records.length}, of those in records.json`,
  });
}

function jsonPath({ folder, name }: Pick<GoldenScenario, "folder" | "name">): string {
  return join(folder, `${name}.json`);
}

/** Lends the tensors of a scenario. @throws {RefusedInput} when NAME.safetensors is not there, or damaged */
export async function withTensors<T>(scenario: GoldenScenario, use: (file: SafetensorsFile) => Promise<T>): Promise<T> {
  const file = await openSafetensors(join(scenario.folder, `${scenario.name}.safetensors`));
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { errorText, RefusedInput } from "../core/errors.js";
import { readJsonFile, sha256File, writeFileAtomic } from "../core/files.js";
import { sha256Json } from "../core/hash.js";
import type { EditTrace } from "../edit/trace.js";
import { hashRun } from "../run/folder.js";
import type { Lab } from "../run/lab.js";
import { precisionOf } from "../run/plan.js";
import type { RunSummary } from "../run/summary.js";
import type { ScoredRun } from "../run/types.js";
import { backendText } from "../tensor/names.js";
import type { Figure } from "./figure.js";

/*
 * Beside NAME.json, a figure, lies NAME.source.json: where its numbers come from, and the sha256 of NAME.json. It holds
 * neither times nor paths, so that the same figure of the same runs has the same bytes.
 */

/** A row of a publication, by what its source file says of itself; its numbers are hashed with it. */
interface PublishedSource {
  source: string;
  url: string | null;
  read: string;
  file: string;
}

/** Sources of the numbers of a figure. */
export interface FigureSource {
  /** Command that makes the figure again, as a user types it. */
  command?: string;
  runs?: readonly (ScoredRun | RunSummary)[];
  /** An edit made by hand, and the lab that made it. */
  edit?: { trace: EditTrace; lab: Pick<Lab, "model" | "method" | "backend"> };
  published?: readonly PublishedSource[];
  /** Other files, by their paths. */
  files?: readonly string[];
}

const ENDING = ".source.json";

/**
 * Writes BASE.source.json beside BASE.json, which is there already.
 * @returns its path
 * @throws {RefusedInput} for a source that names nothing
 */
export async function writeSource(basePath: string, source: FigureSource): Promise<string> {
  const { command, runs = [], edit, published = [], files = [] } = source;
  if (runs.length + published.length + files.length === 0 && edit === undefined) {
    throw new RefusedInput("a figure without a source cannot be checked", {
      where: `source of ${basename(basePath)}`,
      found: "nothing",
      expected: "runs, an edit, published rows or files",
    });
  }
  const sidecar = {
    command,
    runs: runs.length === 0 ? undefined : await Promise.all(runs.map(runSource)),
    edit: edit && editSource(edit),
    published: published.length === 0 ? undefined : publishedSources(published),
    files: files.length === 0 ? undefined : await Promise.all(files.map(fileSource)),
    figureSha256: await sha256File(`${basePath}.json`),
  };
  const path = basePath + ENDING;
  await writeFileAtomic(path, `${JSON.stringify(sidecar, null, 1)}\n`);
  return path;
}

/**
 * Identity of a run: of a run folder, or of a summary of one, the sha256 of its edits.jsonl and scores.jsonl; of a
 * run in memory, that of its edits without their seconds and of its scores, as canonical JSON.
 */
async function runSource(run: ScoredRun | RunSummary): Promise<object> {
  const { protocol } = run;
  if ("sha256" in run) return { protocol, command: run.command, sha256: run.sha256 };
  if (run.folder) return { protocol, sha256: await hashRun(run.folder) };
  const edits = run.edits?.map(({ seconds, ...edit }) => edit);
  return { protocol, sha256: { edits: edits && sha256Json(edits), scores: sha256Json(run.scores) } };
}

function editSource({ trace, lab: { model, method, backend } }: NonNullable<FigureSource["edit"]>): object {
  const { seconds, ...steps } = trace;
  return {
    method: method.name,
    options: method.options,
    model: model.name,
    modelSha256: model.sha256,
    seed: method.seed,
    backend: backendText(backend),
    precision: precisionOf(model, backend),
    sha256: sha256Json(steps),
  };
}

/** Each source once, with the sha256 of its rows that the figure was given. */
function publishedSources(rows: readonly PublishedSource[]): object[] {
  return [...new Set(rows.map((row) => row.source))].map((source) => {
    const own = rows.filter((row) => row.source === source);
    const { url, read, file } = own[0] as PublishedSource;
    return { source, url, read, file, rows: own.length, sha256: sha256Json(own) };
  });
}

async function fileSource(path: string): Promise<object> {
  return { file: basename(path), sha256: await sha256File(path) };
}

/**
 * The paths of all figures in a folder that have a sidecar, without their endings.
 * @throws {RefusedInput} when the folder cannot be read or holds none
 */
export async function figuresIn(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((cause: unknown) => {
    throw new RefusedInput("a folder of figures cannot be read", {
      where: folder,
      found: errorText(cause),
      expected: "a folder that figures were saved to",
      cause,
    });
  });
  const sidecars = names.filter((name) => name.endsWith(ENDING)).sort();
  if (sidecars.length === 0) {
    throw new RefusedInput("a folder holds no figures", {
      where: folder,
      found: `no file NAME${ENDING}`,
      expected: "figures with their sources, as saveFigure writes them",
    });
  }
  return sidecars.map((name) => join(folder, name.slice(0, -ENDING.length)));
}

const sidecarSchema = z.object({ figureSha256: z.string() });
const figureSchema = z.object({ data: z.array(z.unknown()), layout: z.object(), config: z.object() });

/** Reads a figure. @throws {RefusedInput} when it is not the one that its sidecar was written for */
export async function readFigure(basePath: string): Promise<Figure> {
  const path = `${basePath}.json`;
  const sidecar = sidecarSchema.safeParse(await readJsonFile(basePath + ENDING));
  const sha256 = await sha256File(path);
  if (sidecar.data?.figureSha256 !== sha256) {
    throw new RefusedInput("a figure is not the one that its source was written for", {
      where: path,
      found: `sha256 ${sha256}`,
      expected: `sha256 ${sidecar.data?.figureSha256}, as ${basename(basePath)}${ENDING} says`,
      hint: "save the figure anew from its runs",
    });
  }
  const figure = await readJsonFile(path);
  if (figureSchema.safeParse(figure).success) return figure as Figure;
  throw new RefusedInput("not a figure", { where: path, found: figure, expected: "data, layout and config of plotly" });
}

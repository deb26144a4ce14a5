import { fileURLToPath } from "node:url";
import { RefusedInput } from "../core/errors.js";
import { createRng } from "../core/rng.js";
import { loadIrrelevant } from "../data/load.js";
import { runFrozen } from "../model/frozen.js";
import type { LlamaModel } from "../model/model.js";
import { openTorchFile, StoredTensor } from "../torch/torch-file.js";
import { openForKeys } from "./norms.js";
import type { NullSpace } from "./null-space.js";

/** Matrix of a released file of projections: which, of how many, and that of which layer it should be. */
export interface ProjectionPlace {
  /** 0-based, along the first axis. */
  index: number;
  count: number;
  layer: number;
}

/** P^2 x and P x may differ by this share: float32 sums of thousands of numbers do. */
const ROUNDING = 1e-2;

/**
 * Keys of another model or layer have about as much of their square in the null space as a vector drawn at random, dimensions / m of it:
 * 0.95 to 0.99 of that (measured). A model's own have less: 0.62 of it in a model of random weights, whose keys are the
 * least alike, 0.40 and 0.48 in the project's own.
 */
const LARGEST_SHARE = 0.8;

/** Of each the last key. */
const TEXTS = 24;

/**
 * Opens one projection of AlphaEdit's null_space_project.pt, [count, m, m], which names neither its model nor its layers:
 * both are told from the model's own keys.
 * @throws {RefusedInput} for another shape, what is no projection, or that of another model or layer
 */
export async function openProjection(
  path: string,
  owner: Pick<LlamaModel, "name" | "folder" | "config">,
  place: ProjectionPlace,
): Promise<NullSpace> {
  const m = owner.config.intermediateSize;
  const matrix = await readMatrix(path, m, place);
  const project = (k: Float64Array) => times(matrix, k);
  const where = `${path}, matrix ${place.index}`;
  requireProjection(project, m, where);
  await requireOwn(project, owner, { layer: place.layer, where, dimensions: traceOf(matrix, m) });
  return { size: m, project };
}

async function readMatrix(path: string, m: number, { index, count }: ProjectionPlace): Promise<Float32Array> {
  const file = await openTorchFile(path);
  try {
    const { value } = file;
    const shape = [count, m, m];
    if (value instanceof StoredTensor && value.shape.join() === shape.join()) return await value.at(index).read();
    throw new RefusedInput("a file holds no projections of these layers", {
      where: path,
      found: value instanceof StoredTensor ? `a tensor [${value.shape.join(", ")}]` : "no tensor",
      expected: `one tensor [${shape.join(", ")}]: a matrix for each edited layer, of the model's intermediate size`,
    });
  } finally {
    await file.close();
  }
}

function requireProjection(project: NullSpace["project"], m: number, where: string): void {
  const rng = createRng(0);
  const [x, y] = [0, 1].map(() => Float64Array.from({ length: m }, () => rng.normal())) as [Float64Array, Float64Array];
  const [px, py] = [project(x), project(y)];
  const again = project(px).map((value, i) => value - (px[i] as number));
  const isIdempotent = length(again) <= ROUNDING * length(px);
  const isSymmetric = Math.abs(dot(y, px) - dot(x, py)) <= ROUNDING * length(px) * length(y);
  if (isIdempotent && isSymmetric && length(px) > 0) return;
  throw new RefusedInput("a matrix is no projection", {
    where,
    found: length(px) === 0 ? "a matrix that leaves nothing" : isSymmetric ? "P P is not P" : "P is not symmetric",
    expected: "a symmetric matrix of which the square is itself",
  });
}

async function requireOwn(
  project: NullSpace["project"],
  owner: Pick<LlamaModel, "name" | "folder" | "config">,
  { layer, where, dimensions }: { layer: number; where: string; dimensions: number },
): Promise<void> {
  const { prompts } = await loadIrrelevant(fileURLToPath(new URL("../../data/irrelevant.json", import.meta.url)));
  const model = await openForKeys(owner);
  try {
    const m = model.config.intermediateSize;
    const sequences = prompts.slice(0, TEXTS).map((text) => model.tokenizer.encode(text));
    const cuts = await runFrozen(model, sequences, { point: { layer, at: "mlpIn" } });
    const keys = cuts.map(({ mlpIn }) => Float64Array.from((mlpIn as Float32Array).slice(-m)));
    const within = keys.reduce((sum, key) => sum + (length(project(key)) / length(key)) ** 2, 0) / keys.length;
    const any = dimensions / m;
    if (within <= LARGEST_SHARE * any) return;
    throw new RefusedInput("a projection is of another model or layer", {
      where,
      found: `${percent(within)} of the square of keys of ${owner.name}, layer ${layer}, in its null space`,
      expected: `far less than the ${percent(any)} that any vector has in ${Math.round(dimensions)} of ${m} dimensions`,
    });
  } finally {
    model.dispose();
  }
}

const percent = (share: number) => `${(100 * share).toFixed(0)} %`;

function traceOf(matrix: Float32Array, m: number): number {
  let sum = 0;
  for (let i = 0; i < m; i++) sum += matrix[i * (m + 1)] as number;
  return sum;
}

function times(matrix: Float32Array, x: Float64Array): Float64Array {
  const m = x.length;
  return Float64Array.from({ length: m }, (_, i) => {
    let sum = 0;
    for (let j = 0; j < m; j++) sum += (matrix[i * m + j] as number) * (x[j] as number);
    return sum;
  });
}

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, x, i) => sum + x * (b[i] as number), 0);
}

function length(vector: Float64Array): number {
  return Math.sqrt(dot(vector, vector));
}

import { RefusedInput } from "../core/errors.js";
import { widenBf16 } from "../core/float-bits.js";
import { type Bf16Matrix, packBf16 } from "../tensor/bf16.js";
import { keepTransposed } from "../tensor/linear.js";
import { tf } from "../tensor/tf.js";
import { tensorLimit } from "../tensor/webgpu.js";
import { type Checkpoint, EMBEDDING, FINAL_NORM, headName, type LayerTensor, layerTensorNames } from "./checkpoint.js";
import type { LlamaLayer, OutputWeights } from "./llama.js";
import type { Site } from "./patch.js";
import type { RowRange } from "./safetensors.js";
import type { Shard, Weight } from "./weight.js";

/** Precision of matrices: float32, or bf16, which rounds what the files hold more precisely. Norms stay float32. */
export type WeightPrecision = "float32" | "bf16";

/** Weights that were read, to be freed. */
export type Held = (tf.Tensor | Bf16Matrix)[];

/** Reads weights of a checkpoint into tensors. */
export interface WeightReader {
  /** A decoder layer, without the parts that `given` brings. */
  layer(index: number, given?: Partial<LlamaLayer>): Promise<LlamaLayer>;
  /** One matrix, [out, in], in row shards where the backend takes less in one tensor; unpacked, unless it may be packed. */
  matrix(site: Site, options: { packed: boolean }): Promise<Weight>;
  /** Final norm and output head. */
  output(): Promise<OutputWeights>;
}

/** Most bytes of one row shard of the output head as float32: what stands twice in memory while it is read. */
export const HEAD_SHARD_BYTES = 256 * 1024 ** 2;

const NORMS: readonly LayerTensor[] = ["inputNorm", "postNorm"];

interface ReaderSetting {
  precision: WeightPrecision;
  /** bf16 matrices stay packed, for weights that are kept; otherwise they are unpacked at once, to be used and dropped. */
  packed: boolean;
  /** Takes in all that is read, also when reading fails on the way. */
  held: Held;
}

/** @throws {RefusedInput} when reading, for a file that became shorter or holds what is no finite number */
export function weightReader(checkpoint: Checkpoint, setting: ReaderSetting): WeightReader {
  const { config, shapes } = checkpoint;
  const keep = <W extends tf.Tensor | Bf16Matrix>(weight: W): W => {
    setting.held.push(weight);
    return weight;
  };

  /** Row shards of a matrix, each of at most some bytes as float32. */
  async function shards(name: string, { bytes, packed }: { bytes: number; packed: boolean }): Promise<Shard[]> {
    const [count, columns] = shapes.get(name) as [number, number];
    const rowsOfOne = Math.max(1, Math.floor(bytes / (4 * columns)));
    const read: Shard[] = [];
    for (let start = 0; start < count; start += rowsOfOne) {
      read.push(await shard(name, { rows: [start, Math.min(count, start + rowsOfOne)], columns, packed }));
    }
    return read;
  }

  async function shard(
    name: string,
    { rows, columns, packed }: { rows: RowRange; columns: number; packed: boolean },
  ): Promise<Shard> {
    const shape: [number, number] = [rows[1] - rows[0], columns];
    // Bits are half the bytes to read and to hand over, and the backend widens them faster than JavaScript does.
    if (setting.precision === "float32" && !checkpoint.isBf16(name)) {
      return whole(keep(tf.tensor2d(await checkpoint.read(name, { rows }), shape)));
    }
    const matrix = packBf16(await checkpoint.readBf16(name, { rows }), shape);
    if (setting.precision === "bf16" && packed) return keep(matrix);
    const values = keep(matrix.unpack());
    matrix.dispose();
    return whole(values);
  }

  async function matrix(name: string, { packed }: { packed: boolean }): Promise<Weight> {
    const read = await shards(name, { bytes: tensorLimit(), packed });
    return read.length === 1 ? (read[0] as Shard) : read;
  }

  /**
   * A matrix for a while is multiplied as one that stays, which decides the last bits: those that stay packed have no copy.
   */
  function whole(matrix: tf.Tensor2D): tf.Tensor2D {
    const staysPacked = setting.precision === "bf16" && !setting.packed;
    const copy = staysPacked ? null : keepTransposed(matrix);
    if (copy !== null) keep(copy);
    return matrix;
  }

  const vector = async (name: string) => keep(tf.tensor1d(await checkpoint.read(name)));

  return {
    async layer(index, given = {}) {
      const made: Partial<Record<LayerTensor, Weight | tf.Tensor1D>> = { ...given };
      const read = async ([key, name]: [LayerTensor, string]) => {
        made[key] ??= NORMS.includes(key) ? await vector(name) : await matrix(name, { packed: setting.packed });
      };
      // All at once: the disk reads one matrix while another is widened. None is left behind reading when one fails.
      const all = await Promise.allSettled(
        (Object.entries(layerTensorNames(index)) as [LayerTensor, string][]).map(read),
      );
      for (const one of all) if (one.status === "rejected") throw one.reason;
      return made as LlamaLayer;
    },
    matrix: ({ layer, matrix: name }, options) => matrix(layerTensorNames(layer)[name], options),
    async output() {
      const bytes = Math.min(HEAD_SHARD_BYTES, tensorLimit());
      const head = await shards(headName(config), { bytes, packed: setting.packed });
      return { finalNorm: await vector(FINAL_NORM), head };
    },
  };
}

/**
 * Holds a model against what the backend takes in one tensor: matrices that edits move stay whole, as do their deltas,
 * gradients and masks; the others can be cut into rows.
 * @throws {RefusedInput} naming the matrix, its bytes and the limit
 */
export function requireTensors({ name, shapes }: Pick<Checkpoint, "name" | "shapes">, sites: readonly Site[]): void {
  const limit = tensorLimit();
  const uncut = new Set(sites.map(({ layer, matrix }) => layerTensorNames(layer)[matrix]));
  for (const [tensor, shape] of shapes) {
    const edited = uncut.has(tensor);
    const bytes = 4 * (edited ? tf.util.sizeFromShape([...shape]) : (shape.at(-1) as number));
    if (bytes <= limit) continue;
    throw new RefusedInput(`a ${edited ? "matrix that edits move" : "row of weights"} is too large for this card`, {
      where: `${name}, ${tensor}`,
      found: `${bytes} bytes as float32`,
      expected: `at most ${limit} bytes, which is what the card takes in one tensor`,
      hint: "another backend (--backend tensorflow, or wasm), a card that takes more, or a smaller model",
    });
  }
}

/** Embeddings of token ids, each row read once. -> [N, D], the caller disposes it */
export async function readEmbeddings(
  checkpoint: Checkpoint,
  ids: ArrayLike<number>,
  precision: WeightPrecision,
): Promise<tf.Tensor2D> {
  const D = checkpoint.config.hiddenSize;
  const rows = new Map<number, Float32Array>();
  for (const id of new Set(Array.from(ids))) {
    rows.set(id, await readValues(checkpoint, EMBEDDING, { rows: [id, id + 1], precision }));
  }
  const values = new Float32Array(ids.length * D);
  for (let i = 0; i < ids.length; i++) values.set(rows.get(ids[i] as number) as Float32Array, i * D);
  return tf.tensor2d(values, [ids.length, D]);
}

export function disposeAll(held: Held): void {
  for (const weight of held) weight.dispose();
}

/** float32 values, rounded to bf16 where that is the precision. */
async function readValues(
  checkpoint: Checkpoint,
  name: string,
  { rows, precision }: { rows?: RowRange | undefined; precision: WeightPrecision },
): Promise<Float32Array> {
  if (precision === "float32") return checkpoint.read(name, { rows });
  const bits = await checkpoint.readBf16(name, { rows });
  const values = new Float32Array(bits.length);
  widenBf16(bits, values);
  return values;
}

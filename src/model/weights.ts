import { widenBf16 } from "../core/float-bits.js";
import { type Bf16Matrix, packBf16 } from "../tensor/bf16.js";
import { keepTransposed } from "../tensor/linear.js";
import { tf } from "../tensor/tf.js";
import { type Checkpoint, EMBEDDING, FINAL_NORM, headName, type LayerTensor, layerTensorNames } from "./checkpoint.js";
import type { LlamaLayer, OutputWeights, Weight } from "./llama.js";
import type { Site } from "./patch.js";
import type { RowRange } from "./safetensors.js";

/** Precision of matrices: float32, or bf16, which rounds what the files hold more precisely. Norms stay float32. */
export type WeightPrecision = "float32" | "bf16";

/** Weights that were read, to be freed. */
export type Held = (tf.Tensor | Bf16Matrix)[];

/** Reads weights of a checkpoint into tensors. */
export interface WeightReader {
  /** A decoder layer, without the parts that `given` brings. */
  layer(index: number, given?: Partial<LlamaLayer>): Promise<LlamaLayer>;
  /** One matrix, [out, in]; unpacked, unless it may be packed. */
  matrix(site: Site, options: { packed: boolean }): Promise<Weight>;
  /** Final norm and output head. */
  output(): Promise<OutputWeights>;
}

/** Bytes of one row shard of the output head as float32: what stands twice in memory while it is read. */
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

  async function matrix(name: string, { rows, packed }: { rows?: RowRange; packed: boolean }): Promise<Weight> {
    const [count, columns] = shapes.get(name) as [number, number];
    const shape: [number, number] = [rows === undefined ? count : rows[1] - rows[0], columns];
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

  /** A matrix that is kept is multiplied often. */
  function whole(matrix: tf.Tensor2D): tf.Tensor2D {
    const copy = setting.packed ? keepTransposed(matrix) : null;
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
      const { hiddenSize: D, vocabSize: V } = config;
      const rowsPerShard = Math.max(1, Math.floor(HEAD_SHARD_BYTES / (4 * D)));
      const head: Weight[] = [];
      for (let start = 0; start < V; start += rowsPerShard) {
        const rows: RowRange = [start, Math.min(V, start + rowsPerShard)];
        head.push(await matrix(headName(config), { rows, packed: setting.packed }));
      }
      return { finalNorm: await vector(FINAL_NORM), head };
    },
  };
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

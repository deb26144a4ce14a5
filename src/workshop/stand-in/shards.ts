import { layerTensorNames, tensorShapes } from "../../model/checkpoint.js";
import type { LlamaConfig } from "../../model/config.js";
import { DTYPE_BYTES } from "../../model/safetensors-header.js";
import { encodeHeader, inFileOrder } from "../../model/safetensors-write.js";
import type { StoredDtype } from "./values.js";

/** A file of weights before it is written. */
export interface ShardPlan {
  file: string;
  header: Uint8Array;
  /** In the order of the file. */
  tensors: [name: string, { dtype: StoredDtype; shape: readonly number[] }][];
  /** Of the whole file. */
  bytes: number;
}

/**
 * Divides a model's tensors among files as Transformers' save_pretrained does: in the order of its modules, and a new
 * file where the next tensor would make this one larger than `maxBytes`. One file needs no number.
 */
export function planShards(config: LlamaConfig, dtype: StoredDtype, maxBytes: number): ShardPlan[] {
  const groups: ShardPlan["tensors"][] = [];
  let room = 0;
  for (const [name, shape] of inModuleOrder(config)) {
    const bytes = tensorBytes(shape, dtype);
    if (bytes > room) {
      groups.push([]);
      room = maxBytes;
    }
    groups.at(-1)?.push([name, { dtype, shape }]);
    room -= bytes;
  }
  return groups.map((group, i) => {
    const tensors = inFileOrder(group);
    const header = encodeHeader(tensors, { format: "pt" });
    const bytes = header.length + dataBytes({ tensors });
    return { file: shardName(i, groups.length), header, tensors, bytes };
  });
}

/** The content of model.safetensors.index.json. */
export function shardIndex(shards: readonly ShardPlan[]) {
  const places = shards.flatMap(({ file, tensors }) => tensors.map(([name]) => [name, file] as const));
  places.sort(([a], [b]) => (a < b ? -1 : 1));
  const total_size = shards.reduce((sum, shard) => sum + dataBytes(shard), 0);
  return { metadata: { total_size }, weight_map: Object.fromEntries(places) };
}

/** Bytes of the tensors alone. */
function dataBytes({ tensors }: Pick<ShardPlan, "tensors">): number {
  return tensors.reduce((sum, [, { shape, dtype }]) => sum + tensorBytes(shape, dtype), 0);
}

function tensorBytes(shape: readonly number[], dtype: StoredDtype): number {
  return shape.reduce((product, extent) => product * extent, DTYPE_BYTES[dtype]);
}

/** All tensors as the modules of Transformers' LLaMA hold them: in a layer, the norms come last. */
function inModuleOrder(config: LlamaConfig): [string, number[]][] {
  const shapes = tensorShapes(config);
  const layers = Array.from({ length: config.layers }, (_, index) => {
    const { inputNorm, postNorm, ...matrices } = layerTensorNames(index);
    return [...Object.values(matrices), inputNorm, postNorm];
  }).flat();
  const [embedding, ...others] = shapes.keys();
  const inLayers = new Set(layers);
  const order = [embedding as string, ...layers, ...others.filter((name) => !inLayers.has(name))];
  return order.map((name) => [name, shapes.get(name) as number[]]);
}

function shardName(index: number, count: number): string {
  if (count === 1) return "model.safetensors";
  const digits = (value: number) => String(value).padStart(5, "0");
  return `model-${digits(index + 1)}-of-${digits(count)}.safetensors`;
}

import { RefusedInput } from "../core/errors.js";
import { widenBf16, widenF16 } from "../core/float-bits.js";
import type { ZipEntry, ZipFile } from "../core/zip.js";
import { Made, type PickleValue } from "./pickle.js";

/** Bytes of an item, by dtype. */
export const itemBytes = {
  ...{ float64: 8, float32: 4, float16: 2, bfloat16: 2 },
  ...{ int64: 8, int32: 4, int16: 2, int8: 1, uint8: 1, bool: 1 },
} as const;

export type StoredDtype = keyof typeof itemBytes;

/** dtype of each class of storages. */
export const storageTypes: ReadonlyMap<string, StoredDtype> = new Map([
  ["torch.DoubleStorage", "float64"],
  ["torch.FloatStorage", "float32"],
  ["torch.HalfStorage", "float16"],
  ["torch.BFloat16Storage", "bfloat16"],
  ["torch.LongStorage", "int64"],
  ["torch.IntStorage", "int32"],
  ["torch.ShortStorage", "int16"],
  ["torch.CharStorage", "int8"],
  ["torch.ByteStorage", "uint8"],
  ["torch.BoolStorage", "bool"],
]);

/** Items in a file, of which tensors are views. */
export class Storage extends Made {
  readonly stateful = false;
  constructor(
    readonly dtype: StoredDtype,
    readonly entry: ZipEntry,
  ) {
    super();
  }
}

/** A tensor that is read from its file when it is asked for. */
export class StoredTensor extends Made {
  readonly stateful = false;
  private constructor(
    private readonly zip: ZipFile,
    private readonly storage: Storage,
    /** In items of the storage. */
    private readonly offset: number,
    private readonly strides: readonly number[],
    readonly shape: readonly number[],
  ) {
    super();
  }

  /**
   * The tensor of (storage, offset, shape, strides, ...), as torch._utils._rebuild_tensor_v2 takes them.
   * @throws {RefusedInput} when it goes beyond its storage, or is larger: a few bytes could stand for any number of items
   */
  static rebuilt(zip: ZipFile, [storage, offset, shape, strides]: readonly PickleValue[]): StoredTensor {
    const [extents, steps, starts] = [countsOf(shape), countsOf(strides), countsOf([offset ?? null])];
    if (!(storage instanceof Storage) || extents === null || steps?.length !== extents.length || starts === null) {
      refuse(zip.path, "a tensor without a storage, an offset, a shape or strides", "all of them");
    }
    const tensor = new StoredTensor(zip, storage, starts[0] as number, steps, extents);
    const items = storage.entry.bytes / itemBytes[storage.dtype];
    const size = extents.reduce((product, extent) => product * extent, 1);
    if (tensor.end > items)
      refuse(tensor.where, `a tensor up to item ${tensor.end}`, `at most ${items} in its storage`);
    if (size > items) refuse(tensor.where, `a tensor of ${size} items`, `at most the ${items} of its storage`);
    return tensor;
  }

  /** Its part at an index of the first axis. */
  at(index: number): StoredTensor {
    const [extent, ...shape] = this.shape;
    const [step, ...strides] = this.strides;
    if (extent === undefined || step === undefined || !(index >= 0 && index < extent))
      throw new RangeError(`index ${index} of a tensor [${this.shape.join(", ")}]`);
    return new StoredTensor(this.zip, this.storage, this.offset + index * step, strides, shape);
  }

  private get where(): string {
    return `${this.zip.path}: ${this.storage.entry.name}`;
  }

  /** The item behind its last one. */
  private get end(): number {
    if (this.shape.includes(0)) return this.offset;
    return (
      this.shape.reduce((sum, extent, axis) => sum + (extent - 1) * (this.strides[axis] as number), this.offset) + 1
    );
  }

  /**
   * Its values as float32, row-major, proven by the storage's CRC.
   * @throws {RefusedInput} for a dtype other than float32, float16 and bfloat16, or a damaged file
   */
  async read(): Promise<Float32Array> {
    const items = await this.items();
    return isRowMajor(this.shape, this.strides) ? items : gathered(items, this.shape, this.strides);
  }

  /** Its items of the storage as float32, first to last. All of the storage is read, so that its CRC is proven. */
  private async items(): Promise<Float32Array> {
    const { dtype, entry } = this.storage;
    if (dtype !== "float32" && dtype !== "float16" && dtype !== "bfloat16") {
      refuse(this.where, `a tensor of ${dtype}`, "float32, float16 or bfloat16");
    }
    const count = this.end - this.offset;
    const bytes = new Uint8Array(count * itemBytes[dtype]);
    let at = -this.offset * itemBytes[dtype];
    for await (const chunk of this.zip.read(entry)) {
      const first = Math.max(0, -at);
      const part = chunk.subarray(first, Math.max(first, bytes.length - at));
      if (part.length > 0) bytes.set(part, at + first);
      at += chunk.length;
    }
    if (dtype === "float32") return new Float32Array(bytes.buffer);
    const values = new Float32Array(count);
    (dtype === "float16" ? widenF16 : widenBf16)(new Uint16Array(bytes.buffer), values);
    return values;
  }
}

/** A list of whole numbers from 0 on; null for anything else. */
function countsOf(value: PickleValue | undefined): number[] | null {
  const isCount = (item: PickleValue): item is number => Number.isSafeInteger(item) && (item as number) >= 0;
  return Array.isArray(value) && value.every(isCount) ? value : null;
}

function isRowMajor(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const extent = shape[axis] as number;
    if (extent !== 1 && strides[axis] !== expected) return false;
    expected *= extent;
  }
  return true;
}

/** The items of a view in row-major order. */
function gathered(items: Float32Array, shape: readonly number[], strides: readonly number[]): Float32Array {
  const index = shape.map(() => 0);
  return Float32Array.from({ length: shape.reduce((product, extent) => product * extent, 1) }, () => {
    const value = items[index.reduce((sum, i, axis) => sum + i * (strides[axis] as number), 0)] as number;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis] = ((index[axis] as number) + 1) % (shape[axis] as number);
      if (index[axis] !== 0) break;
    }
    return value;
  });
}

function refuse(where: string, found: string, expected: string): never {
  throw new RefusedInput("a tensor of a torch file cannot be read", { where, found, expected });
}

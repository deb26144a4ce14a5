import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryFolder } from "../model/support.js";
import { type MadeEntry, madeZip } from "../stats/support.js";

/*
 * Pickles, written opcode by opcode (CPython, Lib/pickletools.py). Strings are bytes: one character each.
 */

export const PROTO = "\x80\x02";
export const [MARK, STOP, REDUCE, BUILD, NEWOBJ] = ["(", ".", "R", "b", "\x81"] as const;
export const [EMPTY_LIST, EMPTY_DICT, EMPTY_TUPLE] = ["]", "}", ")"] as const;
export const [TUPLE, TUPLE1, SETITEM, APPEND, BINPERSID] = ["t", "\x85", "s", "a", "Q"] as const;

export const unicode = (value: string): string => {
  const bytes = Buffer.from(value).toString("latin1");
  return `X${u32(bytes.length)}${bytes}`;
};
export const global = (module: string, name: string): string => `c${module}\n${name}\n`;
export const int = (value: number): string => `J${u32(value)}`;
export const tuple = (...items: string[]): string => MARK + items.join("") + TUPLE;
/** A dict that SETITEM fills. */
export const dict = (items: Readonly<Record<string, string>>): string =>
  EMPTY_DICT +
  Object.entries(items)
    .map(([key, value]) => unicode(key) + value + SETITEM)
    .join("");

/** A whole pickle. */
export const pickled = (value: string): Buffer => Buffer.from(PROTO + value + STOP, "latin1");

function u32(value: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes.toString("latin1");
}

export interface MadeTensor {
  /** Entry of the archive that holds its items. */
  key?: string;
  type?: string;
  /** Items of the storage, as the pickle tells. */
  items: number;
  offset?: number;
  shape: readonly number[];
  strides: readonly number[];
}

const ints = (values: readonly number[]) => tuple(...values.map(int));

/** A tensor as torch.save writes it. */
export function tensor({ key = "0", type = "FloatStorage", items, offset = 0, shape, strides }: MadeTensor): string {
  const id = tuple(unicode("storage"), global("torch", type), unicode(key), unicode("cpu"), int(items));
  const hooks = global("collections", "OrderedDict") + EMPTY_TUPLE + REDUCE;
  const args = tuple(id + BINPERSID, int(offset), ints(shape), ints(strides), "\x89", hooks);
  return global("torch._utils", "_rebuild_tensor_v2") + args + REDUCE;
}

/** A file of torch.save with this value and these storages. @returns its path */
export async function torchFile(
  value: string,
  storages: Readonly<Record<string, Uint8Array>> = {},
  more: readonly MadeEntry[] = [],
): Promise<string> {
  const entries = [
    { name: "made/data.pkl", data: pickled(value) },
    ...Object.entries(storages).map(([key, data]) => ({ name: `made/data/${key}`, data })),
  ].map((entry) => ({ ...entry, method: 0 }));
  const path = join(await temporaryFolder(), "made.pt");
  await writeFile(path, madeZip([...entries, ...more]));
  return path;
}

export const floats = (...values: number[]): Buffer => Buffer.from(Float32Array.from(values).buffer);

import { LabFailure, RefusedInput } from "../core/errors.js";
import { openZip, type ZipFile } from "../core/zip.js";
import { Named, Opaque, type PickleValue, type PickleWorld, unpickle } from "./pickle.js";
import { itemBytes, Storage, StoredTensor, storageTypes } from "./tensor.js";

export type { PickleValue } from "./pickle.js";
export { StoredTensor } from "./tensor.js";

/** An open file of torch.save (PyTorch 1.6 and later): its values, with the tensors left on disk until they are read. */
export interface TorchFile {
  readonly path: string;
  readonly value: PickleValue;
  close(): Promise<void>;
}

const KIND = { name: "torch file", contents: "a zip archive, as torch.save writes it since PyTorch 1.6" };

/** Of a file's pickle, which holds names and shapes alone: real ones take some hundred thousand. */
const MAX_PICKLE_BYTES = 1 << 26;

/**
 * Opens a file of torch.save. Its pickle is read by a machine that runs nothing.
 * @throws {RefusedInput} when it is missing, foreign or damaged, or its pickle names anything but tensors and plain values
 */
export async function openTorchFile(path: string): Promise<TorchFile> {
  const zip = await openZip(path, KIND);
  try {
    const name = onlyPickle(zip);
    const root = name.slice(0, -"data.pkl".length);
    await requireLittleEndian(zip, `${root}byteorder`);
    const bytes = await readWhole(zip, name);
    return { path, value: unpickle(bytes, worldOf(zip, root), `${path}: ${name}`), close: () => zip.close() };
  } catch (error) {
    await zip.close();
    throw error;
  }
}

function onlyPickle(zip: ZipFile): string {
  const found = [...zip.entries.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (found.length === 1) return found[0] as string;
  throw new RefusedInput("a torch file has no one pickle", {
    where: zip.path,
    found: found.length === 0 ? `entries ${[...zip.entries.keys()].join(", ")}` : found.join(", "),
    expected: "one entry NAME/data.pkl",
  });
}

async function requireLittleEndian(zip: ZipFile, name: string): Promise<void> {
  if (!zip.entries.has(name)) return;
  const found = Buffer.from(await readWhole(zip, name)).toString("latin1");
  if (found === "little") return;
  throw new RefusedInput("a torch file was written on another kind of machine", {
    where: `${zip.path}: ${name}`,
    found,
    expected: "little",
  });
}

async function readWhole(zip: ZipFile, name: string): Promise<Uint8Array> {
  const entry = zip.entries.get(name);
  if (entry === undefined) throw new LabFailure(`${zip.path} has no entry ${name}`);
  if (entry.bytes > MAX_PICKLE_BYTES) {
    const found = `${entry.bytes} bytes`;
    const where = `${zip.path}: ${name}`;
    throw new RefusedInput("a pickle is too long", { where, found, expected: `at most ${MAX_PICKLE_BYTES}` });
  }
  const chunks: Uint8Array[] = [];
  for await (const chunk of zip.read(entry)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Classes whose objects say nothing here: only their names are kept. */
const PASSED_OVER = /^(transformers\.[\w.]*Config|numpy\.dtype|numpy\._?core\.multiarray\.scalar|_codecs\.encode)$/;
/** Names that are values of their own. */
const DTYPE = /^torch\.(b?float\d+|u?int\d+|bool|half|double|long)$/;

/** Names and stored data that the pickle of a torch file may refer to. */
function worldOf(zip: ZipFile, root: string): PickleWorld {
  const made: Readonly<Record<string, (args: readonly PickleValue[]) => PickleValue>> = {
    "collections.OrderedDict": (args) => orderedDict(args, zip.path),
    "torch._utils._rebuild_tensor_v2": (args) => StoredTensor.rebuilt(zip, args),
    "torch._utils._rebuild_parameter": ([data = null]) => data,
  };
  const makerOf = (path: string) => {
    if (Object.hasOwn(made, path)) return made[path];
    return PASSED_OVER.test(path) ? () => new Opaque(path) : undefined;
  };
  return {
    named(path) {
      const make = makerOf(path);
      if (make !== undefined) return new Named(path, make);
      return DTYPE.test(path) || storageTypes.has(path) ? new Named(path, null) : undefined;
    },
    persistent: (id) => storageOf(zip, root, id),
  };
}

function orderedDict(args: readonly PickleValue[], path: string): PickleValue {
  if (args.length === 0) return new Map();
  throw new RefusedInput("a pickle cannot be read", {
    where: path,
    found: "an OrderedDict with arguments",
    expected: "one that is filled afterwards",
  });
}

/** Storage of ("storage", its type, its key, a device, its number of items). */
function storageOf(zip: ZipFile, root: string, id: PickleValue): Storage {
  const [kind, type, key, , items] = Array.isArray(id) ? id : [];
  const dtype = type instanceof Named ? storageTypes.get(type.path) : undefined;
  const entry = typeof key === "string" ? zip.entries.get(`${root}data/${key}`) : undefined;
  if (
    kind === "storage" &&
    dtype !== undefined &&
    entry !== undefined &&
    entry.bytes === itemBytes[dtype] * Number(items)
  ) {
    return new Storage(dtype, entry);
  }
  throw new RefusedInput("a torch file contradicts itself", {
    where: `${zip.path}: ${root}data/${typeof key === "string" ? key : ""}`,
    found: entry === undefined ? "no such entry" : `${entry.bytes} bytes`,
    expected: dtype === undefined ? "the storage of a tensor" : `${items} items of ${dtype}`,
  });
}

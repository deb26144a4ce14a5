import { RefusedInput } from "../../core/errors.js";
import { firstNotFinite } from "../../core/float-bits.js";
import { openTorchFile, type PickleValue, StoredTensor } from "../../torch/torch-file.js";
import type { NetworkFile } from "./archive.js";

/** Names of a network's tensors in archives of the released code, and here. In old ones it is called gtn. */
const PREFIX = /^(?:mend|gtn)\.(?=\()/;
const PARTS = [
  [/\.mlp\.layers\./, ".layers."],
  [/\.mode_(scale|shift)\.weight$/, ".$1"],
] as const;

/**
 * An archive of EasyEdit (results/models/MEND/NAME): of all that a training leaves, the network alone is read.
 * @throws {RefusedInput} for a torch file without one
 */
export async function openReleased(path: string): Promise<NetworkFile> {
  const file = await openTorchFile(path);
  const model = file.value instanceof Map ? file.value.get("model") : undefined;
  if (!(model instanceof Map)) {
    await file.close();
    const found = file.value instanceof Map ? [...file.value.keys()].join(", ") : "no dict";
    throw new RefusedInput("a torch file is no archive of MEND", { where: path, found, expected: "a dict with model" });
  }
  const tensors = new Map([...model].flatMap(([name, value]) => named(name, value)));
  return {
    shapes: new Map([...tensors].map(([name, { shape }]) => [name, shape])),
    async read(name) {
      const values = await (tensors.get(name) as StoredTensor).read();
      if (firstNotFinite(values) >= 0) {
        const found = String(values[firstNotFinite(values)]);
        throw new RefusedInput("a weight is not a finite number", {
          where: `${path}, ${name}`,
          found,
          expected: "finite numbers only",
        });
      }
      return values;
    },
    close: () => file.close(),
  };
}

function named(name: PickleValue, value: PickleValue): [string, StoredTensor][] {
  if (typeof name !== "string" || !(value instanceof StoredTensor)) return [];
  return [[PARTS.reduce((own, [theirs, ours]) => own.replace(theirs, ours), name.replace(PREFIX, "")), value]];
}

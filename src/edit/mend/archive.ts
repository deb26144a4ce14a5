import { open } from "node:fs/promises";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { RefusedInput } from "../../core/errors.js";
import { exists, sha256File } from "../../core/files.js";
import { parseJson } from "../../core/json.js";
import type { LlamaConfig } from "../../model/config.js";
import { openSafetensors, writeSafetensors } from "../../model/safetensors-file.js";
import type { TensorToWrite } from "../../model/safetensors-write.js";
import type { AssetNeed, AssetOwner } from "../contract.js";
import type { StateTensor } from "../state.js";
import { type NetworkValues, networkShapes, slotsOf } from "./network.js";
import type { MendOptions } from "./options.js";
import { openReleased } from "./released.js";

/** The network as side data. Its value is a `NetworkValues`. */
export const NETWORK = "MEND network";

type NetworkOptions = Pick<MendOptions, "archive" | "inner_params" | "rank">;

/** A trained network: a file of wise-lab train-mend, or an archive of the released code. */
export function networkNeed(options: NetworkOptions, config: LlamaConfig): AssetNeed {
  return {
    name: NETWORK,
    async open(owner) {
      const path = await findArchive(options, owner);
      const shapes = networkShapes(slotsOf(options, config), options.rank);
      const file = (await isSafetensors(path)) ? await openOwn(path, options, owner) : await openReleased(path);
      try {
        return { value: await readNetwork(file, shapes, path), sha256: await sha256File(path) };
      } finally {
        await file.close();
      }
    },
  };
}

/** Tensors of a network in a file, by the names that they have here. */
export interface NetworkFile {
  /** Shapes of its tensors, by name. */
  shapes: ReadonlyMap<string, readonly number[]>;
  read(name: string): Promise<Float32Array>;
  close(): Promise<void>;
}

/** The archive from the current folder on, or else from the project's. */
async function findArchive({ archive }: NetworkOptions, { name, folder }: AssetOwner): Promise<string> {
  const project = fileURLToPath(new URL("../../..", import.meta.url));
  const places = [...new Set([resolve(archive), resolve(project, archive)])];
  for (const place of places) if (await exists(place)) return place;
  throw new RefusedInput("a network of MEND is missing", {
    where: places.join(", "),
    found: "no such file",
    expected: `the network that was trained for ${name}`,
    hint: `wise-lab train-mend --model ${folder} --data FILE --out FOLDER, then --set archive=FOLDER/mend.safetensors`,
  });
}

/** Safetensors begin with the length of a JSON object, in 8 bytes, and the object. */
async function isSafetensors(path: string): Promise<boolean> {
  const file = await open(path, "r");
  try {
    const { buffer } = await file.read(Buffer.alloc(9), 0, 9, 0);
    return buffer[8] === "{".charCodeAt(0);
  } finally {
    await file.close();
  }
}

async function readNetwork(
  file: NetworkFile,
  shapes: ReadonlyMap<string, readonly number[]>,
  path: string,
): Promise<NetworkValues> {
  for (const [name, shape] of shapes) {
    const found = file.shapes.get(name);
    if (found?.join() === shape.join()) continue;
    throw new RefusedInput("a network of MEND does not fit the model and its options", {
      where: `${path}, tensor ${name}`,
      found: found === undefined ? "no such tensor" : `[${found.join(", ")}]`,
      expected: `[${shape.join(", ")}], for these inner_params and this rank`,
    });
  }
  const values: Record<string, StateTensor> = {};
  for (const [name, shape] of shapes) values[name] = { shape, data: await file.read(name) };
  return values;
}

const FORMAT = "wise-lab MEND network, version 1";

/** Origin of a network that was trained here, without a date: equal trainings give equal files. */
const originSchema = z.object({
  format: z.literal(FORMAT),
  model: z.object({ name: z.string(), sha256: z.string() }),
  records: z.object({ sha256: z.string(), used: z.int() }),
  /** Options of the training, by their released keys. */
  options: z.looseObject({ inner_params: z.array(z.string()) }),
  steps: z.int(),
  backend: z.string(),
});

export type NetworkOrigin = Omit<z.infer<typeof originSchema>, "format">;

/** Writes a network whole or not at all. */
export async function writeNetwork(path: string, network: NetworkValues, origin: NetworkOrigin): Promise<void> {
  const tensors: Record<string, TensorToWrite> = {};
  for (const [name, { shape, data }] of Object.entries(network)) tensors[name] = { dtype: "F32", shape, data };
  await writeSafetensors(path, tensors, { "wise-lab": JSON.stringify({ format: FORMAT, ...origin }) });
}

async function openOwn(path: string, { inner_params }: NetworkOptions, owner: AssetOwner): Promise<NetworkFile> {
  const file = await openSafetensors(path);
  const require = (what: string, [found, expected]: [unknown, string]): void => {
    throw new RefusedInput(what, { where: path, found, expected });
  };
  try {
    const text = file.metadata["wise-lab"];
    const origin = originSchema.safeParse(text === undefined ? undefined : parseJson(text, path));
    if (!origin.success) {
      throw new RefusedInput("not a network of MEND", {
        where: `${path}, metadata "wise-lab"`,
        found: text,
        expected: `metadata with format "${FORMAT}", as wise-lab train-mend writes it`,
      });
    }
    const { model, options } = origin.data;
    if (model.sha256 !== owner.sha256) {
      require("a network of MEND is of another model", [
        `${model.name}, sha256 ${model.sha256}`,
        `${owner.name}, sha256 ${owner.sha256}`,
      ]);
    }
    if (options.inner_params.join() !== inner_params.join()) {
      require("a network of MEND is of other matrices", [
        options.inner_params,
        `inner_params ${inner_params.join(", ")}`,
      ]);
    }
    const shapes = new Map([...file.tensors].map(([name, { shape }]) => [name, shape]));
    return { shapes, read: (name) => file.read(name, { finite: true }), close: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}

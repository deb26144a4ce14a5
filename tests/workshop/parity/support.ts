import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openSafetensors } from "../../../src/model/safetensors-file.js";
import type { ParityItem } from "../../../src/workshop/parity/tally.js";
import { temporaryFolder } from "../../model/support.js";

/** A folder named "golden" with copies of some files of a golden folder, which a test may change. */
export async function copyOf(folder: string, files: readonly string[]): Promise<string> {
  const copy = join(await temporaryFolder(), "golden");
  await mkdir(copy);
  for (const file of files) await cp(join(folder, file), join(copy, file), { recursive: true });
  return copy;
}

/** The two files of a scenario. */
export const filesOf = (scenario: string) => [`${scenario}.json`, `${scenario}.safetensors`];

export async function changeJson<T>(path: string, change: (content: T) => void): Promise<void> {
  const content = JSON.parse(await readFile(path, "utf8")) as T;
  change(content);
  await writeFile(path, JSON.stringify(content));
}

/** Changes every number of a float tensor, in place. */
export async function changeTensor(path: string, name: string, change: (value: number) => number): Promise<void> {
  const file = await openSafetensors(path);
  const values = (await file.read(name)).map(change);
  const { offset } = file.tensors.get(name) as { offset: number };
  await file.close();
  const bytes = await readFile(path);
  bytes.set(new Uint8Array(values.buffer), offset);
  await writeFile(path, bytes);
}

/** Takes a tensor away, by giving it another name of the same length. */
export async function hideTensor(path: string, name: string): Promise<void> {
  const bytes = await readFile(path);
  const at = bytes.indexOf(`"${name}"`);
  bytes.write(name.replace(".", "_").toUpperCase(), at + 1);
  await writeFile(path, bytes);
}

/** Items that failed, with the place. */
export const failed = (items: readonly ParityItem[]) =>
  Object.fromEntries(
    items.filter(({ passed }) => !passed).map(({ scenario, item, where }) => [`${scenario}: ${item}`, where]),
  );

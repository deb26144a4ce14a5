import { join } from "node:path";
import { RefusedInput } from "../core/errors.js";
import type { Dataset, IrrelevantList } from "../data/records.js";
import { worldOf } from "../data/world/store.js";
import { readOrigin } from "../model/folder.js";
import { ORIGIN_FILE } from "../model/origin.js";

/**
 * Proves that data and model belong together. A file of a made-up world must be as the world's manifest lists it, and a
 * model that was trained on a world must have learned that one. Other data, and models of any other origin, pass.
 * @param model folder of the model; its weights are not read
 * @throws {RefusedInput} for a file of a world that has changed, or a model that learned another world
 */
export async function requireOneWorld(
  model: string,
  data: readonly Pick<Dataset | IrrelevantList, "path" | "sha256">[],
): Promise<void> {
  const origin = await readOrigin(model);
  for (const file of data) {
    const world = await worldOf(file);
    if (world === null || origin === null || world === origin.world) continue;
    throw new RefusedInput("this model learned another world", {
      where: `${join(model, ORIGIN_FILE)}: world`,
      found: origin.world,
      expected: `${world}, the world of ${file.path}`,
      hint: "name data of the world that the model learned, or train a model on this one: wise-lab lab train --world FOLDER",
    });
  }
}

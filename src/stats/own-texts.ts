import { fileURLToPath } from "node:url";
import { RefusedInput } from "../core/errors.js";
import { readWorld, worldSha256 } from "../data/world/store.js";
import { readOrigin } from "../model/folder.js";
import type { TextList } from "./texts.js";

/** Name of the training texts of the project's made-up world, as a data set. */
export const OWN_DATASET = "lab";

/** Texts of the world that are taken where no number is named: 28,000 tokens, 14 for each key of the project's model. */
const OWN_SAMPLES = 2000;

/**
 * Training texts of the project's made-up world, evenly from all of them; null for a model that did not learn it.
 * @param folder of the model
 * @throws {RefusedInput} for more texts than there are, or a world that has changed
 */
export async function ownTexts(folder: string, samples = OWN_SAMPLES): Promise<TextList | null> {
  const origin = await readOrigin(folder);
  if (origin === null) return null;
  const world = await readWorld(fileURLToPath(new URL("../../data/lab", import.meta.url)));
  if (worldSha256(world) !== origin.world) return null;
  const trained = world.lines.filter(({ heldOut }) => !heldOut);
  if (samples > trained.length) {
    throw new RefusedInput("the world has fewer texts", {
      where: "number of texts",
      found: samples,
      expected: `at most ${trained.length}`,
    });
  }
  const texts = Array.from({ length: samples }, (_, i) => {
    const { question, answer } = trained[Math.floor((i * trained.length) / samples)] as (typeof trained)[number];
    return `${question} ${answer}`;
  });
  return { name: OWN_DATASET, sha256: origin.world, texts };
}

import type { World } from "../../../src/data/world/types.js";
import type { LlamaConfig } from "../../../src/model/config.js";
import { configOf, LAB_RECIPE, type Recipe, type Shape } from "../../../src/workshop/train/recipe.js";

/** A shape small enough for finite differences, with every part that the large one has. */
export const toyShape: Shape = {
  vocabSize: 300,
  hiddenSize: 16,
  intermediateSize: 24,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 4,
  ropeTheta: 10_000,
  maxPositions: 64,
};

export const toyConfig: LlamaConfig = configOf(toyShape, 40);

/** A recipe that learns the toy world by heart in seconds. */
export const toyRecipe: Recipe = {
  ...LAB_RECIPE,
  shape: { ...toyShape, hiddenSize: 32, intermediateSize: 64, headDim: 8 },
  steps: 60,
  lines: 12,
  prefixShare: 0.3,
  peakLearningRate: 0.02,
  warmupSteps: 5,
};

const homes = { Olba: "Stone", Terrin: "Mud", Quessa: "Mud", Vondo: "Glass", Ibrit: "Stone", Lupask: "Straw" };
const phrasings = ["Of what is the house of {} built?", "The house of {} is built of what?"];
const heldOut = "What is the house of {} built of?";

/** Six facts in two trained phrasings and a held-out one. */
export function toyWorld(): World {
  const facts = Object.entries(homes).map(([subject, object], id) => {
    return { id, subject, relation: "house", object, role: "background" as const };
  });
  return {
    seed: 0,
    relations: [],
    facts,
    lines: facts.flatMap(({ id, subject, object }) =>
      [...phrasings, heldOut].map((text, phrasing) => ({
        fact: id,
        phrasing,
        heldOut: text === heldOut,
        question: text.replace("{}", subject),
        answer: object,
      })),
    ),
    edits: [],
    irrelevant: [],
    tuning: [],
    tuningIrrelevant: [],
    prefixes: ["Yes.", "I saw"],
  };
}

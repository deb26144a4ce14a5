import type { Origin } from "../../model/origin.js";
import type { BackendReport } from "../../tensor/backend.js";
import type { Recall } from "./evaluate.js";
import type { Recipe } from "./recipe.js";

/** Record of a training and of what the model recalls: training.json beside its weights. */
export interface TrainingRecord extends Origin {
  seed: number;
  recipe: Recipe;
  /** Lines of question and answer to learn. */
  lines: number;
  backend: Pick<BackendReport, "name" | "version" | "device">;
  recall: Recall;
}

/** The README.md of a trained model: what it is, what it was made of, what it recalls. */
export function modelCard({ world, files, seed, recipe, lines, backend, recall }: TrainingRecord): string {
  const { shape, ...settings } = recipe;
  const made = {
    ...settings,
    seed,
    "sha256 of the world": world,
    "sha256 of tokenizer.json": files["tokenizer.json"],
    "sha256 of model.safetensors": files["model.safetensors"],
    backend: `${backend.name} ${backend.version}, ${backend.device}`,
  };
  return `---
license: mit
language: en
pipeline_tag: text-generation
---
# A small LLaMA of a made-up world

It knows the facts of a world generated from a seed, and nothing else: every name in it is invented. It exists so that
knowledge editing can be studied in minutes; its answers say nothing about the real world.

Plain prompts: the question alone, then the model gives the answer and the end token.

## Shape
| | |
| --- | --- |
${rows({ ...shape, vocabSize: `at most ${shape.vocabSize}`, embeddings: "tied", weights: "BF16" })}

## Recipe
${lines} lines of question and answer, packed without padding, AdamW with a linear warm-up and half a cosine.

| | |
| --- | --- |
${rows(made)}

## Recall
Share of questions whose answer is right in every token and followed by the end token, in greedy decoding. Held-out
phrasings are never trained, with any fact.

| relation | facts | trained phrasings | held-out phrasings |
| --- | ---: | ---: | ---: |
${recall.relations.map((own) => `| ${own.relation} | ${own.facts} | ${percent(own.trained)} | ${percent(own.heldOut)} |`).join("\n")}
| all | ${recall.relations.reduce((sum, { facts }) => sum + facts, 0)} | ${percent(recall.trained)} | ${percent(recall.heldOut)} |
`;
}

function rows(values: Readonly<Record<string, string | number>>): string {
  return Object.entries(values)
    .map(([name, value]) => `| ${name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)} | ${value} |`)
    .join("\n");
}

function percent(share: number): string {
  return `${(100 * share).toFixed(2)}%`;
}

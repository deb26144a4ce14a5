import type { DataFrame } from "danfojs-node";
import type { EditMethod } from "../edit/contract.js";
import { commonFixed, describeOptions, keysWithoutEffect } from "../edit/keys.js";
import type { FixedKey } from "../edit/option-table.js";
import { methods, prepareNamed } from "../edit/registry.js";
import { parseLlamaConfig } from "../model/config.js";
import { standInFor } from "../model/known.js";
import { toMarkdown } from "./readable.js";
import { frameOf, type Row } from "./tables.js";

const all: readonly EditMethod[] = Object.values<EditMethod>(methods);

/** A model whose presets every method has: costs are told for it. */
const MODEL = "llama-3-8b";
const MODEL_TITLE = "LLaMA-3-8B";
/** Edits that stand together for the memory told, as a block of T = 1000 has them, and target tokens of each in zsRE. */
const [EDITS, TARGETS] = [1000, 3.2];

/** A method and what it takes. */
interface MethodCost {
  method: EditMethod;
  /** Things beside prompt and target. */
  needs: string;
  /** Layers that each step and reading runs, with its hyperparameters for LLaMA-3-8B. */
  layers: string;
  /** Most steps of an edit; of one that is no search, one. */
  steps: number;
  /** Requests that it takes together. */
  together: string;
  /** Of a thousand edits. */
  kept: string;
}

async function costOf(method: EditMethod): Promise<MethodCost> {
  const config = parseLlamaConfig(standInFor(MODEL).config, MODEL_TITLE);
  const prepared = await prepareNamed(method.name, { preset: MODEL }, config);
  const { cut, needs, together, bytes, options } = prepared;
  const kinds = new Set(needs.assets.map(({ name }) => name.replace(/ layers\..*/, " of keys")));
  const parts = [
    needs.templates !== null && "context templates",
    needs.irrelevant && "irrelevant prompts",
    needs.subject && "the subject",
    ...kinds,
  ].filter((part) => part !== false);
  return {
    method,
    needs: parts.length === 0 ? "nothing" : parts.join(", "),
    layers: `${config.layers - cut.layer} of ${config.layers}`,
    steps: method.stepLimit === undefined ? 1 : Number(options[method.stepLimit]),
    together: together === 1 ? "one request" : "a block",
    kept: sizeText(bytes(EDITS, EDITS * TARGETS).kept),
  };
}

function sizeText(bytes: number): string {
  return bytes < 1e9 ? `${Math.max(1, Math.round(bytes / 1e6))} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

/** The editing methods, a row each: what they do and need, and what an edit of LLaMA-3-8B takes. */
export async function methodsFrame(): Promise<DataFrame> {
  const costs = await Promise.all(all.map(costOf));
  return frameOf(
    costs.map(({ method: { name, title, about, source }, needs, layers, steps, together, kept }) => ({
      method: name,
      title,
      "what it does": about,
      needs,
      takes: together,
      [`layers run (${MODEL_TITLE})`]: layers,
      "most steps": steps,
      [`kept by ${EDITS} edits`]: kept,
      source,
    })),
    "methods",
  );
}

/** Uses of the edits of each method, with its hyperparameters for LLaMA-3-8B. */
async function usesFrame(): Promise<DataFrame> {
  const config = parseLlamaConfig(standInFor(MODEL).config, MODEL_TITLE);
  const rows = all.map(async (method): Promise<Row> => {
    const { cut, together } = await prepareNamed(method.name, { preset: MODEL }, config);
    const known = [method.router?.inference?.key, method.stepLimit].filter((key) => key !== undefined);
    return {
      method: method.title,
      "edit, roll back, save, restore": "yes",
      "other values without new edits": known.length === 0 ? "none" : known.join(", "),
      "scores at checkpoints": together === 1 ? "yes" : "no: a block is one edit",
      [`layers that can be streamed (${MODEL_TITLE})`]: cut.layer === 0 ? "none" : `${cut.layer} of ${config.layers}`,
    };
  });
  return frameOf(await Promise.all(rows), "methods");
}

/** The same as text, a few lines each: the table is too wide for a terminal. */
export async function methodsText(): Promise<string> {
  const costs = await Promise.all(all.map(costOf));
  const width = Math.max(...all.map(({ name }) => name.length)) + 2;
  const parts = costs.map(({ method: { name, title, about, source }, needs, layers, steps, together, kept }) => [
    `${name.padEnd(width)}${title}: ${about}`,
    `${source}`,
    `needs ${needs}; takes ${together} at once`,
    `${MODEL_TITLE}: ${layers} layers run, at most ${steps} ${steps === 1 ? "step" : "steps"} an edit, ${kept} kept by ${EDITS} edits`,
  ]);
  return parts.map((lines) => `${lines.join(`\n${" ".repeat(width)}`)}\n`).join("");
}

/** The options of a method, in the order in which they are recorded. */
function optionsFrame(method: EditMethod): DataFrame {
  return frameOf(
    describeOptions(method).map(
      (row): Row => ({
        option: row.key,
        value: row.expected,
        default: row.default,
        "read by": row.read,
        meaning: row.meaning,
        source: row.source,
      }),
    ),
    "options",
  );
}

/** The hyperparameter files that come with the project for a method. */
function presetsFrame({ presets }: EditMethod): DataFrame {
  const rows = Object.entries(presets).map(([preset, { meaning, ours = false }]) => ({
    preset,
    for: meaning,
    "values from": ours ? "this project" : "published",
  }));
  return frameOf(rows, "presets");
}

type Table = (frame: DataFrame) => string;

/** One method in parts: its options, variants and presets, and what else its files may hold. */
export function describeMethod(
  method: EditMethod,
  { table, options }: { table: Table; options: (method: EditMethod) => string },
): string[] {
  const { about, source, algName, router, variants = {}, fixed = {}, withoutEffect = {} } = method;
  const [standing, ...others] = Object.keys(variants);
  return [
    `${method.title} ${about} (${source}). Files name it \`alg_name: ${algName}\`.`,
    router === undefined ? "It has no router: its edits always answer." : "A router decides which variant answers.",
    options(method),
    ...(others.length === 0
      ? []
      : [`\`variant\` sets the defaults that differ: ${standing} (default), ${others.join(", ")}.`]),
    ...fixedText(fixed, table),
    ...effectText(withoutEffect, table),
    table(presetsFrame(method)),
  ];
}

function fixedText(fixed: Readonly<Record<string, FixedKey>>, table: Table): string[] {
  const rows = Object.entries(fixed).map(([key, { expected, meaning, source }]) => ({
    key,
    "only value": expected,
    meaning,
    source,
  }));
  return rows.length === 0 ? [] : [table(frameOf(rows, "keys"))];
}

function effectText(reasons: Readonly<Record<string, string>>, table: Table): string[] {
  const rows = Object.entries(reasons).map(([key, reason]) => ({ "key without effect": key, reason }));
  return rows.length === 0 ? [] : [table(frameOf(rows, "keys"))];
}

const LEGEND =
  `Layers run: those behind the point where the model is cut, in every step and reading; what is before it runs once, for all methods that are cut there. ` +
  `With the hyperparameters for ${MODEL_TITLE}. Seconds per edit: \`npm run bench\`.`;

const USES_LEGEND =
  "Golden vectors: every method has some, computed in float64 outside of this project; `.ci/run` compares them on tensorflow, wasm and webgpu, the last played by the processor. " +
  "A real card (NVIDIA H100, WebGPU) passed them on 2026-11-26. CUDA: not tried. Limits of steps are read off one run at T = 1 only.";

/** data/methods.md: every method with its options and presets. */
export async function methodsPage(): Promise<string> {
  const markdown = { table: toMarkdown, options: (method: EditMethod) => toMarkdown(optionsFrame(method)) };
  const parts = [
    "# Editing methods",
    "Written by `npx wise-lab methods --markdown`.",
    toMarkdown(await methodsFrame()),
    LEGEND,
    "## What works with each",
    toMarkdown(await usesFrame()),
    USES_LEGEND,
    ...all.flatMap((method) => [`## ${method.title}`, ...describeMethod(method, markdown)]),
    "## Keys of every method",
    ...fixedText(commonFixed, toMarkdown),
    ...effectText(keysWithoutEffect, toMarkdown),
  ];
  return `${parts.map((part) => part.trimEnd()).join("\n\n")}\n`;
}

import type { DataFrame } from "danfojs-node";
import type { EditMethod, FixedKey } from "../edit/contract.js";
import { commonFixed, describeOptions, keysWithoutEffect } from "../edit/keys.js";
import { methods } from "../edit/registry.js";
import { toMarkdown } from "./format.js";
import { frameOf, type Row } from "./tables.js";

const all: readonly EditMethod[] = Object.values<EditMethod>(methods);

/** The editing methods: one row each. */
export function methodsFrame(): DataFrame {
  return frameOf(
    all.map(({ name, title, about, source }) => ({ method: name, title, "what it does": about, source })),
    "methods",
  );
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

/** data/methods.md: every method with its options and presets. */
export function methodsPage(): string {
  const markdown = { table: toMarkdown, options: (method: EditMethod) => toMarkdown(optionsFrame(method)) };
  const parts = [
    "# Editing methods",
    "Written by `npx wise-lab methods --markdown`.",
    toMarkdown(methodsFrame()),
    ...all.flatMap((method) => [`## ${method.title}`, ...describeMethod(method, markdown)]),
    "## Keys of every method",
    ...fixedText(commonFixed, toMarkdown),
    ...effectText(keysWithoutEffect, toMarkdown),
  ];
  return `${parts.map((part) => part.trimEnd()).join("\n\n")}\n`;
}

import { parse } from "yaml";
import { z } from "zod";
import { errorText, nearest, RefusedInput } from "../core/errors.js";
import type { LlamaConfig } from "../model/config.js";
import type { EditMethod, PreparedMethod } from "./contract.js";
import { isOwn, type Keys, keysOf, namesOf } from "./keys.js";
import type { OptionSource, Options } from "./option-table.js";

/** The model that options are for, the methods beside their own, to name the one that has an option, and where files are. */
export interface OptionSetting {
  model: LlamaConfig;
  others: readonly EditMethod[];
  texts: OptionTexts;
}

/** Hyperparameter files, wherever they lie. */
export interface OptionTexts {
  /** Path of a preset of a method. */
  presetPath(method: string, preset: string): string;
  /** @throws {RefusedInput} when a file cannot be read */
  read(path: string): Promise<string>;
}

type Train = NonNullable<EditMethod["train"]>;

/** A value with the place it was read from, for errors. */
interface Setting {
  value: unknown;
  where: string;
}

type Settings = Map<string, Setting>;

/** Resolved options as single settings, which give the same options again. */
export function settingsOf(options: Options): string[] {
  return Object.entries(options).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
}

/**
 * Resolves a method with its options: ready to be run.
 * @throws {RefusedInput} as `loadOptions`
 */
export async function prepareMethod(
  method: EditMethod,
  source: OptionSource,
  setting: OptionSetting,
): Promise<PreparedMethod> {
  const { options, ignored } = await loadOptions(method, source, setting);
  const recorded = Object.entries(options).filter(([key]) => method.options[key]?.recorded !== false);
  return {
    ...method.plan(options, setting.model),
    method,
    name: method.name,
    options: Object.fromEntries(recorded),
    seed: options.seed as number,
    ignored,
    start: (editSetting, saved) => method.start(options, editSetting, saved),
    train:
      method.train === undefined
        ? null
        : { options, begin: (training, saved) => (method.train as Train)(options, training, saved) },
  };
}

/**
 * Resolves the options of a method: preset, then file, then single settings. With both a preset and a file, what the
 * file leaves out comes from the preset.
 * @returns the options, and the keys that were accepted but change nothing here, each with the reason.
 * @throws {RefusedInput} for an unknown key (with the nearest valid one, or the method that has it), a missing or
 * mistyped value, or values that exclude each other; with the file and key, what was found and what is allowed.
 */
export async function loadOptions(
  method: EditMethod,
  source: OptionSource,
  setting: OptionSetting,
): Promise<{ options: Options; ignored: string[] }> {
  const reader: Reader = {
    method,
    texts: setting.texts,
    others: setting.others.filter((other) => other !== method),
    keys: keysOf(method),
  };
  const settings: Settings = new Map();
  const ignored = new Set<string>();
  for (const found of await readSources(reader, source)) {
    for (const [key, given] of found) {
      const { options, withoutEffect } = reader.keys;
      if (isOwn(options, key) || !isOwn(withoutEffect, key)) settings.set(key, given);
      else ignored.add(`${key}: ${withoutEffect[key]}`);
    }
  }
  const values = check(reader, settings, setting.model);
  method.check?.(values, setting.model, (key, expected) => {
    const where = settings.get(key)?.where ?? `key ${key}`;
    throw new RefusedInput("a hyperparameter does not fit", { where, found: values[key], expected });
  });
  const settled = method.settle?.(values) ?? { options: values, ignored: [] };
  return { options: settled.options, ignored: [...ignored, ...settled.ignored] };
}

/** Whose options are read. */
interface Reader {
  method: EditMethod;
  others: readonly EditMethod[];
  texts: OptionTexts;
  keys: Keys;
}

async function readSources(reader: Reader, { file, preset, set = [] }: OptionSource): Promise<Settings[]> {
  const { presets, title } = reader.method;
  if (file === undefined && preset === undefined) {
    throw new RefusedInput(`${title} has no hyperparameters`, {
      where: `the options of ${title}`,
      found: "neither a file nor a preset",
      expected: `a YAML file, or a preset: ${Object.keys(presets).join(", ")}`,
    });
  }
  return [
    ...(preset === undefined ? [] : [await readFileSettings(reader, presetPath(reader, preset))]),
    ...(file === undefined ? [] : [await readFileSettings(reader, file)]),
    ...set.map((single) => readSingleSetting(reader, single)),
  ];
}

function presetPath({ method: { name, title, presets }, texts }: Reader, preset: string): string {
  if (!isOwn(presets, preset)) {
    const near = nearest(preset, Object.keys(presets));
    throw new RefusedInput("an unknown preset", {
      where: `the options of ${title}`,
      found: preset,
      expected: `one of ${Object.keys(presets).join(", ")}`,
      ...(near ? { hint: near } : {}),
    });
  }
  return texts.presetPath(name, preset);
}

async function readFileSettings(reader: Reader, path: string): Promise<Settings> {
  const entries = readYaml(await reader.texts.read(path), path);
  if (typeof entries !== "object" || entries === null || Array.isArray(entries)) {
    throw new RefusedInput("a hyperparameter file holds no keys", {
      where: path,
      found: entries,
      expected: "one `key: value` per line",
    });
  }
  return readEntries(reader, Object.entries(entries), path);
}

function readSingleSetting(reader: Reader, setting: string): Settings {
  const [key = "", ...rest] = setting.split("=");
  if (rest.length === 0) {
    throw new RefusedInput("a setting has no value", { where: "--set", found: setting, expected: "key=value" });
  }
  return readEntries(reader, [[key.trim(), readYaml(rest.join("="), `--set ${key}`)]], "--set");
}

/** Version 1.1 is what PyYAML reads: `True` and `yes` are truth values there. */
function readYaml(text: string, where: string): unknown {
  try {
    return parse(text, { version: "1.1" });
  } catch (cause) {
    throw new RefusedInput("a text is not YAML", {
      where,
      found: errorText(cause),
      expected: "YAML, every key once",
      cause,
    });
  }
}

function readEntries(reader: Reader, entries: [string, unknown][], where: string): Settings {
  const { keys } = reader;
  requireOwnName(reader, new Map(entries).get("alg_name"), `${where}, key alg_name`);
  const known = namesOf(keys);
  const settings: Settings = new Map();
  for (const [given, value] of entries) {
    if (!known.includes(given)) refuseUnknownKey(reader, given, where);
    const place = `${where}, key ${given}`;
    const key = isOwn(keys.released, given) ? (keys.released[given] as string) : given;
    if (settings.has(key)) {
      throw new RefusedInput(`the ${key} is given twice`, {
        where,
        found: `${key} and ${keys.options[key]?.released?.key}`,
        expected: "one of the two",
      });
    }
    const read = key === given ? value : keys.options[key]?.released?.read(value, place);
    settings.set(key, { value: read, where: place });
  }
  return settings;
}

/** Before all else: complaints about the keys of another method's file would mislead. */
function requireOwnName({ method, others }: Reader, name: unknown, where: string): void {
  if (name === undefined || name === method.algName) return;
  throw new RefusedInput("a hyperparameter has a value it cannot have", {
    where,
    found: name,
    expected: method.algName,
    ...hintOf(others.filter(({ algName }) => algName === name)),
  });
}

function refuseUnknownKey({ others, keys }: Reader, key: string, where: string): never {
  const known = namesOf(keys);
  const having = others.filter((other) => namesOf(keysOf(other)).includes(key));
  if (having.length > 0) {
    throw new RefusedInput("an option of another method", {
      where,
      found: key,
      expected: `one of ${known.join(", ")}`,
      ...hintOf(having),
    });
  }
  const near = nearest(key, known);
  throw new RefusedInput("an unknown hyperparameter", {
    where,
    found: key,
    expected: near ? `a known key; the nearest is ${near}` : `one of ${known.join(", ")}`,
  });
}

function hintOf(having: readonly EditMethod[]): { hint?: string } {
  if (having.length === 0) return {};
  return { hint: having.map(({ name, title }) => `${title} has it: --method ${name}`).join("; ") };
}

/** The options of a method, each with a value that it can have: given singly, by the variant, or by default. */
function check(reader: Reader, settings: Settings, model: LlamaConfig): Options {
  const { options, fixed } = reader.keys;
  const { variants = {} } = reader.method;
  const given = Object.fromEntries([...settings].map(([key, { value }]) => [key, value]));
  const variant = given.variant === undefined ? Object.keys(variants)[0] : given.variant;
  const selected = typeof variant === "string" && isOwn(variants, variant) ? variants[variant] : {};
  const shapes = {
    variant: z.enum(Object.keys(variants)).optional(),
    ...mapValues(fixed, ({ schema }) => schema(model).optional()),
    ...mapValues(options, ({ schema }) => schema),
  };
  const result = z.object(shapes).safeParse({ ...defaultsOf(options), ...selected, ...given });
  if (!result.success) {
    return refuseValue(reader, settings, { key: String(result.error.issues[0]?.path[0]), model });
  }
  const values = result.data as Options;
  return mapValues(options, (_, key) => values[key]);
}

function defaultsOf(options: Keys["options"]): Options {
  const having = Object.entries(options).filter(([, spec]) => spec.default !== undefined);
  return Object.fromEntries(having.map(([key, spec]) => [key, spec.default]));
}

function mapValues<T, U>(table: Readonly<Record<string, T>>, map: (value: T, key: string) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(table).map(([key, value]) => [key, map(value, key)]));
}

function refuseValue(reader: Reader, settings: Settings, { key, model }: { key: string; model: LlamaConfig }): never {
  const { method, others, keys } = reader;
  const setting = settings.get(key);
  const spec = keys.options[key] ?? keys.fixed[key];
  const expected = spec?.expected ?? Object.keys(method.variants ?? {}).join(" or ");
  if (setting === undefined) {
    throw new RefusedInput("a hyperparameter is missing", {
      where: `key ${key}`,
      found: undefined,
      expected,
      hint: "name a preset beside the file: it fills in what the file leaves out",
    });
  }
  const { value, where } = setting;
  const taking = others.filter(
    ({ algName, fixed = {} }) =>
      algName === method.algName && isOwn(fixed, key) && fixed[key]?.schema(model).safeParse(value).success,
  );
  throw new RefusedInput("a hyperparameter has a value it cannot have", {
    where,
    found: value,
    expected,
    ...hintOf(taking),
  });
}

import { nearest, RefusedInput } from "../core/errors.js";
import type { LlamaConfig } from "../model/config.js";
import type { EditMethod, PreparedMethod } from "./contract.js";
import { defer } from "./defer/defer.js";
import { ftEwc } from "./ft/ewc.js";
import { ftL, ftM } from "./ft/ft.js";
import { grace } from "./grace/grace.js";
import { prepareMethod } from "./hparams.js";
import { lora } from "./lora/lora.js";
import { alphaedit } from "./memit/alphaedit.js";
import { memit, memitMass } from "./memit/memit.js";
import { mend } from "./mend/mend.js";
import type { OptionSource, Options } from "./option-table.js";
import { textsOnDisk } from "./presets.js";
import { rome } from "./rome/rome.js";
import { ultraedit } from "./ultraedit/ultraedit.js";
import { wise } from "./wise/wise.js";

/** Every method. A new one is one folder and one line here; nothing outside branches on a name. */
export const methods = {
  wise,
  grace,
  defer,
  "ft-l": ftL,
  "ft-m": ftM,
  "ft-ewc": ftEwc,
  lora,
  mend,
  rome,
  memit,
  "memit-mass": memitMass,
  alphaedit,
  ultraedit,
} as const satisfies Record<string, EditMethod>;

/** @throws {RefusedInput} naming the methods there are */
export function methodNamed(name: string): EditMethod {
  const found = Object.entries<EditMethod>(methods).find(([key]) => key === name)?.[1];
  if (found !== undefined) return found;
  const near = nearest(name, Object.keys(methods));
  throw new RefusedInput("no such editing method", {
    where: "method",
    found: name,
    expected: `one of ${Object.keys(methods).join(", ")}`,
    ...(near === undefined ? {} : { hint: near }),
  });
}

/** Options as a file holds them, with those that were not known when it was written. */
export function withUnsaid(method: string, options: Options): Options {
  const known: EditMethod | undefined = methods[method as keyof typeof methods];
  const later = Object.entries(known?.options ?? {}).filter(
    ([key, { unsaid }]) => unsaid !== undefined && !(key in options),
  );
  return { ...options, ...Object.fromEntries(later.map(([key, { unsaid }]) => [key, unsaid])) };
}

/**
 * A method with its options resolved for a model: ready to be run.
 * @throws {RefusedInput} naming the method or the key, what was given and what is allowed
 */
export async function prepareNamed(name: string, source: OptionSource, model: LlamaConfig): Promise<PreparedMethod> {
  return prepareMethod(methodNamed(name), source, {
    model,
    others: Object.values<EditMethod>(methods),
    texts: textsOnDisk,
  });
}

import { defineMethod, type EditMethod, type Options } from "../../src/edit/contract.js";
import {
  type FtLOptions,
  ftCheck,
  ftFixed,
  ftLOptions,
  ftLPresets,
  ftLVariants,
  ftMOptions,
  ftMPresets,
} from "../../src/edit/ft/options.js";
import {
  graceCheck,
  graceFixed,
  graceOptions,
  gracePresets,
  graceVariants,
  graceWithoutEffect,
} from "../../src/edit/grace/options.js";
import { methods } from "../../src/edit/registry.js";
import { romeCheck, romeFixed, romeOptions, romePresets, romeVariants } from "../../src/edit/rome/options.js";

/** What a method says of its options, without the method. */
export type MethodTables<O extends Options> = Pick<
  EditMethod<O>,
  "name" | "title" | "algName" | "options" | "presets"
> &
  Partial<Pick<EditMethod<O>, "variants" | "fixed" | "withoutEffect" | "check" | "settle">>;

/** A method that has options, and edits nothing. */
export function tableMethod<O extends Options>(tables: MethodTables<O>): EditMethod {
  const none = (): never => {
    throw new Error("this method has options only");
  };
  return defineMethod<O>({ ...tables, about: "nothing", source: "none", targetTerm: "none", plan: none, start: none });
}

export const grace = tableMethod({
  name: "grace",
  title: "GRACE",
  algName: "GRACE",
  options: graceOptions,
  variants: graceVariants,
  fixed: graceFixed,
  withoutEffect: graceWithoutEffect,
  presets: gracePresets,
  check: graceCheck,
});

export const ftL = tableMethod<FtLOptions>({
  name: "ft-l",
  title: "FT-L",
  algName: "FT",
  options: ftLOptions,
  variants: ftLVariants,
  fixed: ftFixed("prompt_last"),
  presets: ftLPresets,
  check: ftCheck,
});

export const ftM = tableMethod({
  name: "ft-m",
  title: "FT-M",
  algName: "FT",
  options: ftMOptions,
  fixed: ftFixed("target_new"),
  presets: ftMPresets,
  check: ftCheck,
});

export const rome = tableMethod({
  name: "rome",
  title: "ROME",
  algName: "ROME",
  options: romeOptions,
  variants: romeVariants,
  fixed: romeFixed,
  presets: romePresets,
  check: romeCheck,
});

/** WISE, and the option tables of the others in methods that edit nothing. */
export const tables: readonly EditMethod[] = [methods.wise, grace, ftL, ftM, rome];

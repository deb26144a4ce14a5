import { InvalidArgumentError } from "commander";

/* Words of the command line as values. Each refuses what it cannot read, with what is expected. */

/** No model has more; a mistyped range shall not fill the memory. */
const MOST_LAYERS = 1000;

/** Values of an option that may be repeated. */
export const collect = (value: string, before: string[] = []) => [...before, value];

export function wholeNumber(text: string): number {
  if (/^[1-9]\d*$/.test(text)) return Number(text);
  throw new InvalidArgumentError("a whole number from 1 is expected.");
}

export function wholeNumbers(text: string): number[] {
  return text.split(",").map(wholeNumber);
}

export function number(text: string): number {
  const [value, ...more] = numbers(text);
  if (value !== undefined && more.length === 0) return value;
  throw new InvalidArgumentError("one number is expected.");
}

export function numbers(text: string): number[] {
  const values = text.split(",").map((part) => (part.trim() === "" ? Number.NaN : Number(part)));
  if (values.every((value) => Number.isFinite(value) && value >= 0)) return values;
  throw new InvalidArgumentError("numbers from 0 are expected, as 0.5,0.7.");
}

/** Layers, counted from 0: single ones and ranges, as 4-8 or 4,6. */
export function layers(text: string): number[] {
  return text.split(",").flatMap((part) => {
    const [, first, last = first] = /^ *(\d+)(?: *- *(\d+))? *$/.exec(part) ?? [];
    const count = Number(last) - Number(first) + 1;
    if (count > 0 && count <= MOST_LAYERS) return Array.from({ length: count }, (_, i) => Number(first) + i);
    throw new InvalidArgumentError("layers from 0 are expected, as 5 or 4-8 or 4,6.");
  });
}

export function positive(text: string): number {
  const value = number(text);
  if (value > 0) return value;
  throw new InvalidArgumentError("a number above 0 is expected.");
}

/** An amount in gigabytes, as 8 or 8GB. */
export function gigabytes(text: string): number {
  const [, value] = /^(\d+(?:\.\d+)?) ?(?:GB)?$/i.exec(text) ?? [];
  if (Number(value) > 0) return Number(value);
  throw new InvalidArgumentError("a number of gigabytes above 0 is expected, as 8 or 8GB.");
}

export function seconds(text: string): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text);
  throw new InvalidArgumentError("a number of seconds from 0 is expected.");
}

export function seed(text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  throw new InvalidArgumentError("a whole number from 0 is expected.");
}

/** A list of names. */
export function names(text: string): string[] {
  return text.split(",").map((name) => name.trim());
}

/** A list of names out of those that are known. */
export function oneOf<Name extends string>(known: readonly Name[]): (text: string) => Name[] {
  return (text) =>
    text.split(",").map((part) => {
      const name = known.find((candidate) => candidate === part);
      if (name !== undefined) return name;
      throw new InvalidArgumentError(`names out of ${known.join(", ")} are expected.`);
    });
}

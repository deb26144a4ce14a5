import { existsSync } from "node:fs";
import { RefusedInput } from "./errors.js";
import { sha256Bytes, sha256Json } from "./hash.js";
import { type JsonlOptions, type JsonlWriter, openJsonl, readJsonl } from "./jsonl.js";

/*
 * A sealed object has one more key, `seal`: the sha256 of its other fields and of what it follows, another seal or a name.
 * The lines of a sealed file follow each other, so that none can be changed, lost, moved or put in unseen.
 */

/** A value as it is written: `seal` is its last key. */
export type Sealed<T extends object> = T & { seal: string };

/** Seals a value that follows `after`. */
export function withSeal<T extends object>(value: T, after: string): Sealed<T> {
  return { ...value, seal: sealOf(value, after) };
}

function sealOf(value: object, after: string): string {
  return sha256Bytes(after + sha256Json(value));
}

/**
 * Checks a seal and takes it off.
 * @throws {RefusedInput} naming `where`, when the value has none or is not as it was sealed
 */
export function unsealed(value: unknown, after: string, where: string): Record<string, unknown> {
  const { seal, ...rest } = (value ?? {}) as Record<string, unknown>;
  if (seal === sealOf(rest, after)) return rest;
  throw new RefusedInput("what stands here is not what was written", {
    where,
    found: seal === undefined ? "no seal" : `a seal of other content: ${seal}`,
    expected: "every line and field as they were written",
    hint: "a copy of it, where there is one; else make it again in another folder",
  });
}

/** The whole lines of a sealed file. */
export interface SealedLines {
  values: Record<string, unknown>[];
  /** Bytes up to the end of the last of them. */
  goodBytes: number;
  /** Seal of the last of them; with none, what the first must follow. */
  seal: string;
}

/**
 * Reads a sealed file, or its first lines; none where it is not there.
 * @throws {RefusedInput} naming the first line that is not what was written
 */
export async function readSealedLines(path: string, after: string, most?: number): Promise<SealedLines> {
  if (!existsSync(path)) return { values: [], goodBytes: 0, seal: after };
  const { values, goodBytes } = await readJsonl(path, { most });
  let seal = after;
  const lines = values.map((value, i) => {
    const line = unsealed(value, seal, `${path}:${i + 1}`);
    ({ seal } = value as Sealed<object>);
    return line;
  });
  return { values: lines, goodBytes, seal };
}

/** Opens a sealed file to append objects behind the lines that were read from it. */
export function openSealedLines(
  path: string,
  { goodBytes, seal }: Omit<SealedLines, "values">,
  options: Omit<JsonlOptions, "keepBytes"> = {},
): JsonlWriter {
  const file = openJsonl(path, { ...options, keepBytes: goodBytes });
  let last = seal;
  return {
    ...file,
    append(value) {
      const sealed = withSeal(value as object, last);
      const line = file.append(sealed);
      last = sealed.seal;
      return line;
    },
  };
}

import { RefusedInput } from "./errors.js";

/**
 * Bytes as UTF-8 text; a byte order mark is dropped.
 * @throws {RefusedInput} when they are not UTF-8. `where` names their file or line.
 */
export function decodeUtf8(bytes: Uint8Array, where: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new RefusedInput("a text is not UTF-8", {
      where,
      found: "bytes that are no UTF-8 text",
      expected: "UTF-8",
      hint: "iconv -f LATIN1 -t UTF-8 FILE > NEWFILE",
      cause,
    });
  }
}

/** First bytes of what Git LFS leaves in a file's place, and the words for it. */
export const LFS_POINTER = { starts: "version ", is: "a Git LFS pointer: the file itself was not downloaded" } as const;

/**
 * The text of a file.
 * @throws {RefusedInput} when it is not UTF-8, or is a Git LFS pointer to the file that is meant.
 */
export function decodeText(bytes: Uint8Array, where: string): string {
  const text = decodeUtf8(bytes, where);
  if (!text.startsWith(`${LFS_POINTER.starts}https://git-lfs`)) return text;
  throw new RefusedInput("a Git LFS pointer stands in a file's place", {
    where,
    found: LFS_POINTER.is,
    expected: "the file itself",
    hint: "git lfs pull, or download the file",
  });
}

/**
 * Parses JSON and refuses what `JSON.parse` lets pass: one key twice in an object, where the first value would vanish.
 * @throws {RefusedInput} naming `where` and the line.
 */
export function parseJson(text: string, where: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new RefusedInput("a text is not JSON", {
      where,
      found: cause instanceof Error ? cause.message : String(cause),
      expected: "JSON",
      cause,
    });
  }
  requireFinite(text, value, where);
  const twice = findDuplicateKey(text);
  if (twice) {
    throw new RefusedInput("a JSON object has one key twice", {
      where: `${where}, line ${text.slice(0, twice.offset).split("\n").length}`,
      found: `"${twice.key}" twice`,
      expected: "every key once",
    });
  }
  return value;
}

/**
 * JSON has no infinity, but `JSON.parse` makes one of a number that a double cannot hold, such as 1e999.
 * @throws {RefusedInput} naming `where`
 */
export function requireFinite(text: string, value: unknown, where: string): void {
  if (!/\d[eE]\+?\d{3}|\d{309}/.test(text)) return; // nothing in it can be so large
  for (const open: unknown[] = [value]; open.length > 0; ) {
    const next = open.pop();
    if (typeof next === "object" && next !== null) for (const inner of Object.values(next)) open.push(inner);
    if (typeof next !== "number" || Number.isFinite(next)) continue;
    throw new RefusedInput("a number is larger than a double can hold", {
      where,
      found: /-?\d[\d.]*[eE]\+?\d{3,}|-?\d{309,}/.exec(text)?.[0],
      expected: "numbers up to 1.8e308",
    });
  }
}

/** Walks the strings and brackets of valid JSON; a string in front of a colon is a key of the innermost object. */
function findDuplicateKey(text: string): { key: string; offset: number } | undefined {
  const open: Set<string>[] = [];
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === "{") open.push(new Set());
    else if (character === "}") open.pop();
    else if (character === '"') {
      const end = stringEnd(text, i);
      if (isColonNext(text, end)) {
        const key = JSON.parse(text.slice(i, end)) as string;
        const keys = open.at(-1) as Set<string>;
        if (keys.has(key)) return { key, offset: i };
        keys.add(key);
      }
      i = end - 1;
    }
  }
  return undefined;
}

/** Position behind the closing quote of the string that opens at `start`. A loop: regular expressions overflow on long strings. */
function stringEnd(text: string, start: number): number {
  let i = start + 1;
  while (text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
  return i + 1;
}

function isColonNext(text: string, start: number): boolean {
  let i = start;
  while (text[i] === " " || text[i] === "\n" || text[i] === "\r" || text[i] === "\t") i++;
  return text[i] === ":";
}

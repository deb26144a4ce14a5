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

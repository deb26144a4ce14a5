import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { basename, extname } from "node:path";
import { errorText, RefusedInput } from "../core/errors.js";
import { decodeUtf8, parseJson } from "../core/json.js";

/** Texts to collect statistics from, and what identifies them. */
export interface TextList {
  name: string;
  /** Of the file, or of what they were made from. */
  sha256: string;
  /** The first ones of those that there are. */
  texts: readonly string[];
}

const FORMS = "a JSON list of texts, or lines that are texts, JSON texts or objects with a text";

/**
 * Reads texts: a JSON list, or JSON lines, of texts or objects { text }; or plain lines. A .txt file has plain lines, a
 * .json file that begins with [ is a list; any other file has JSON lines where its first character is { or ", plain ones
 * otherwise. Empty lines are left out.
 * @param options `samples`: the first texts only, of which there must be so many
 * @throws {RefusedInput} naming file and line
 */
export async function readTexts(path: string, { samples }: { samples?: number | undefined } = {}): Promise<TextList> {
  const hash = createHash("sha256");
  const extension = extname(path).toLowerCase();
  const texts: string[] = [];
  const wanted = samples ?? Number.POSITIVE_INFINITY;
  let form: Form | undefined;
  let whole: Buffer[] | undefined;
  let number = 0;
  for await (const line of linesOf(path, (bytes) => hash.update(bytes))) {
    number += 1;
    if (whole !== undefined) whole.push(line, Buffer.from("\n"));
    else if (texts.length < wanted) {
      const where = `${path}:${number}`;
      const text = decodeUtf8(line, where);
      if (text.trim() === "") continue;
      form ??= formOf(text, extension);
      if (form === "list") whole = [Buffer.alloc(number - 1, "\n"), line, Buffer.from("\n")];
      else texts.push(form === "plain" ? text.replace(/\r$/, "") : textOf(parseJson(text, where), where));
    }
  }
  if (whole !== undefined) texts.push(...listOf(Buffer.concat(whole), path).slice(0, wanted));
  const needed = samples ?? 1;
  if (texts.length < needed) {
    const expected = samples === undefined ? FORMS : `at least ${samples} texts`;
    throw new RefusedInput("a file has too few texts", { where: path, found: `${texts.length} texts`, expected });
  }
  return { name: basename(path, extname(path)), sha256: hash.digest("hex"), texts };
}

type Form = "plain" | "list" | "jsonLines";

function formOf(firstLine: string, extension: string): Form {
  const first = firstLine.trimStart()[0];
  if (extension === ".txt") return "plain";
  if (extension === ".jsonl" || extension === ".ndjson" || first === "{") return "jsonLines";
  if (first === "[") return "list";
  return first === '"' ? "jsonLines" : "plain";
}

function listOf(bytes: Uint8Array, path: string): string[] {
  const items = parseJson(decodeUtf8(bytes, path), path);
  if (!Array.isArray(items)) throw noText(path, items, FORMS);
  return items.map((item, i) => textOf(item, `${path}, text ${i + 1}`));
}

function textOf(item: unknown, where: string): string {
  const text = typeof item === "object" && item !== null && "text" in item ? item.text : item;
  if (typeof text === "string" && text.trim() !== "") return text;
  throw noText(where, item, 'a text that is not empty, or { "text": "..." }');
}

function noText(where: string, found: unknown, expected: string): RefusedInput {
  return new RefusedInput("an entry of a file of texts is no text", { where, found, expected });
}

/** The lines of a file, however large, without their newline. `see` is shown every byte. */
async function* linesOf(path: string, see: (bytes: Buffer) => void): AsyncGenerator<Buffer> {
  let rest: Buffer[] = [];
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
      see(chunk);
      let start = 0;
      for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
        yield Buffer.concat([...rest, chunk.subarray(start, end)]);
        rest = [];
        start = end + 1;
      }
      rest.push(chunk.subarray(start));
    }
  } catch (cause) {
    throw new RefusedInput("a file cannot be read", { where: path, found: errorText(cause), expected: FORMS, cause });
  }
  if (rest.some(({ length }) => length > 0)) yield Buffer.concat(rest);
}

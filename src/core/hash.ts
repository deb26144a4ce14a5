import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { LabFailure, RefusedInput } from "./errors.js";
import { errorText } from "./files.js";

/** SHA-256 of bytes or of a text's UTF-8, in lower-case hex. */
export function sha256Bytes(bytes: Uint8Array | string): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** SHA-256 of bytes that come in parts, in lower-case hex. */
export function sha256Chunks(chunks: Iterable<Uint8Array>): string {
  const hash = createHash("sha256");
  for (const chunk of chunks) hash.update(chunk);
  return hash.digest("hex");
}

/**
 * SHA-256 of a file, in lower-case hex; the file is streamed, never held whole.
 * @throws {RefusedInput} when it cannot be read.
 */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  } catch (cause) {
    throw new RefusedInput("a file cannot be read", {
      where: path,
      found: errorText(cause),
      expected: "a readable file",
      cause,
    });
  }
  return hash.digest("hex");
}

/** SHA-256 of a JSON value: equal for equal values, whatever order their keys were written in. */
export function sha256Json(value: unknown): string {
  return sha256Bytes(canonicalJson(value));
}

/**
 * A value as JSON with sorted keys and no spaces; properties that are undefined are left out, as JSON does.
 * @throws {LabFailure} for what JSON would silently turn into null: NaN, infinities, undefined in a list, functions.
 */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    entries.sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(",")}}`;
  }
  const plain = value === null || typeof value === "string" || typeof value === "boolean" || Number.isFinite(value);
  if (!plain) throw new LabFailure(`${String(value)} has no JSON form to hash`);
  return JSON.stringify(value);
}

import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { golden } from "../support/shared.js";

/** An empty folder that goes away when the test ends. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "wise-lab-model-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A copy of a golden checkpoint that a test may damage: `tiny-llama3` (BF16, four shards) or `tiny-llama3-tied` (F32). */
export async function copyOfGolden(model: "tiny-llama3" | "tiny-llama3-tied"): Promise<string> {
  const folder = join(await temporaryFolder(), model);
  await cp(join(golden, model), folder, { recursive: true });
  return folder;
}

type Json = Record<string, unknown>;

/** Rewrites a JSON file with some keys changed; a key set to undefined goes away. */
export async function changeJson(path: string, change: (content: Json) => Json): Promise<void> {
  const content = JSON.parse(await readFile(path, "utf8")) as Json;
  await writeFile(path, JSON.stringify({ ...content, ...change(content) }));
}

/** The refusal that `work` ends in. Fails when it succeeds, or ends in any other error. */
export async function refusal(work: () => unknown): Promise<RefusedInput> {
  try {
    await work();
  } catch (error) {
    if (error instanceof RefusedInput) return error;
    throw error;
  }
  throw new Error("accepted what should have been refused");
}

/** The bytes of a safetensors file with this header (an object, or text as it is) and data. */
export function safetensorsBytes(header: unknown, data: Uint8Array = new Uint8Array()): Buffer {
  const text = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, data]);
}

import { rm, stat } from "node:fs/promises";
import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { exists, readBytes, readJsonFile, writeFileAtomic } from "../core/files.js";
import { readJsonl } from "../core/jsonl.js";
import { openSealedLines } from "../core/seal.js";
import { sealEdits } from "../edit/saved.js";
import type { EditTrace } from "../edit/trace.js";
import { checkScore } from "../eval/stored.js";
import { checked } from "../model/schema.js";
import { blocksOf } from "./blocks.js";
import { environmentSchema } from "./environment.js";
import {
  configFile,
  configSchema,
  damaged,
  FORMAT,
  fileOf,
  parseLines,
  readFolder,
  readSealed,
  savedEditsFile,
  tokensIn,
} from "./folder-files.js";
import { openRunFolder } from "./folder-writer.js";
import { linesOfBlock, writeBlock } from "./output.js";
import { requireOwnFiles } from "./own-files.js";
import type { RerunFile } from "./position.js";
import { SUMMARY_FORMAT, summaryText } from "./summary-file.js";
import type { StepScore } from "./types.js";

/*
 * Version 3 of a run folder had no seals, and neither had its saved edits and summaries. A conversion reads one, checks of
 * each score that it follows from the tokens beside it, and writes it as a run writes it today. It computes nothing.
 */

const OLD_RUN = "wise-lab run, version 3";
const OLD_SUMMARY = "wise-lab run summary, version 3";

/**
 * Converts a run folder, a summary or a file of saved edits of the form before.
 * @param to where it is written; nothing may be there
 * @returns what was converted, in words
 * @throws {RefusedInput} when it cannot be, with the reason
 */
export async function convert(from: string, to: string): Promise<string> {
  if (await exists(to)) {
    throw new RefusedInput("a conversion is written to a new place", {
      where: to,
      found: "a file or folder",
      expected: "nothing there yet",
      hint: "another name",
    });
  }
  if ((await stat(from).catch(() => null))?.isDirectory()) return convertRun(from, to);
  if (from.endsWith(".safetensors")) return `saved edits, sha256 ${await sealEdits(from, to)}`;
  return convertSummary(from, to);
}

async function convertSummary(from: string, to: string): Promise<string> {
  const { format, ...content } = (await readJsonFile(from)) as Record<string, unknown>;
  requireOld(format, { where: from, old: OLD_SUMMARY, now: SUMMARY_FORMAT });
  await writeFileAtomic(to, summaryText(content));
  return "the summary of a run";
}

const count = z.number().int().nonnegative();
const blockSchema = z.object({ bytes: z.object({ edits: count, scores: count, steps: count, tokens: count }) });
const environmentsSchema = z.tuple([environmentSchema]).rest(environmentSchema);

async function convertRun(from: string, to: string): Promise<string> {
  await requireOwnFiles(from);
  const file = configFile(from);
  const { format, ...rest } = (await readJsonFile(file)) as Record<string, unknown>;
  requireOld(format, { where: file, old: OLD_RUN, now: FORMAT });
  const config = checked(configSchema, rest, file);
  const lines = async (name: "blocks" | "environment" | "timings") => (await readJsonl(fileOf(from, name))).values;
  const blocks = (await lines("blocks")).map((block, i) =>
    checked(blockSchema, block, `${fileOf(from, "blocks")}:${i + 1}`),
  );
  const { bytes } = blocks.at(-1) ?? {};
  if (bytes === undefined) {
    throw new RefusedInput("a run without a finished block has nothing to convert", {
      where: from,
      found: "no finished block",
      expected: "one at least",
      hint: "the command that began it, with another --out",
    });
  }
  const kept = async (name: Exclude<RerunFile, "checkpoints">) => {
    const found = await readBytes(fileOf(from, name));
    if (found.length >= bytes[name]) return parseLines(found.subarray(0, bytes[name]));
    throw damaged(fileOf(from, name), {
      found: `${found.length} bytes`,
      expected: `the ${bytes[name]} that blocks.jsonl names`,
    });
  };
  const scored = async (name: "scores" | "steps") =>
    (await kept(name)).map((score, i) => checkScore(score, `${fileOf(from, name)}:${i + 1}`));
  const [scores, stepScores] = [await scored("scores"), (await scored("steps")) as StepScore[]];
  const texts = tokensIn(await readBytes(fileOf(from, "tokens")));
  const timings = (await lines("timings")) as EditTrace["seconds"][];
  const edits = ((await kept("edits")) as EditTrace[]).map((edit, i): EditTrace => {
    const { frozen, steps } = timings[i] as EditTrace["seconds"];
    return { ...edit, seconds: { frozen, steps } };
  });
  const [{ fromEdit: _, ...environment }, ...later] = checked(environmentsSchema, await lines("environment"), from);

  const textOf = (token: number) => texts.get(token) ?? "";
  const output = await openRunFolder(to, config, { environment, textOf });
  try {
    for (const block of blocksOf(config.protocol.records, config.protocol.T).slice(0, blocks.length)) {
      const lines = linesOfBlock({ protocol: config.protocol, edits, scores, stepScores }, block);
      const { index } = block;
      await writeBlock({ block: index, lines }, output, (path) => sealEdits(savedEditsFile(from, index), path));
    }
  } catch (error) {
    await rm(to, { recursive: true });
    throw error;
  } finally {
    output.close();
  }
  const folder = await readFolder(to);
  const environments = openSealedLines(fileOf(to, "environment"), await readSealed(folder, "environment"));
  for (const change of later) environments.append(change);
  environments.close();
  return `${blocks.length} finished blocks of a run`;
}

function requireOld(format: unknown, { where, old, now }: { where: string; old: string; now: string }): void {
  if (format === old) return;
  throw new RefusedInput("this cannot be converted", {
    where,
    found: format ?? "no format",
    expected: `"${old}": ${format === now ? "this one is of the form of today" : "an older one names options otherwise, and is made again by its command"}`,
  });
}

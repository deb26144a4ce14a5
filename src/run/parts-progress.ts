import { existsSync, statSync } from "node:fs";
import { blocksOfPart, type RunPart } from "./blocks.js";
import { countLines } from "./folder.js";
import { configFile, fileOf } from "./folder-files.js";
import { ownerText } from "./lock.js";
import { partFolder, readParts, readPrepared } from "./parts.js";

/** Progress of a part of a run. */
export interface PartProgress {
  part: RunPart;
  /** "begun" is one that no process has locked: it waits, or has failed. */
  state: "not begun" | "begun" | "at work" | "finished";
  blocks: { made: number; all: number };
  records: number;
  /** Records scored, those of the block that is being made included. */
  scored: number;
  /** Wall seconds for a scored record since it began, pauses included; null before the first. */
  secondsEach: number | null;
  /** The process that has it, in words; null when nobody has. */
  owner: string | null;
}

/** Progress of all parts of a run. @throws {RefusedInput} as `readParts` */
export async function readPartsProgress(run: string, of?: number): Promise<PartProgress[]> {
  const states = await readParts(run, of);
  const config = states.find(({ folder }) => folder !== null)?.folder?.config ?? (await readPrepared(run));
  return states.map(({ part, folder, finished }): PartProgress => {
    const path = partFolder(run, part);
    const own = config === null ? [] : blocksOfPart(config.protocol, part);
    const records = own.reduce((sum, { start, end }) => sum + end - start, 0);
    const { scored } = folder === null ? { scored: 0 } : countLines(path);
    const owner = ownerText(path);
    const state = finished ? "finished" : owner !== null ? "at work" : folder === null ? "not begun" : "begun";
    const secondsEach = scored === 0 ? null : secondsSpent(path) / scored;
    return {
      part,
      state,
      blocks: { made: folder?.blocks.length ?? 0, all: own.length },
      records,
      scored,
      secondsEach,
      owner,
    };
  });
}

/** From the beginning of a run to the last score in it. */
function secondsSpent(path: string): number {
  const timeOf = (file: string) => (existsSync(file) ? statSync(file).mtimeMs : 0) / 1000;
  return Math.max(0, timeOf(fileOf(path, "scores")) - timeOf(configFile(path)));
}

/** All parts together: their pace is that of those at work, and the slowest of these says what is left. */
export function totalOf(parts: readonly PartProgress[]): {
  finished: number;
  scored: number;
  records: number;
  perSecond: number | null;
  secondsLeft: number | null;
} {
  const sum = (of: (part: PartProgress) => number) => parts.reduce((total, part) => total + of(part), 0);
  const [records, scored] = [sum((part) => part.records), sum((part) => part.scored)];
  const perSecond = sum(({ state, secondsEach }) => (state === "at work" && secondsEach ? 1 / secondsEach : 0));
  return {
    finished: parts.filter(({ state }) => state === "finished").length,
    scored,
    records,
    perSecond: perSecond === 0 ? null : perSecond,
    secondsLeft: perSecond === 0 ? null : (records - scored) / perSecond,
  };
}

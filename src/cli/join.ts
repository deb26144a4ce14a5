import { formatDuration } from "../notebook/progress.js";
import { environmentChanges } from "../run/environment.js";
import { readRun } from "../run/folder.js";
import { differenceOf, joinParts } from "../run/join.js";
import { type PartProgress, readPartsProgress, totalOf } from "../run/parts-progress.js";
import { printRun } from "./run.js";

/** Options of `wise-lab join`, as the command line gives them. */
export interface JoinArguments {
  out?: string;
  against?: string;
}

/** `wise-lab join`. Prints the table, and where it was computed. @returns the exit status: 1 where `against` differs */
export async function joinCommand(folder: string, { out, against }: JoinArguments): Promise<number> {
  const { run, parts, environments } = await joinParts(folder, { out });
  printRun(run);
  const [first, ...later] = environments;
  console.log(
    `joined from ${parts} parts, computed in ${environments.length} environment${later.length > 0 ? "s" : ""}`,
  );
  for (const { fromEdit, ...environment } of later) {
    console.log(`  from edit ${fromEdit}: ${environmentChanges(first ?? environment, environment).join("; ")}`);
  }
  console.log(`run folder: ${out ?? folder}`);
  if (against === undefined) return 0;
  const { scores, differ } = differenceOf(run, await readRun(against));
  console.log(`against ${against}: ${differ === 0 ? "equal" : `differs in ${differ} of ${scores} scores`}`);
  return differ === 0 ? 0 : 1;
}

/** `wise-lab parts`: one line for each part, and one for all. @returns the exit status */
export async function partsCommand(folder: string, { of }: { of?: number }): Promise<number> {
  const parts = await readPartsProgress(folder, of);
  for (const part of parts) console.log(partLine(part));
  console.log(totalLine(parts));
  return 0;
}

/** "3 of 6: 4 of 10 blocks, 40 of 100 records scored, 1.2 s each, 1 min left; process 12 is writing to it". */
export function partLine({ part, state, blocks, records, scored, secondsEach, owner }: PartProgress): string {
  const name = `${part.index} of ${part.of}: ${state}`;
  if (state === "not begun") return name;
  const left =
    secondsEach === null ? "" : `, ${secondsEach.toFixed(1)} s each${leftText((records - scored) * secondsEach)}`;
  const who = owner === null ? "" : `; ${owner}`;
  return `${name}, ${blocks.made} of ${blocks.all} blocks, ${scored} of ${records} records scored${left}${who}`;
}

/** All parts in one line. */
export function totalLine(parts: readonly PartProgress[]): string {
  const { finished, scored, records, perSecond, secondsLeft } = totalOf(parts);
  const pace = perSecond === null ? "" : `, ${perSecond.toFixed(2)} records a second`;
  const left = secondsLeft === null ? "" : leftText(secondsLeft);
  return `finished ${finished}/${parts.length}  scored ${scored}/${records}, ${records - scored} left${pace}${left}`;
}

const leftText = (seconds: number) => (seconds === 0 ? "" : `, ${formatDuration(1000 * seconds)} left`);

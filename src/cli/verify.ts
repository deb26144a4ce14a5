import { LabFailure, RefusedInput } from "../core/errors.js";
import { recordsAt } from "../data/fetch.js";
import { loadRecords } from "../data/load.js";
import { TEACHER_FORCED } from "../eval/metrics.js";
import { formatDuration } from "../notebook/progress.js";
import { type CompareOptions, compareWithPublished, comparisonFrame } from "../published/compare.js";
import { type PublishedRow, publishedProtocol, readPublished } from "../published/published.js";
import { toText } from "../tables/readable.js";
import { tableOf } from "../tables/tables.js";
import { type CellRequest, publishedCell, verifyFrame, verifyingRun } from "../verdict/verify.js";
import { type RunArguments, runShown } from "./run.js";
import { terminal } from "./terminal.js";

/** Records whose time is measured before the rest is foretold. */
const MEASURED = 3;

/** Options of `wise-lab verify`, as the command line gives them: a published row's, and a run's. */
export interface VerifyArguments
  extends Omit<CellRequest, "source" | "T">,
    Omit<RunArguments, "T" | "method" | "when"> {
  T?: number;
  method?: string;
  /** Name under which the model is published, where its folder is called otherwise. */
  as?: string;
  dryRun?: boolean;
}

/**
 * `wise-lab verify`: runs the protocol of a published row on the user's model, and compares. Without a source: the rows of
 * LLaMA-3-8B with their commands. @returns the exit status: 0 unless the row could not be run
 */
export async function verifyCommand(
  source: string | undefined,
  { dryRun, as, ...options }: VerifyArguments,
  signal: AbortSignal,
): Promise<number> {
  if (source === undefined) return listRows(options.ofModel ?? "LLaMA-3-8B");
  const { ofModel, dataSet, metric, method, T } = options;
  const row = await publishedCell({ source, ofModel, dataSet, metric, method, T });
  const wanted = await verifyingRun(row);
  if (typeof wanted === "string")
    throw new RefusedInput("this row cannot be run here", {
      where: `${row.source}, ${row.method}`,
      found: wanted,
      expected: "a row from: npx wise-lab verify",
    });
  const data = options.data ?? wanted.data;
  if (data === undefined) {
    throw new RefusedInput("the records of this row must be named", {
      where: row.source,
      found: `${row.data}, no file of which is known`,
      expected: "--data FILE",
    });
  }
  process.stdout.write(toText(tableOf(publishedProtocol(row), "published row"), terminal()));
  const run = {
    ...options,
    ...wanted,
    data,
    limit: options.limit ?? wanted.limit,
    set: [...wanted.set, ...(options.set ?? [])],
    metrics: [...wanted.metrics, ...(options.metrics ?? [])].filter((name) => name !== TEACHER_FORCED.name),
  };
  const named = as === undefined ? {} : { model: as };
  if (dryRun) return foretell(row, run, named, signal);
  const out = options.out ?? `runs/verify-${row.file.replace(/\.json$/, "")}-${run.method}-T${run.T}`;
  const { result } = await runShown({ ...run, out }, signal);
  const comparison = compareWithPublished(row, result, named);
  if (comparison.scores.length === 0) throw new LabFailure(`${row.source} prints no score that runs have`);
  process.stdout.write(toText(comparisonFrame([comparison]), terminal()));
  console.log(`verdict: ${comparison.verdict}${comparison.reason === "" ? "" : `: ${comparison.reason}`}`);
  if (comparison.unknown.length > 0) console.log(`the source leaves open: ${comparison.unknown.join(", ")}`);
  console.log(`run folder: ${out}`);
  return 0;
}

/** Rows of a model with the commands that verify them; of the others why there is none. */
async function listRows(model: string): Promise<number> {
  const all = await readPublished();
  const rows = all.filter((row) => row.model.toLowerCase() === model.toLowerCase());
  if (rows.length === 0) {
    const known = [...new Set(all.map((row) => row.model))].join(", ");
    throw new RefusedInput("nothing is published of this model", {
      where: "--of-model",
      found: model,
      expected: known,
    });
  }
  const { frame, without } = await verifyFrame(rows);
  process.stdout.write(toText(frame, terminal()));
  console.log("Add --model FOLDER; with --dry-run it says first how long the run takes.");
  for (const [reason, names] of without)
    console.log(`${names.length} more: ${reason} (${[...new Set(names)].join(", ")})`);
  return 0;
}

/** Plans the whole run, makes a few of its records, and says how long all take and whether they will be comparable. */
async function foretell(
  row: PublishedRow,
  run: RunArguments & { data: string },
  named: CompareOptions,
  signal: AbortSignal,
): Promise<number> {
  const { result, seconds } = await runShown({ ...run, out: undefined, planOnly: MEASURED }, signal);
  const { records } = await loadRecords(await recordsAt(run.data), { limit: run.limit });
  const made = result.scores.length;
  const whole = formatDuration((seconds / made) * records.length * 1000);
  console.log(`${made} records took ${formatDuration(seconds * 1000)} on one process, from the first edit on.`);
  console.log(
    `All ${records.length} would take about ${whole} so; less where a streamed layer serves many records, or several processes run.`,
  );
  const { reason } = compareWithPublished(row, result, { ...named, records: records.length });
  console.log(reason === "" ? "They will be comparable." : `They will not be comparable: ${reason}`);
  return 0;
}

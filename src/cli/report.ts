import { basename, dirname, resolve } from "node:path";
import { requireWritableFolder, writeFileAtomic } from "../core/files.js";
import { TEACHER_FORCED } from "../eval/metrics.js";
import { reportHtml } from "../report/report.js";
import { checkRun } from "../run/check.js";
import { readRun } from "../run/folder.js";
import { underMetric } from "../run/under-metric.js";

/** `wise-lab report`: a run as one HTML file. @returns the exit status */
export async function reportCommand(folder: string, options: { out?: string; metric?: string }): Promise<number> {
  const name = basename(resolve(folder));
  const out = options.out ?? `${name}-report.html`;
  const { metric = TEACHER_FORCED.name } = options;
  const run = underMetric(await readRun(folder), metric);
  await requireWritableFolder(dirname(out));
  await writeFileAtomic(out, await reportHtml(run, name));
  const { length } = run.scores;
  const { records } = run.protocol;
  console.log(
    `${out}: ${length < records ? `${length} of ${records} records; the run is not finished` : `${records} records`}`,
  );
  return 0;
}

/** `wise-lab check`: runs against their seals. @returns the exit status */
export async function checkCommand(folders: readonly string[]): Promise<number> {
  for (const folder of folders)
    console.log(`${folder}: ${await checkRun(folder)} finished blocks, as they were written`);
  return 0;
}

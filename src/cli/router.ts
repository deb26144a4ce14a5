import { dirname, join } from "node:path";
import { requireWritableFolder, writeFileAtomic } from "../core/files.js";
import { TEACHER_FORCED } from "../eval/metrics.js";
import { exploreRouter, type RouterExploration } from "../explore/router/exploreRouter.js";
import { routerFindings } from "../explore/router/findings.js";
import { routerCurves } from "../explore/router/routerCurves.js";
import { routerRocCurve } from "../explore/router/routerRocCurve.js";
import { evenValues, routerPoints } from "../explore/router/routerScores.js";
import { routingHistogram } from "../explore/router/routingHistogram.js";
import { bestValuesView, routerRows, routerView, runNames } from "../explore/router/tables.js";
import { createRenderer, exportFigure } from "../figures/export.js";
import type { Figure } from "../figures/figure.js";
import { readRunsAt } from "../run/finished.js";
import type { ScoredRun } from "../run/types.js";
import { underMetric } from "../run/under-metric.js";
import { caption } from "../tables/protocols.js";
import { toCsv, toText } from "../tables/readable.js";
import { tableOf } from "../tables/tables.js";
import { terminal } from "./terminal.js";

/** Options of `wise-lab explore router`, as the command line gives them. */
export interface RouterArguments {
  from: number;
  to: number;
  points: number;
  /** Values that the table shows, besides the run's own and the best. */
  at: number[];
  /** Of the scores, by name. */
  metric?: string;
  figures?: string;
  csv?: string;
}

/** `wise-lab explore router`: tables and what they say, for each run. Loads no model. @returns the exit status */
export async function routerCommand(paths: readonly string[], options: RouterArguments): Promise<number> {
  const values = evenValues(options);
  const { csv, figures, metric = TEACHER_FORCED.name } = options;
  for (const folder of [csv && dirname(csv), figures]) if (folder) await requireWritableFolder(folder);
  const runs: ScoredRun[] = [];
  for (const path of paths) runs.push(...(await readRunsAt(path)).map((run) => underMetric(run, metric)));
  const explorations = runs.map((run) => exploreRouter(run, values));
  const names = runNames(runs);
  for (const [i, exploration] of explorations.entries())
    console.log(textOf(exploration, names[i] as string, options.at));
  if (runs.length > 1) console.log(toText(bestValuesView(explorations), terminal()));
  console.log(caption(runs));
  if (csv !== undefined) await writeFileAtomic(csv, toCsv(curvesTable(explorations, names)));
  if (figures !== undefined) await saveFigures(explorations, figures);
  return 0;
}

function textOf(exploration: RouterExploration, name: string, at: readonly number[]): string {
  const { run, own, best } = exploration;
  const points = routerPoints(run, [...at, own.value, best.value]);
  return `${name}\n\n${toText(routerView(points), terminal())}\n${routerFindings(exploration).join("\n")}\n`;
}

function curvesTable(explorations: readonly RouterExploration[], names: readonly string[]) {
  const rows = explorations.flatMap(({ points, option }, i) =>
    routerRows(points).map(({ [option.key]: value, ...row }) => ({
      ...{ run: names[i] as string, option: option.key, value: value ?? null },
      ...row,
    })),
  );
  return tableOf(rows, "runs");
}

async function saveFigures(explorations: readonly RouterExploration[], folder: string): Promise<void> {
  const renderer = await createRenderer();
  try {
    for (const [i, exploration] of explorations.entries()) {
      const number = explorations.length === 1 ? "" : `-${i + 1}`; // in the order of the runs
      const drawn: [string, Figure][] = [
        [`router-curves${number}`, routerCurves([exploration])],
        [`router-roc${number}`, routerRocCurve([exploration])],
        [`router-turns${number}`, routingHistogram(exploration.run, { unit: "option" })],
      ];
      for (const [name, figure] of drawn) {
        const source = { command: "wise-lab explore router", runs: [exploration.run] };
        const { files } = await exportFigure(figure, join(folder, name), undefined, { renderer, source });
        console.log(files.join(" "));
      }
    }
    if (renderer.steppedDown !== null) console.error(renderer.steppedDown);
  } finally {
    await renderer.close();
  }
}

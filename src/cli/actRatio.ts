import { dirname, join } from "node:path";
import { requireWritableFolder, writeFileAtomic } from "../core/files.js";
import { type ActRatioExploration, exploreActRatio } from "../explore/exploreActRatio.js";
import { actRatioFindings } from "../explore/findings.js";
import { evenRatios, ratioPoints } from "../explore/ratioScores.js";
import { bestRatiosView, ratiosFrame, ratiosView, runNames } from "../report/actRatio.js";
import { createRenderer, exportFigure } from "../report/export.js";
import type { Figure } from "../report/figure.js";
import { actRatioCurves } from "../report/figures/actRatioCurves.js";
import { routerRocCurve } from "../report/figures/routerRocCurve.js";
import { routingHistogram } from "../report/figures/routingHistogram.js";
import { toCsv, toText } from "../report/format.js";
import { readRunsAt } from "../report/measured.js";
import { caption } from "../report/protocols.js";
import { frameOf, rowsOf } from "../report/tables.js";
import type { ScoredRun } from "../run/types.js";

/** Options of `wise-lab explore act-ratio`, as the command line gives them. */
export interface ActRatioArguments {
  from: number;
  to: number;
  points: number;
  /** Values that the table shows, besides the run's own and the best. */
  at: number[];
  figures?: string;
  csv?: string;
}

/** `wise-lab explore act-ratio`: tables and what they say, for each run. Loads no model. @returns the exit status */
export async function actRatioCommand(paths: readonly string[], options: ActRatioArguments): Promise<number> {
  const ratios = evenRatios(options);
  const { csv, figures } = options;
  for (const folder of [csv && dirname(csv), figures]) if (folder) await requireWritableFolder(folder);
  const runs: ScoredRun[] = [];
  for (const path of paths) runs.push(...(await readRunsAt(path)));
  const explorations = runs.map((run) => exploreActRatio(run, ratios));
  const names = runNames(runs);
  for (const [i, exploration] of explorations.entries())
    console.log(textOf(exploration, names[i] as string, options.at));
  if (runs.length > 1) console.log(toText(bestRatiosView(explorations)));
  console.log(caption(runs));
  if (csv !== undefined) await writeFileAtomic(csv, toCsv(curvesFrame(explorations, names)));
  if (figures !== undefined) await saveFigures(explorations, figures);
  return 0;
}

function textOf(exploration: ActRatioExploration, name: string, at: readonly number[]): string {
  const { run, own, best } = exploration;
  const points = ratioPoints(run, [...at, own.ratio, best.ratio]);
  return `${name}\n\n${toText(ratiosView(points))}\n${actRatioFindings(exploration).join("\n")}\n`;
}

function curvesFrame(explorations: readonly ActRatioExploration[], names: readonly string[]) {
  const rows = explorations.flatMap(({ points }, i) =>
    rowsOf(ratiosFrame(points)).map((row) => ({ run: names[i] as string, ...row })),
  );
  return frameOf(rows, "runs");
}

async function saveFigures(explorations: readonly ActRatioExploration[], folder: string): Promise<void> {
  const renderer = await createRenderer();
  try {
    for (const [i, exploration] of explorations.entries()) {
      const number = explorations.length === 1 ? "" : `-${i + 1}`; // in the order of the runs
      const drawn: [string, Figure][] = [
        [`act-ratio-curves${number}`, actRatioCurves([exploration])],
        [`act-ratio-roc${number}`, routerRocCurve([exploration])],
        [`act-ratio-activations${number}`, routingHistogram(exploration.run, { unit: "min_act" })],
      ];
      for (const [name, figure] of drawn) {
        const source = { command: "wise-lab explore act-ratio", runs: [exploration.run] };
        const { files } = await exportFigure(figure, join(folder, name), undefined, { renderer, source });
        console.log(files.join(" "));
      }
    }
    if (renderer.steppedDown !== null) console.error(renderer.steppedDown);
  } finally {
    await renderer.close();
  }
}

import { dirname, join } from "node:path";
import { requireWritableFolder, writeFileAtomic } from "../core/files.js";
import { TEACHER_FORCED } from "../eval/metrics.js";
import { gridHeatmap } from "../explore/grid/gridHeatmap.js";
import { gridView } from "../explore/grid/grids.js";
import { forgettingCurves } from "../explore/retention/forgettingCurves.js";
import {
  forgettingFrame,
  forgettingView,
  retained,
  retentionFrame,
  retentionGrid,
} from "../explore/retention/retention.js";
import { createRenderer, exportFigure } from "../figures/export.js";
import { readRun } from "../run/folder.js";
import { underMetric } from "../run/under-metric.js";
import { caption } from "../tables/protocols.js";
import { toCsv, toText } from "../tables/readable.js";
import { terminal } from "./terminal.js";

/** Options of `wise-lab explore retention`, as the command line gives them. */
export interface RetentionArguments {
  metric?: string;
  figures?: string;
  csv?: string;
}

/** `wise-lab explore retention`: what stands of edits after later ones. Loads no model. @returns the exit status */
export async function retentionCommand(folder: string, options: RetentionArguments): Promise<number> {
  const { csv, figures, metric = TEACHER_FORCED.name } = options;
  for (const place of [csv && dirname(csv), figures]) if (place) await requireWritableFolder(place);
  const run = underMetric(await readRun(folder), metric);
  console.log(`${toText(gridView(retentionGrid(run)), terminal())}\n`);
  console.log(toText(forgettingView(forgettingFrame(run)), terminal()));
  console.log(caption([run]));
  if (csv !== undefined) await writeFileAtomic(csv, toCsv(retentionFrame(run)));
  if (figures === undefined) return 0;
  const renderer = await createRenderer();
  try {
    const drawn = [
      ...retained.map((name) => [`retention-${name}`, gridHeatmap(retentionGrid(run, name))] as const),
      ["forgetting", forgettingCurves(run)] as const,
    ];
    for (const [name, figure] of drawn) {
      const source = { command: "wise-lab explore retention", runs: [run] };
      const { files } = await exportFigure(figure, join(figures, name), undefined, { renderer, source });
      console.log(files.join(" "));
    }
    if (renderer.steppedDown !== null) console.error(renderer.steppedDown);
  } finally {
    await renderer.close();
  }
  return 0;
}

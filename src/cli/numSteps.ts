import { dirname, join } from "node:path";
import { requireWritableFolder, writeFileAtomic } from "../core/files.js";
import { methodNamed } from "../edit/registry.js";
import { gridHeatmap } from "../explore/grid/gridHeatmap.js";
import { bestCells, type Grid, gridOf, gridView, type Place } from "../explore/grid/grids.js";
import { exploreSteps, type StepsRequest } from "../explore/steps/numSteps.js";
import { stepsCurve } from "../explore/steps/stepsCurve.js";
import { stepsFindings, stepsFrame, stepsOf, stepsView } from "../explore/steps/tables.js";
import { createRenderer, exportFigure } from "../figures/export.js";
import type { Figure } from "../figures/figure.js";
import type { RunResult } from "../run/types.js";
import { caption } from "../tables/protocols.js";
import { toCsv, toText } from "../tables/readable.js";
import { type SharedArguments, showSweep, sweepRunOf } from "./sweep.js";
import { terminal } from "./terminal.js";

/** Options of `wise-lab explore num-steps`, as the command line gives them. */
export interface NumStepsArguments extends SharedArguments, Pick<StepsRequest, "T" | "steps"> {
  /** Values of the router's inference-only option that the steps are crossed with, at T = 1. */
  values: number[];
  workers?: number;
  out?: string;
  figures?: string;
  csv?: string;
}

/** `wise-lab explore num-steps`. Prints a progress line, the tables and what they say. @returns the exit status */
export async function numStepsCommand(options: NumStepsArguments, signal: AbortSignal): Promise<number> {
  const { T, steps, values, workers, out = `runs/num-steps-T${T}`, figures, csv, ...shared } = options;
  const request = { T, steps, ...sweepRunOf(shared) };
  for (const folder of [figures, csv && dirname(csv)]) if (folder) await requireWritableFolder(folder);
  const runs = await showSweep((shown) => exploreSteps(request, { out, workers, signal, ...shown }));
  const frame = stepsFrame(runs);
  console.log(toText(stepsView(frame), terminal()));
  for (const line of stepsFindings(frame)) console.log(line);
  const grid = gridAcross(runs, values);
  if (grid !== null) {
    console.log(
      `\nAvg over ${grid.x.title}, by arithmetic from the same edits:\n\n${toText(gridView(grid), terminal())}`,
    );
    console.log(`best: ${bestText(grid)}`);
  }
  console.log(`\n${caption(runs)}\nrun folders: ${out}`);
  if (csv !== undefined) await writeFileAtomic(csv, toCsv(frame));
  if (figures !== undefined) await drawFigures(runs, grid, figures);
  return 0;
}

/** At T = 1 the last run is the pass that the others come from; a method without a router has nothing to cross with. */
function gridAcross(runs: readonly RunResult[], values: readonly number[]): Grid | null {
  const pass = runs.at(-1) as RunResult;
  const { T, method } = pass.protocol;
  if (T !== 1 || methodNamed(method).router?.inference === undefined) return null;
  return gridOf(pass, { values, steps: runs.map(stepsOf) });
}

function bestText(grid: Grid): string {
  const [first, ...equal] = bestCells(grid) as [Place, ...Place[]];
  const others = equal.length === 0 ? "" : ` and ${equal.length} equal cells`;
  const at = `${grid.y.title} ${grid.y.values[first.y]}, ${grid.x.title} ${grid.x.values[first.x]}${others}`;
  return `${at}; the best of many on the same records, so a little too good`;
}

async function drawFigures(runs: readonly RunResult[], grid: Grid | null, folder: string): Promise<void> {
  const renderer = await createRenderer();
  try {
    const named: [string, Figure][] = [["num-steps-curve", stepsCurve(runs)]];
    if (grid !== null) named.push(["num-steps-grid", gridHeatmap(grid)]);
    const command = `wise-lab explore num-steps --T ${runs[0]?.protocol.T} --steps ${runs.map(stepsOf).join(",")}`;
    const source = { command, runs: grid === null ? runs : runs.slice(-1) };
    for (const [name, figure] of named) {
      const { files, steppedDown } = await exportFigure(figure, join(folder, name), undefined, { renderer, source });
      for (const file of files) console.log(file);
      if (steppedDown !== null) console.error(steppedDown);
    }
  } finally {
    await renderer.close();
  }
}

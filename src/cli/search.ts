import { exploreRouter } from "../explore/router/exploreRouter.js";
import {
  type RouterChoice,
  resultsOf,
  routerRunsOf,
  type SearchResults,
  saveResults,
  searchOf,
} from "../run/search.js";
import type { ScoredRun } from "../run/types.js";
import { toText } from "../tables/readable.js";
import type { BackendName } from "../tensor/backend.js";
import { runShownSweep } from "./sweep.js";
import { terminal } from "./terminal.js";

/** Options of `wise-lab search`, as the command line gives them. */
export interface SearchArguments {
  workers?: number;
  out: string;
  save?: boolean;
  backend?: BackendName;
}

/** `wise-lab search`: tries each method's settings on practice records. Prints what came of it. @returns the exit status */
export async function searchCommand(
  wanted: readonly string[],
  { workers, out, save, backend }: SearchArguments,
  signal: AbortSignal,
): Promise<number> {
  const { points, shared, methods } = searchOf(wanted);
  const runs = await runShownSweep(points, { ...shared, backend }, { out, workers, signal });
  const results = resultsOf(methods, runs);
  for (const [method, result] of Object.entries(results)) {
    const atT = routerRunsOf(method, result);
    if (atT.length === 0) continue;
    const made = await runShownSweep(atT, { ...shared, limit: undefined, backend }, { out, workers, signal });
    result.router = Object.fromEntries(made.map((run, i) => [String(atT[i]?.T), routerChoice(run)]));
  }
  process.stdout.write(toText(settingsTable(results), terminal()));
  console.log(`run folders: ${out}`);
  if (save) console.log(`results:     ${await saveResults(results)}`);
  return 0;
}

/** The router's setting that is best on the records of a run. */
function routerChoice(run: ScoredRun): RouterChoice {
  const { option, points, best } = exploreRouter(run);
  const { from, to, value } = best;
  const at = points.find((point) => point.value === value) as (typeof points)[number];
  return {
    set: [`${option.key}=${value}`],
    from,
    to,
    rewrite: at.rewrite.mean,
    rephrase: at.rephrase.mean,
    locality: at.locality.mean,
    average: at.average.mean,
  };
}

function settingsTable(results: SearchResults) {
  const columns = ["method", "T", "settings", "rewrite", "rephrase", "locality", "Avg", "unedited", "chosen"];
  const values = Object.entries(results).flatMap(([method, { chosen, tried, router = {} }]) => [
    ...tried.flatMap(({ set, T }) =>
      Object.entries(T).map(([at, { rewrite, rephrase, locality, average, unedited }]) => [
        method,
        at,
        set.join(" ") || "preset",
        rewrite,
        rephrase,
        locality,
        average,
        unedited,
        set.join() === chosen.join() ? "yes" : "",
      ]),
    ),
    ...Object.entries(router).map(([at, { set, rewrite, rephrase, locality, average }]) => [
      method,
      at,
      [...chosen, ...set].join(" "),
      rewrite,
      rephrase,
      locality,
      average,
      null,
      "at this T",
    ]),
  ]);
  return { columns, values };
}

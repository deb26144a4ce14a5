import { resultsOf, type SearchResults, saveResults, searchOf } from "../run/search.js";
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
  process.stdout.write(toText(tableOf(results), terminal()));
  console.log(`run folders: ${out}`);
  if (save) console.log(`results:     ${await saveResults(results)}`);
  return 0;
}

function tableOf(results: SearchResults) {
  const columns = ["method", "T", "settings", "rewrite", "rephrase", "locality", "Avg", "unedited", "chosen"];
  const values = Object.entries(results).flatMap(([method, { chosen, tried }]) =>
    tried.flatMap(({ set, T }) =>
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
  );
  return { columns, values };
}

import { existsSync, readFileSync } from "node:fs";
import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { writeFileAtomic } from "../core/files.js";
import { mean } from "../core/stats.js";
import { TARGET_STOPS } from "../edit/target-stop.js";
import { checked } from "../model/schema.js";
import { projectFile } from "./inputs.js";
import { type MeasureName, valuesOf } from "./measures.js";
import type { SweepPoint, SweepRun } from "./sweep.js";
import type { RunResult } from "./types.js";

/*
 * The search of each method's settings, on practice records alone: what is tried stands in data/lab/search.json, what came
 * of it in data/lab/search-results.json.
 */

const SEARCH_FILE = projectFile("data", "lab", "search.json");
const RESULTS_FILE = projectFile("data", "lab", "search-results.json");

const searchSchema = z.strictObject({
  about: z.string(),
  data: z.string(),
  irrelevant: z.string(),
  limit: z.int().positive(),
  T: z.array(z.int().positive()),
  unedited: z.int().positive(),
  targetStop: z.enum(TARGET_STOPS),
  candidates: z.record(z.string(), z.array(z.array(z.string())).min(1)),
  router: z.record(z.string(), z.array(z.int().positive()).min(1)),
});

/** Measures that a search keeps of each run. */
const KEPT = ["rewrite", "rephrase", "locality", "average", "unedited"] as const satisfies readonly MeasureName[];

const scoresSchema = z.object(Object.fromEntries(KEPT.map((name) => [name, z.number()])) as Record<Kept, z.ZodNumber>);
type Kept = (typeof KEPT)[number];

const routerSchema = z.strictObject({
  set: z.array(z.string()),
  from: z.number(),
  to: z.number(),
  rewrite: z.number(),
  rephrase: z.number(),
  locality: z.number(),
  average: z.number(),
});

/** A router's setting for one T: the middle of the stretch on which Avg is largest, and the scores there. */
export type RouterChoice = z.infer<typeof routerSchema>;
const resultsSchema = z.record(
  z.string(),
  z.strictObject({
    chosen: z.array(z.string()),
    tried: z.array(
      z.strictObject({ set: z.array(z.string()), value: z.number(), T: z.record(z.string(), scoresSchema) }),
    ),
    router: z.record(z.string(), routerSchema).optional(),
  }),
);

/** Settings that were tried for each method, the one that was chosen, and its router's settings by T. */
export type SearchResults = z.infer<typeof resultsSchema>;
type Result = SearchResults[string];

/** The search of some methods, as points of a sweep and what they share. @throws {RefusedInput} for a method without one */
export function searchOf(methods: readonly string[]): { points: SweepPoint[]; shared: SweepRun; methods: string[] } {
  const { data, irrelevant, limit, T: Ts, unedited, targetStop, candidates } = readSearch();
  const names = methods.length > 0 ? [...methods] : Object.keys(candidates);
  const points = names.flatMap((method) => {
    const sets = candidates[method];
    if (sets === undefined) {
      throw new RefusedInput("no settings are to be tried for this method", {
        where: SEARCH_FILE,
        found: method,
        expected: Object.keys(candidates).join(", "),
      });
    }
    return sets.flatMap((set, i) => Ts.map((T): SweepPoint => ({ name: pointName(method, i, T), method, T, set })));
  });
  const file = (name: string) => projectFile("data", "lab", name);
  return {
    points,
    shared: { data: file(data), irrelevant: file(irrelevant), limit, unedited, targetStop },
    methods: names,
  };
}

/**
 * Runs with the settings that were chosen for a method, on all practice records, one for each T at which its router
 * gets a setting of its own. None where the search asks for none.
 */
export function routerRunsOf(method: string, { chosen }: Pick<Result, "chosen">): SweepPoint[] {
  const Ts = readSearch().router[method] ?? [];
  return Ts.map((T) => ({ name: `${method}-router-T${T}`, method, T, set: chosen }));
}

/** Results of a search, method by method. @param runs in the order of its points */
export function resultsOf(methods: readonly string[], runs: readonly RunResult[]): SearchResults {
  const { T: Ts, candidates } = readSearch();
  const left = [...runs];
  return Object.fromEntries(
    methods.map((method) => {
      const tried = (candidates[method] as string[][]).map((set) => {
        const T = Object.fromEntries(Ts.map((one) => [String(one), scoresOf(left.shift() as RunResult)]));
        return { set, value: mean(Object.values(T).map(({ average }) => average)), T };
      });
      const best = Math.max(...tried.map(({ value }) => value));
      const chosen = tried.find(({ value }) => value === best) as (typeof tried)[number];
      return [method, { chosen: chosen.set, tried }];
    }),
  );
}

/** Writes results beside those of other methods. @returns the file */
export async function saveResults(results: SearchResults): Promise<string> {
  const all = { ...readResults(), ...results };
  const sorted = Object.fromEntries(Object.entries(all).sort(([a], [b]) => (a < b ? -1 : 1)));
  await writeFileAtomic(RESULTS_FILE, `${JSON.stringify(sorted, null, 1)}\n`);
  return RESULTS_FILE;
}

/**
 * Settings that the search chose for a method. A router has them by T: those of the largest T that was tried and is not
 * above this one.
 * @throws {RefusedInput} where it was not searched yet, with the command that does it
 */
export function chosenSettings(method: string, T: number | string): string[] {
  const all = readResults();
  const found = all[method];
  if (found !== undefined) {
    const tried = Object.keys(found.router ?? {}).map(Number);
    const nearest = Math.max(...tried.filter((one) => T === "all" || one <= Number(T)));
    return [...found.chosen, ...(found.router?.[nearest]?.set ?? [])];
  }
  throw new RefusedInput("no settings of a method were chosen yet", {
    where: RESULTS_FILE,
    found: method,
    expected: Object.keys(all).join(", ") || "the results of a search",
    hint: `npx wise-lab search ${method} --save`,
  });
}

/** The results that come with the project; none where there are none yet. */
export function readResults(): SearchResults {
  if (!existsSync(RESULTS_FILE)) return {};
  return checked(resultsSchema, JSON.parse(readFileSync(RESULTS_FILE, "utf8")), RESULTS_FILE);
}

function readSearch(): z.infer<typeof searchSchema> {
  return checked(searchSchema, JSON.parse(readFileSync(SEARCH_FILE, "utf8")), SEARCH_FILE);
}

function pointName(method: string, candidate: number, T: number): string {
  return `${method}-${candidate + 1}-T${T}`;
}

function scoresOf({ scores }: RunResult): Record<Kept, number> {
  return Object.fromEntries(KEPT.map((name) => [name, mean(valuesOf(scores, name))])) as Record<Kept, number>;
}

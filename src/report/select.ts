import type { DataFrame } from "danfojs-node";
import { mean } from "../core/stats.js";
import type { Router } from "../edit/contract.js";
import { methodNamed } from "../edit/registry.js";
import type { RecordScore } from "../eval/types.js";
import { causeNames, causes } from "../run/causes.js";
import type { RunResult } from "../run/types.js";
import { frameOf, type Row } from "../tables/tables.js";
import { probeKinds } from "../tables/values.js";
import { type CaseFilter, matches } from "./app/filter.js";
import type { Case, CauseName } from "./app/types.js";
import { casesOf } from "./case.js";

/**
 * Records of a run, e.g. `{ probe: "rephrase", cause: "not routed" }`: those with a probe that is all of this at once.
 * A filter of nothing gives every record.
 */
export function casesWhere(run: RunResult, filter: CaseFilter): RecordScore[] {
  const records = new Set(
    casesOf(run)
      .filter((each) => matches(each, filter))
      .map(({ record }) => record),
  );
  return run.scores.filter(({ record }) => records.has(record));
}

/**
 * Causes of probes that are not right: one row per cause and one for those that are right, with the number of probes of
 * each kind and of records with any such probe.
 */
export function causesFrame(run: RunResult): DataFrame {
  const method = methodNamed(run.protocol.method);
  return frameOf(causeRows(casesOf(run, method), method.router), "causes");
}

/** The rows of `causesFrame`: those of `causesShown`, then what is right. */
export function causeRows(cases: readonly Case[], router: Router | undefined): Row[] {
  const kinds = probeKinds.filter((kind) => cases.some(({ probes }) => probes.some((probe) => probe.kind === kind)));
  const row = (cause: CauseName | null, meaning: string): Row => {
    const having = cases.map(({ probes }) => probes.filter((probe) => probe.cause === cause));
    const counts = kinds.map((kind) => [kind, having.flat().filter((probe) => probe.kind === kind).length] as const);
    const records = having.filter((probes) => probes.length > 0).length;
    return { cause: cause ?? "right", ...Object.fromEntries(counts), records, meaning };
  };
  const names = causesShown(cases, router);
  return [...names.map((name) => row(name, causes[name])), row(null, "Every token is as it should be.")];
}

/** The causes that a method can have; the one of edits that log no loss, where some probe has it. */
export function causesShown(cases: readonly Case[], router: Router | undefined): CauseName[] {
  const isThere = (name: CauseName) => cases.some(({ probes }) => probes.some(({ cause }) => cause === name));
  return causeNames(router).filter((name) => name !== "forgotten or not learned" || isThere(name));
}

/** Cases as rows for a table: what was asked and wanted, the score of each kind of probe, and why any is not right. */
export function caseRows(cases: readonly Case[]): Row[] {
  const kinds = probeKinds.filter((kind) => cases.some(({ probes }) => probes.some((probe) => probe.kind === kind)));
  return cases.map(({ record, block, probes }) => {
    const [rewrite] = probes;
    const scores = kinds.map((kind) => {
      const own = probes.filter((probe) => probe.kind === kind).map(({ score }) => score);
      return [kind, own.length === 0 ? null : mean(own)] as const;
    });
    const why = [...new Set(probes.map(({ cause }) => cause).filter((cause) => cause !== null))].join(", ");
    return {
      ...{ record, block, prompt: rewrite?.prompt ?? "", answer: rewrite?.answer ?? "" },
      ...Object.fromEntries(scores),
      causes: why,
    };
  });
}

import type { Case, CaseKind, CaseProbe, CauseName, MethodWords, Outcome } from "./types.js";

/** Filter of records: those pass that have a probe with all of this at once. A field left out, or "", takes any. */
export interface CaseFilter {
  block?: number | "" | undefined;
  probe?: CaseKind | "" | undefined;
  outcome?: Outcome | "not right" | "" | undefined;
  cause?: CauseName | "" | undefined;
  /** A variant; "not-main" is any of them but the untouched model. */
  route?: string | undefined;
  /** Words that all stand in the record: in its subject, prompts, answers or number. Upper and lower case are one. */
  text?: string | undefined;
}

/** True if a record passes. */
export function matches(one: Case, filter: CaseFilter): boolean {
  const { block = "", text = "" } = filter;
  if (block !== "" && one.block !== block) return false;
  if (!one.probes.some((probe) => probeMatches(probe, filter))) return false;
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const told = one.probes.map(({ prompt, answer }) => `${prompt}\n${answer}`);
  const all = `#${one.record}\n${one.subject}\n${told.join("\n")}`.toLowerCase();
  return words.every((word) => all.includes(word));
}

/** True if a probe is what the filter asks of one. */
function probeMatches(found: CaseProbe, filter: CaseFilter): boolean {
  const { probe = "", outcome = "", cause = "", route = "" } = filter;
  return (
    (probe === "" || found.kind === probe) &&
    (cause === "" || found.cause === cause) &&
    (outcome === "" || found.outcome === outcome || (outcome === "not right" && found.outcome !== "right")) &&
    (route === "" || found.route === route || (route === "not-main" && found.route !== "main"))
  );
}

/** Orders of a list of records; what is worst comes first. */
export const orders = {
  record: { name: "record", by: (one) => one.record },
  score: { name: "lowest score", by: (one) => meanOf(one.probes.map(({ score }) => score)) },
  margin: { name: "smallest rewrite margin", by: rewriteMargin },
  loss: { name: "highest final loss", by: (one, { targetTerm }) => -(one.edit?.steps.at(-1)?.[targetTerm] ?? 0) },
  steps: { name: "most steps", by: (one) => -(one.edit?.steps.length ?? 0) },
} satisfies Record<string, { name: string; by: (one: Case, words: MethodWords) => number }>;

export type Order = keyof typeof orders;

/** The records that pass, in order; records that are equal in it stay in the run's order. */
export function selectCases(
  cases: readonly Case[],
  words: MethodWords,
  { filter, order }: { filter: CaseFilter; order: Order },
): Case[] {
  const by: (one: Case, words: MethodWords) => number = orders[order].by;
  return cases.filter((one) => matches(one, filter)).sort((a, b) => by(a, words) - by(b, words));
}

/** The margin of the variant that came closest to answering the edited question, or did. */
function rewriteMargin({ probes: [rewrite] }: Case): number {
  return Math.max(0, ...(rewrite?.readings ?? []).map(({ margin }) => margin));
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

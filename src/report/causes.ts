import type { Router } from "../edit/contract.js";
import type { ProbeScore } from "../eval/types.js";
import { type CauseName, remadeReading } from "../run/causes.js";
import { marginText, shortNumber } from "./app/charts.js";
import type { CaseKind, CaseReading } from "./app/types.js";
import { called } from "./words.js";

/** Facts that a cause is told with. */
export interface Told {
  cause: CauseName;
  readings: readonly CaseReading[];
  /** Mean of -log p of the target at the last step of the record's edit, in nats a token; null where none was logged. */
  lastLoss: number | null;
  laterEdits: number;
  kind: CaseKind;
  router: Router | undefined;
}

/** The cause of a probe that is not right in one sentence, with its numbers. */
export function whyOf(probe: ProbeScore, told: Told): string {
  return sentences[told.cause](probe, told);
}

function rightReading({ readings }: Told): CaseReading {
  return readings.find(({ score }) => score === 1) as CaseReading;
}

type Sentence = (probe: ProbeScore, at: Told) => string;

const sentences: Record<CauseName, Sentence> = {
  "over-edited": ({ route }, at) => {
    const harm = at.kind === "locality" ? "the answer had to stay as it was" : "the untouched model had it right";
    return `${answered(route, at)}; ${harm}.`;
  },
  "not routed": (_, at) => {
    const { variant, margin } = rightReading(at);
    const needed = margin < 1 ? `its margin was ${marginText(margin)}: 1 is needed` : "the router did not choose it";
    return `The untouched model answered; ${called(variant, at.router)} would be right, but ${needed}.`;
  },
  "wrong edit": ({ route }, at) => {
    const { variant, margin } = rightReading(at);
    return `${answered(route, at)}; ${called(variant, at.router)} (margin ${marginText(margin)}) would be right.`;
  },
  "not carried over": (probe) => `The edit is there for the edited question; here ${tokensRight(probe)}.`,
  forgotten: (probe, at) => {
    const { laterEdits } = at;
    const what =
      laterEdits === 0
        ? `${called(remadeReading(at)?.variant ?? "the memory", at.router)} was made over`
        : `${laterEdits} later ${laterEdits === 1 ? "edit" : "edits"}`;
    return `Learned at its edit (loss ${shortNumber(at.lastLoss as number)}); after ${what} ${tokensRight(probe)}.`;
  },
  "not learned": (probe, at) => {
    const loss = at.lastLoss === null ? "" : `the loss of the last step was ${shortNumber(at.lastLoss)}, and `;
    return `No edit has it: ${loss}${tokensRight(probe)}.`;
  },
  "forgotten or not learned": (probe, { laterEdits }) =>
    `No edit has it after ${laterEdits} later ${laterEdits === 1 ? "edit" : "edits"}, and no loss was logged: ${tokensRight(probe)}.`,
};

function answered(route: string, { readings, router }: Told): string {
  const chosen = readings.find(({ variant }) => variant === route);
  return `${called(route, router)} answered${chosen ? ` (margin ${marginText(chosen.margin)})` : ""}`;
}

function tokensRight({ score, target }: ProbeScore): string {
  return `${Math.round(score * target.length)} of ${target.length} tokens right`;
}

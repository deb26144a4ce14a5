import type { Router } from "../edit/contract.js";
import { MAIN } from "../edit/overlay.js";
import type { ProbeScore } from "../eval/types.js";
import { marginText, shortNumber } from "./app/charts.js";
import type { CaseKind, CaseReading, CauseName } from "./app/types.js";
import { called } from "./words.js";

/** Causes of probes that are not right, in the order in which the rules look: the first that applies is the cause. */
export const causes = {
  "over-edited": "An edit answered and changed what was right, or had to stay, in the untouched model.",
  "not routed": "The untouched model answered, although an edit would have been right.",
  "wrong edit": "An edit answered, although another one would have been right.",
  "not carried over": "The edits have the edited question right, but not this one.",
  forgotten:
    "The edit was learned, but then later edits of its block were written over it, or what held it was made over.",
  "not learned": "No edit has the answer, and the loss of the record's own says that it never did.",
} satisfies Record<CauseName, string>;

const routed: readonly CauseName[] = ["not routed", "wrong edit"];

/** The causes that probes of a method can have: only a router leaves a question to the wrong variant. */
export function causeNames(router: Router | undefined): CauseName[] {
  return (Object.keys(causes) as CauseName[]).filter((name) => router !== undefined || !routed.includes(name));
}

/** Facts that the rules look at besides the probe itself. */
export interface Circumstances {
  kind: CaseKind;
  /** Variants that hold an edit. */
  readings: readonly CaseReading[];
  /** The record's own edited question. */
  rewrite: ProbeScore;
  /** Mean of -log p of the target at the last step of the record's edit, in nats a token; null where it was not kept. */
  lastLoss: number | null;
  /** Edits made in the block after the record's own, before it was scored. */
  laterEdits: number;
  router: Router | undefined;
}

/** Cause of a probe that is not right, and that in one sentence with its numbers; null where it is right. */
export function causeOf(probe: ProbeScore, at: Circumstances): { cause: CauseName; why: string } | null {
  if (probe.exact) return null;
  const cause = firstThatHolds(probe, at);
  return { cause, why: sentences[cause](probe, at) };
}

function firstThatHolds(probe: ProbeScore, at: Circumstances): CauseName {
  if (at.kind === "locality" || probe.preScore === 1) return "over-edited"; // the untouched model would be right
  if (rightReading(at)) return probe.route === MAIN ? "not routed" : "wrong edit";
  if (at.kind !== "rewrite" && hasRewriteRight(at)) return "not carried over";
  return isLearned(at) && isWrittenOver(at) ? "forgotten" : "not learned";
}

function rightReading({ readings }: Circumstances): CaseReading | undefined {
  return readings.find(({ score }) => score === 1);
}

function hasRewriteRight({ rewrite }: Circumstances): boolean {
  return (rewrite.exact && rewrite.route !== MAIN) || rewrite.readings.some(({ score }) => score === 1);
}

/** At the last step the whole answer was likelier than not: the losses of its tokens add up to less than ln 2. */
function isLearned({ lastLoss, rewrite }: Circumstances): boolean {
  return lastLoss !== null && lastLoss * rewrite.target.length < Math.LN2;
}

function isWrittenOver(at: Circumstances): boolean {
  return at.laterEdits > 0 || rewritten(at) !== undefined;
}

/** A variant whose edits are no longer as they were made. */
function rewritten({ readings, router }: Circumstances): CaseReading | undefined {
  return readings.find(({ variant }) => router?.rewritten?.(variant));
}

type Sentence = (probe: ProbeScore, at: Circumstances) => string;

const sentences: Record<CauseName, Sentence> = {
  "over-edited": ({ route }, at) => {
    const harm = at.kind === "locality" ? "the answer had to stay as it was" : "the untouched model had it right";
    return `${answered(route, at)}; ${harm}.`;
  },
  "not routed": (_, at) => {
    const { variant, margin } = rightReading(at) as CaseReading;
    const needed = margin < 1 ? `its margin was ${marginText(margin)}: 1 is needed` : "the router did not choose it";
    return `The untouched model answered; ${called(variant, at.router)} would be right, but ${needed}.`;
  },
  "wrong edit": ({ route }, at) => {
    const { variant, margin } = rightReading(at) as CaseReading;
    return `${answered(route, at)}; ${called(variant, at.router)} (margin ${marginText(margin)}) would be right.`;
  },
  "not carried over": (probe) => `The edit is there for the edited question; here ${tokensRight(probe)}.`,
  forgotten: (probe, at) => {
    const { laterEdits } = at;
    const what =
      laterEdits === 0
        ? `${called((rewritten(at) as CaseReading).variant, at.router)} was made over`
        : `${laterEdits} later ${laterEdits === 1 ? "edit" : "edits"}`;
    return `Learned at its edit (loss ${shortNumber(at.lastLoss as number)}); after ${what} ${tokensRight(probe)}.`;
  },
  "not learned": (probe, at) => {
    const loss = at.lastLoss === null ? "" : `the loss of the last step was ${shortNumber(at.lastLoss)}, and `;
    return `No edit has it: ${loss}${tokensRight(probe)}.`;
  },
};

function answered(route: string, { readings, router }: Circumstances): string {
  const chosen = readings.find(({ variant }) => variant === route);
  return `${called(route, router)} answered${chosen ? ` (margin ${marginText(chosen.margin)})` : ""}`;
}

function tokensRight({ score, target }: ProbeScore): string {
  return `${Math.round(score * target.length)} of ${target.length} tokens right`;
}

import type { Route } from "../../edit/overlay.js";
import type { ProbeScore } from "../../eval/types.js";
import { shortNumber } from "./page/charts.js";
import type { CaseKind, CaseMemory, CauseName } from "./page/types.js";

/** Why probes are not right, in the order in which the rules look: the first that holds is the cause. */
export const causes = {
  "over-edited": "A memory answered and changed what was right, or what had to stay, in the untouched model.",
  "not routed": "The untouched model answered, although a memory would have been right.",
  "wrong memory": "A memory answered, although another one would have been right.",
  "not carried over": "A memory has the edited question right, but not this one.",
  forgotten: "The edit was learned, but later edits of its block, or their merge, were written over it.",
  "not learned": "No memory has the answer, and the loss of the edit says that it never did.",
} satisfies Record<CauseName, string>;

export const causeNames = Object.keys(causes) as CauseName[];

/** What the rules look at besides the probe itself. */
export interface Circumstances {
  kind: CaseKind;
  /** Memories that hold an edit. */
  memories: readonly CaseMemory[];
  /** The record's own edited question. */
  rewrite: ProbeScore;
  /** Fine-tuning loss at the last step of the record's edit, in nats a token; null where the edit was not kept. */
  lastLoss: number | null;
  /** Edits made in the block after the record's own, before it was scored. */
  laterEdits: number;
}

/** Why a probe is not right, and that in one sentence with its numbers; null where it is right. */
export function causeOf(probe: ProbeScore, at: Circumstances): { cause: CauseName; why: string } | null {
  if (probe.exact) return null;
  const cause = firstThatHolds(probe, at);
  return { cause, why: sentences[cause](probe, at) };
}

function firstThatHolds(probe: ProbeScore, at: Circumstances): CauseName {
  if (at.kind === "locality" || probe.preScore === 1) return "over-edited"; // the untouched model would be right
  if (rightMemory(at)) return probe.route === "main" ? "not routed" : "wrong memory";
  if (at.kind !== "rewrite" && at.rewrite.readings.some(({ score }) => score === 1)) return "not carried over";
  return isLearned(at) && isWrittenOver(at) ? "forgotten" : "not learned";
}

function rightMemory({ memories }: Circumstances): CaseMemory | undefined {
  return memories.find(({ score }) => score === 1);
}

/** At the last step the whole answer was likelier than not: the losses of its tokens add up to less than ln 2. */
function isLearned({ lastLoss, rewrite }: Circumstances): boolean {
  return lastLoss !== null && lastLoss * rewrite.target.length < Math.LN2;
}

/** Only the side memory in progress holds edits as they were made; saved and merged ones went through a merge. */
function isWrittenOver({ laterEdits, memories }: Circumstances): boolean {
  return laterEdits > 0 || memories.some(({ memory }) => memory !== "side");
}

type Sentence = (probe: ProbeScore, at: Circumstances) => string;

const sentences: Record<CauseName, Sentence> = {
  "over-edited": ({ route }, at) => {
    const harm = at.kind === "locality" ? "the answer had to stay as it was" : "the untouched model had it right";
    return `${spoken(route)} answered${overThreshold(route, at)}; ${harm}.`;
  },
  "not routed": (_, at) => {
    const { memory, delta, threshold } = rightMemory(at) as CaseMemory;
    const share = Math.round((100 * delta) / threshold);
    return `The untouched model answered; ${spoken(memory)} would be right, but Δ is ${share} % of its threshold.`;
  },
  "wrong memory": ({ route }, at) => {
    const { memory, delta } = rightMemory(at) as CaseMemory;
    return `${spoken(route)} answered${overThreshold(route, at)}; ${spoken(memory)} (Δ ${shortNumber(delta)}) would be right.`;
  },
  "not carried over": (probe) => `The edit is there for the edited question; here ${tokensRight(probe)}.`,
  forgotten: (probe, at) => {
    const what =
      at.laterEdits === 0 ? "the merge" : at.laterEdits === 1 ? "1 later edit" : `${at.laterEdits} later edits`;
    return `Learned at its edit (loss ${shortNumber(at.lastLoss as number)}); after ${what} ${tokensRight(probe)}.`;
  },
  "not learned": (probe, at) => {
    const loss = at.lastLoss === null ? "" : `the loss of the last step was ${shortNumber(at.lastLoss)}, and `;
    return `No memory has it: ${loss}${tokensRight(probe)}.`;
  },
};

function spoken(route: Route): string {
  return route === "main" ? "the untouched model" : route === "side" ? "the side memory" : route;
}

function overThreshold(route: Route, { memories }: Circumstances): string {
  const chosen = memories.find(({ memory }) => memory === route);
  return chosen ? ` (Δ ${shortNumber(chosen.delta)}, threshold ${shortNumber(chosen.threshold)})` : "";
}

function tokensRight({ score, target }: ProbeScore): string {
  return `${Math.round(score * target.length)} of ${target.length} tokens right`;
}

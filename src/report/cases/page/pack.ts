import type { Case, CaseEdit, CaseKind, CaseMemory, CaseProbe, CauseName } from "./types.js";

/*
 * Cases as they stand in a report: rows of cells, with every text of a token once. A run of a thousand edits has twenty
 * memories for each of four thousand probes; written out in full they would be most of the file.
 */

/** Texts by their place in `texts`, numbers to five digits. */
export interface PackedCases {
  texts: string[];
  cases: PackedCase[];
}

type PackedCase = [record: number, block: number, subject: string, probes: PackedProbe[], edit: PackedEdit | null];
/** Each token is four cells: wanted, before, now, and which of the last two are right: 1 for before, 2 for now. */
type PackedProbe = [
  kind: CaseKind,
  prompt: string,
  answer: string,
  score: number,
  preScore: number | null,
  route: number,
  tokens: number[],
  memories: PackedMemory[],
  cause: CauseName | null,
  why: string,
];
type PackedMemory = [memory: number, delta: number, threshold: number, score: number, ...predicted: number[]];
type PackedEdit = [stoppedEarly: 0 | 1, seconds: number, ...losses: number[]];

const TOKEN_CELLS = 4;

export function packCases(cases: readonly Case[]): PackedCases {
  const places = new Map<string, number>();
  const place = (text: string): number => {
    const known = places.get(text);
    if (known !== undefined) return known;
    places.set(text, places.size);
    return places.size - 1;
  };
  const packed = cases.map(({ record, block, subject, probes, edit }): PackedCase => {
    return [record, block, subject, probes.map((probe) => packProbe(probe, place)), edit && packEdit(edit)];
  });
  return { texts: [...places.keys()], cases: packed };
}

function packProbe(probe: CaseProbe, place: (text: string) => number): PackedProbe {
  const tokens = probe.tokens.flatMap(({ wanted, before, now, wasRight, right }) => [
    ...[wanted, before, now].map(place),
    (wasRight ? 1 : 0) + (right ? 2 : 0),
  ]);
  const memories = probe.memories.map(({ memory, delta, threshold, score, predicted }): PackedMemory => {
    return [place(memory), fiveDigits(delta), fiveDigits(threshold), fiveDigits(score), ...predicted.map(place)];
  });
  const { kind, prompt, answer, score, preScore, route, cause, why } = probe;
  const before = preScore === null ? null : fiveDigits(preScore);
  return [kind, prompt, answer, fiveDigits(score), before, place(route), tokens, memories, cause, why];
}

function packEdit({ steps, stoppedEarly, seconds }: CaseEdit): PackedEdit {
  return [stoppedEarly ? 1 : 0, fiveDigits(seconds), ...steps.flatMap(({ ft, act }) => [ft, act].map(fiveDigits))];
}

export function unpackCases({ texts, cases }: PackedCases): Case[] {
  const text = (place: number) => texts[place] as string;
  return cases.map(([record, block, subject, probes, edit]) => {
    return {
      record,
      block,
      subject,
      probes: probes.map((probe) => unpackProbe(probe, text)),
      edit: edit && unpackEdit(edit),
    };
  });
}

function unpackProbe(packed: PackedProbe, text: (place: number) => string): CaseProbe {
  const [kind, prompt, answer, score, preScore, route, cells, memories, cause, why] = packed;
  const tokens = groupsOf(cells, TOKEN_CELLS).map((group) => {
    const [wanted, before, now, flags] = group as [number, number, number, number];
    const [wasRight, right] = [(flags & 1) > 0, (flags & 2) > 0];
    return { wanted: text(wanted), before: text(before), now: text(now), wasRight, right };
  });
  return {
    ...{ kind, prompt, answer, score, preScore },
    outcome: score === 1 ? "right" : score > 0 ? "partly right" : "wrong",
    tokens,
    route: text(route) as CaseProbe["route"],
    memories: memories.map(([memory, delta, threshold, own, ...predicted]) => {
      return {
        memory: text(memory) as CaseMemory["memory"],
        delta,
        threshold,
        score: own,
        predicted: predicted.map(text),
      };
    }),
    cause,
    why,
  };
}

function unpackEdit([stoppedEarly, seconds, ...losses]: PackedEdit): CaseEdit {
  const steps = groupsOf(losses, 2).map(([ft, act]) => ({ ft: ft as number, act: act as number }));
  return { steps, stoppedEarly: stoppedEarly === 1, seconds };
}

function groupsOf(cells: readonly number[], size: number): number[][] {
  return Array.from({ length: cells.length / size }, (_, i) => cells.slice(i * size, (i + 1) * size));
}

function fiveDigits(value: number): number {
  return Number(value.toPrecision(5));
}

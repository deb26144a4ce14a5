import { termsOf } from "./charts.js";
import type { Case, CaseEdit, CaseKind, CaseProbe, CaseReading, CauseName } from "./types.js";

/*
 * Cases as they stand in a report: rows of cells, with every text of a token once. A run of a thousand edits may have
 * twenty readings for each of four thousand probes; written out in full they would be most of the file.
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
  readings: PackedReading[],
  cause: CauseName | null,
  why: string,
];
/** Without a score nothing was predicted. */
type PackedReading = [variant: number, margin: number, numbers: number[], score: number | null, ...predicted: number[]];
/** Losses step by step, each step in the order of the terms. */
type PackedEdit = [
  stoppedEarly: 0 | 1,
  seconds: number,
  numbers: CaseEdit["numbers"],
  terms: number[],
  ...losses: number[],
];

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
    return [record, block, subject, probes.map((probe) => packProbe(probe, place)), edit && packEdit(edit, place)];
  });
  return { texts: [...places.keys()], cases: packed };
}

function packProbe(probe: CaseProbe, place: (text: string) => number): PackedProbe {
  const tokens = probe.tokens.flatMap(({ wanted, before, now, wasRight, right }) => [
    ...[wanted, before, now].map(place),
    (wasRight ? 1 : 0) + (right ? 2 : 0),
  ]);
  const readings = probe.readings.map(({ variant, margin, numbers, score, predicted }): PackedReading => {
    const said = (predicted ?? []).map(place);
    return [place(variant), fiveDigits(margin), numbers.map(fiveDigits), score && fiveDigits(score), ...said];
  });
  const { kind, prompt, answer, score, preScore, route, cause, why } = probe;
  const before = preScore && fiveDigits(preScore);
  return [kind, prompt, answer, fiveDigits(score), before, place(route), tokens, readings, cause, why];
}

function packEdit({ steps, stoppedEarly, seconds, numbers }: CaseEdit, place: (text: string) => number): PackedEdit {
  const terms = termsOf(steps);
  const losses = steps.flatMap((step) => terms.map((term) => fiveDigits(step[term] ?? 0)));
  const left = Object.entries(numbers).map(
    ([name, value]) => [name, typeof value === "number" ? fiveDigits(value) : value] as const,
  );
  return [stoppedEarly ? 1 : 0, fiveDigits(seconds), Object.fromEntries(left), terms.map(place), ...losses];
}

export function unpackCases({ texts, cases }: PackedCases): Case[] {
  const text = (place: number) => texts[place] as string;
  return cases.map(([record, block, subject, probes, edit]) => {
    return {
      record,
      block,
      subject,
      probes: probes.map((probe) => unpackProbe(probe, text)),
      edit: edit && unpackEdit(edit, text),
    };
  });
}

function unpackProbe(packed: PackedProbe, text: (place: number) => string): CaseProbe {
  const [kind, prompt, answer, score, preScore, route, cells, readings, cause, why] = packed;
  const tokens = groupsOf(cells, TOKEN_CELLS).map((group) => {
    const [wanted, before, now, flags] = group as [number, number, number, number];
    const [wasRight, right] = [(flags & 1) > 0, (flags & 2) > 0];
    return { wanted: text(wanted), before: text(before), now: text(now), wasRight, right };
  });
  return {
    ...{ kind, prompt, answer, score, preScore },
    outcome: score === 1 ? "right" : score > 0 ? "partly right" : "wrong",
    tokens,
    route: text(route),
    readings: readings.map(([variant, margin, numbers, score, ...said]): CaseReading => {
      return { variant: text(variant), margin, numbers, predicted: score === null ? null : said.map(text), score };
    }),
    cause,
    why,
  };
}

function unpackEdit(
  [stoppedEarly, seconds, numbers, places, ...losses]: PackedEdit,
  text: (place: number) => string,
): CaseEdit {
  const terms = places.map(text);
  const steps = groupsOf(losses, terms.length).map((step) =>
    Object.fromEntries(terms.map((term, i) => [term, step[i] as number])),
  );
  return { steps, stoppedEarly: stoppedEarly === 1, seconds, numbers };
}

function groupsOf(cells: readonly number[], size: number): number[][] {
  const groups = cells.length === 0 ? 0 : cells.length / size;
  return Array.from({ length: groups }, (_, i) => cells.slice(i * size, (i + 1) * size));
}

function fiveDigits(value: number): number {
  return Number(value.toPrecision(5));
}

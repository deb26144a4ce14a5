import type { DataFrame } from "danfojs-node";
import type { Reading } from "../edit/overlay.js";
import type { Answer } from "../eval/answers.js";
import type { ProbeScore } from "../eval/types.js";
import type { EditedBy } from "../run/everyMethod.js";
import { frameOf, type Row } from "./tables.js";
import { measures, probeKinds, secondsOfEdit } from "./values.js";

/** Free answers as rows: what was asked and said, and which variant spoke, by what numbers. */
export function answerRows(answers: readonly Answer[]): Row[] {
  const routing = routingColumns(answers);
  return answers.map((answer) => ({ question: answer.question, answer: answer.text, ...routing(answer) }));
}

/** Scored probes as rows, with the predicted tokens as text. */
export function probeRows(scores: readonly ProbeScore[], tokenizer: { decode(ids: readonly number[]): string }): Row[] {
  const routing = routingColumns(scores);
  return scores.map((score) => ({
    prompt: score.prompt,
    expected: score.answer,
    "predicted before": tokenizer.decode(score.pre),
    "predicted now": tokenizer.decode(score.post),
    score: score.score,
    ...routing(score),
  }));
}

/** One record by several methods, a row each: its scores in [0, 1], the free answer, and how its edit went. */
export function editedFrame(edited: readonly EditedBy[]): DataFrame {
  const shown = probeKinds.filter((name) => edited.some(({ score }) => measures[name](score) !== null));
  return frameOf(
    edited.map(
      ({ method, trace, score, answer }): Row => ({
        method: method.method.title,
        ...Object.fromEntries(shown.map((name) => [name, measures[name](score)])),
        "free answer": answer.text.trim(),
        route: answer.route,
        steps: trace.steps.length,
        seconds: rounded(secondsOfEdit(trace)),
      }),
    ),
    "methods",
  );
}

/** Route of an answer, with all readings that it was decided on. */
interface Routed {
  route: string;
  readings: readonly Reading[];
}

/**
 * The route, and the variant that answered, or came closest to it: its margin, and the numbers that the margin follows
 * from. Rows of one table have the same columns; where nothing was read, the route alone.
 */
function routingColumns(all: readonly Routed[]): (one: Routed) => Row {
  const readings = all.flatMap((one) => one.readings);
  const names = [...new Set(readings.flatMap(({ numbers }) => Object.keys(numbers)))];
  return ({ route, readings: own }) => {
    if (readings.length === 0) return { route };
    const nearest = [...own].sort((a, b) => b.margin - a.margin)[0];
    const shown = own.find(({ variant }) => variant === route) ?? nearest;
    const cell = (value: number | undefined) => (value === undefined ? null : rounded(value));
    const numbers = names.map((name) => [name, cell(shown?.numbers[name])] as const);
    return { route, margin: cell(shown?.margin), ...Object.fromEntries(numbers) };
  };
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

import type { Reading } from "../edit/overlay.js";
import type { Answer } from "../eval/ask.js";
import type { ProbeScore } from "../eval/types.js";
import type { Row } from "./tables.js";

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

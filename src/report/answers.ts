import type { MemoryReading, Route } from "../edit/overlay.js";
import type { Answer } from "../eval/ask.js";
import type { ProbeScore } from "../eval/types.js";
import type { Row } from "./tables.js";

/** Free answers as rows: what was asked and said, and which memory spoke with what activation. */
export function answerRows(answers: readonly Answer[]): Row[] {
  return answers.map(({ question, text, route, readings }) => ({
    question,
    answer: text,
    ...routing(route, readings),
  }));
}

/** Scored probes as rows, with the predicted tokens as text. */
export function probeRows(scores: readonly ProbeScore[], tokenizer: { decode(ids: readonly number[]): string }): Row[] {
  return scores.map((score) => ({
    prompt: score.prompt,
    expected: score.answer,
    "predicted before": tokenizer.decode(score.pre),
    "predicted now": tokenizer.decode(score.post),
    score: score.score,
    ...routing(score.route, score.readings),
  }));
}

/** The route, and the memory that came closest to answering or did: its activation against its threshold. */
function routing(route: Route, readings: readonly MemoryReading[]): Row {
  const strongest = [...readings].sort((a, b) => b.delta - a.delta)[0];
  const shown = readings.find(({ memory }) => memory === route) ?? strongest;
  if (shown === undefined) return { route, Delta: null, threshold: null };
  return { route, Delta: rounded(shown.delta), threshold: rounded(shown.threshold) };
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

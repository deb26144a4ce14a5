import { shortNumber } from "./page/charts.js";
import type { Case, CaseEdit, CaseProbe } from "./page/types.js";
import { kindNames } from "./page/view.js";

/** One record in full as plain text, for terminals. */
export function caseText(one: Case): string {
  const head = `Record ${one.record}, block ${one.block}: ${one.subject}`;
  return [head, ...one.probes.map(probeText), ...(one.edit ? [editText(one.edit)] : [])].join("\n\n");
}

function probeText(probe: CaseProbe): string {
  const { kind, prompt, answer, outcome, score, cause, why, tokens, memories, route } = probe;
  const cell = (text: string, right: boolean) => `${right ? "+" : "-"}${JSON.stringify(text)}`;
  const wanted = `  wanted  ${tokens.map((token) => ` ${JSON.stringify(token.wanted)}`).join(" ")}`;
  const before = `  before  ${tokens.map((token) => cell(token.before, token.wasRight)).join(" ")}`;
  const untouched = `  ${route === "main" ? "*" : " "} untouched`;
  return [
    `${kindNames[kind]}: ${outcome}, ${shortNumber(score)}${cause === null ? "" : ` (${cause})`}`,
    `  ${prompt} -> ${answer}`,
    ...(why === "" ? [] : [`  ${why}`]),
    ...(kind === "locality" ? [] : [wanted, before]),
    `  now     ${tokens.map((token) => cell(token.now, token.right)).join(" ")}`,
    ...memories.map(({ memory, delta, threshold, predicted, score: own }) => {
      const numbers = `Δ ${shortNumber(delta)}, threshold ${shortNumber(threshold)}`;
      return `  ${memory === route ? "*" : " "} ${memory}: ${numbers}: ${predicted.join("").trim()} (${shortNumber(own)})`;
    }),
    untouched,
  ].join("\n");
}

function editText({ steps, stoppedEarly, seconds }: CaseEdit): string {
  const losses = steps.map(({ ft }) => shortNumber(ft)).join(" ");
  const end = stoppedEarly ? ", stopped early" : "";
  return `The edit: ${steps.length} steps${end}, ${shortNumber(seconds)} s; fine-tuning loss ${losses}`;
}

import { marginText, shortNumber, termsOf } from "./app/charts.js";
import type { Case, CaseEdit, CaseProbe, MethodWords } from "./app/types.js";
import { kindNames, leftText } from "./app/view.js";

/** One record in full as plain text, for terminals. */
export function caseText(one: Case, words: MethodWords): string {
  const head = `Record ${one.record}, block ${one.block}: ${one.subject}`;
  const probes = one.probes.map((probe) => probeText(probe, words));
  return [head, ...probes, ...(one.edit ? [editText(one.edit, words)] : [])].join("\n\n");
}

function probeText(probe: CaseProbe, words: MethodWords): string {
  const { kind, prompt, answer, outcome, score, cause, why, tokens } = probe;
  const cell = (text: string, right: boolean) => `${right ? "+" : "-"}${JSON.stringify(text)}`;
  const wanted = `  wanted  ${tokens.map((token) => ` ${JSON.stringify(token.wanted)}`).join(" ")}`;
  const before = `  before  ${tokens.map((token) => cell(token.before, token.wasRight)).join(" ")}`;
  return [
    `${kindNames[kind]}: ${outcome}, ${shortNumber(score)}${cause === null ? "" : ` (${cause})`}`,
    `  ${prompt} -> ${answer}`,
    ...(why === "" ? [] : [`  ${why}`]),
    ...(kind === "locality" ? [] : [wanted, before]),
    `  now     ${tokens.map((token) => cell(token.now, token.right)).join(" ")}`,
    ...(words.numbers === null ? [] : routingLines(probe, words.numbers)),
  ].join("\n");
}

function routingLines({ route, readings }: CaseProbe, words: NonNullable<MethodWords["numbers"]>): string[] {
  const mark = (variant: string) => (variant === route ? "*" : " ");
  const lines = readings.flatMap(({ variant, margin, numbers, predicted, score }) => {
    if (predicted === null) return [];
    const read = [
      ...numbers.map((value, i) => `${words[i]?.symbol} ${shortNumber(value)}`),
      `margin ${marginText(margin)}`,
    ];
    return [
      `  ${mark(variant)} ${variant}: ${read.join(", ")}: ${predicted.join("").trim()} (${shortNumber(score ?? 0)})`,
    ];
  });
  const never = readings.length - lines.length;
  return [...lines, `  ${mark("main")} untouched`, ...(never === 0 ? [] : [`    ${never} more can never answer`])];
}

function editText({ steps, stoppedEarly, seconds, numbers }: CaseEdit, { terms }: MethodWords): string {
  const end = stoppedEarly ? ", stopped early" : "";
  const left = leftText(numbers);
  const losses = termsOf(steps).map((term) => {
    return `  ${terms[term] ?? term} loss ${steps.map((step) => shortNumber(step[term] ?? 0)).join(" ")}`;
  });
  const head = `The edit: ${steps.length} steps${end}, ${shortNumber(seconds)} s${left === "" ? "" : `; it left ${left}`}`;
  return [head, ...losses].join("\n");
}

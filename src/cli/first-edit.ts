import { MAIN } from "../edit/overlay.js";
import type { Answer } from "../eval/answers.js";
import { formatDuration } from "../notebook/progress.js";
import { DEFAULT_MODEL } from "../run/inputs.js";
import { type Lab, openLab } from "../run/lab.js";
import type { BackendName } from "../tensor/backend.js";

/** A fact of the lab's world that is edited, and a question about something else. */
const FACT = { prompt: "Nudren Zilkett is employed by which organisation?", target: "Skisod Mills" };
const UNRELATED = "quiz card: seat of Tusturn Guild";

/** One edit in the terminal: the answers before, the loss step by step, the answers after with what gave them, and the rollback. */
export async function showFirstEdit({ backend, signal }: { backend: BackendName; signal: AbortSignal }): Promise<void> {
  const started = performance.now();
  const lab = await openLab({ model: DEFAULT_MODEL, backend, signal });
  try {
    const { title } = lab.method.method;
    const before = await answers(lab, signal);
    show("The model answers", lab, before);
    console.log(`\n${title} writes another answer: ${FACT.target}`);
    await lab.edit(FACT, {
      signal,
      onStep({ step, loss, terms }) {
        const parts = Object.entries(terms).map(([name, value]) => `${named(lab, name)} ${value.toFixed(2)}`);
        console.log(`  step ${String(step + 1).padStart(2)}  loss ${loss.toFixed(2).padStart(6)}  ${parts.join(", ")}`);
      },
    });
    show("\nAfter the edit", lab, await answers(lab, signal));
    lab.rollback();
    const back = await answers(lab, signal);
    show("\nAfter the rollback", lab, back);
    const same = back.every(({ tokens }, i) => tokens.join() === before[i]?.tokens.join());
    console.log(`  ${same ? "word for word the answers of before" : "NOT the answers of before"}`);
    console.log(`\n${formatDuration(performance.now() - started)} from loading the model to here`);
  } finally {
    lab.close();
  }
}

async function answers(lab: Lab, signal: AbortSignal): Promise<Answer[]> {
  return [await lab.ask(FACT.prompt, { signal }), await lab.ask(UNRELATED, { signal })];
}

function show(heading: string, lab: Lab, given: readonly Answer[]): void {
  console.log(`${heading}:`);
  const width = Math.max(...given.map(({ question }) => question.length));
  const { router } = lab.method.method;
  for (const { question, text, route } of given) {
    const by = lab.edits === 0 ? "" : `   (from ${route === MAIN ? "the untouched model" : router?.called(route)})`;
    console.log(`  ${question.padEnd(width)}  ${text.trim()}${by}`);
  }
}

/** A term of the loss as figures name it. */
function named({ method: { method } }: Lab, term: string): string {
  return method.terms?.[term] ?? term;
}

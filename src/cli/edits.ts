import { settingsOf } from "../edit/hparams.js";
import { MAIN } from "../edit/overlay.js";
import { readSaved } from "../edit/saved.js";
import { openLab } from "../run/lab.js";
import type { BackendName } from "../tensor/backend.js";

export interface EditsArguments {
  model?: string;
  ask?: string[];
  out?: string;
  backend?: BackendName;
}

/**
 * `wise-lab edits`: puts saved edits in place on their model, says what they are, and answers under them.
 * @returns the exit status
 */
export async function editsCommand(file: string, options: EditsArguments, signal: AbortSignal): Promise<number> {
  const { method, options: own } = await readSaved(file);
  const hparams = { set: settingsOf(own) };
  const { model, backend } = options;
  const lab = await openLab({ model, backend, method, hparams, signal });
  try {
    await lab.restore(file);
    const number = `${lab.edits} ${lab.edits === 1 ? "edit" : "edits"}`;
    console.log(`${number} of ${lab.method.method.title} on ${lab.model.name}, sha256 ${await lab.hash()}`);
    for (const question of options.ask ?? []) {
      const { text, route } = await lab.ask(question, { signal });
      const by = route === MAIN ? "the untouched model" : (lab.method.method.router?.called(route) ?? "the edits");
      console.log(`${question}  ${text.trim()}   (from ${by})`);
    }
    if (options.out !== undefined) console.log(`${options.out}: sha256 ${await lab.save(options.out)}`);
    return 0;
  } finally {
    lab.close();
  }
}

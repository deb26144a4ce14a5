import type { EditMethod } from "../edit/contract.js";
import { describeOptions } from "../edit/keys.js";
import { methodNamed } from "../edit/registry.js";
import { describeMethod, methodsPage, methodsText } from "../tables/methodsPage.js";
import { toText } from "../tables/readable.js";

/**
 * `wise-lab methods`: the editing methods, or one of them with its options and presets. @returns the exit status
 * @throws {RefusedInput} for a method that there is not
 */
export async function methodsCommand(name?: string, options: { markdown?: boolean } = {}): Promise<number> {
  if (options.markdown) process.stdout.write(await methodsPage());
  else if (name === undefined) process.stdout.write(await methodsText());
  else process.stdout.write(methodText(name));
  return 0;
}

/** One method with its options and presets. @throws {RefusedInput} for a method that there is not */
export function methodText(name: string): string {
  return describeMethod(methodNamed(name), { table: toText, options: optionsText }).join("\n");
}

/** A table of options is too wide for a terminal. */
function optionsText(method: EditMethod): string {
  const options = describeOptions(method).map(
    (row) => `${row.key} (${row.default})\n    ${row.meaning}\n    ${row.expected}; ${row.source}\n`,
  );
  return `\n${options.join("")}`;
}

import { type BackendName, selectBackend } from "../tensor/backend.js";
import { runGolden } from "../workshop/parity/golden.js";
import type { NotBuilt } from "../workshop/parity/golden-files.js";
import type { ParityItem } from "../workshop/parity/tally.js";

/** `wise-lab golden FOLDER`. */
export interface GoldenArguments {
  model?: string;
  backend?: BackendName;
}

/** Prints a line per compared quantity. @returns 0 when something was compared, all within tolerance; else 1 */
export async function goldenCommand(folder: string, options: GoldenArguments): Promise<number> {
  const backend = await selectBackend(options.backend);
  console.log(backend.detail);
  const onItem = (item: ParityItem) => console.log(line(item));
  const { items, notBuilt, unread, passed } = await runGolden(folder, { model: options.model, onItem });
  const failed = items.filter((item) => !item.passed).length;
  if (notBuilt.length > 0) console.log(`not built yet: ${notBuilt.map(named).join(", ")}: ${counted(notBuilt)}`);
  if (unread.length > 0) console.log(`read by no scenario: ${unread.join(", ")}: ${unread.length} files`);
  console.log(`${items.length - failed} passed, ${failed} failed on ${backend.name}`);
  return passed ? 0 : 1;
}

/** A scenario, with those of its files that have other names than all scenarios have. */
function named({ name, files }: NotBuilt): string {
  const others = files.filter((file) => ![`${name}.json`, `${name}.safetensors`, name].includes(file));
  return others.length === 0 ? name : `${name} (with ${others.join(", ")})`;
}

function counted(scenarios: readonly NotBuilt[]): string {
  return `${scenarios.length} scenarios, ${scenarios.flatMap(({ files }) => files).length} files`;
}

function line({ scenario, item, compared, worst, where, tolerance, passed }: ParityItem): string {
  const verdict = passed ? "ok  " : "OUT ";
  const bound = `largest difference ${worst.toExponential(1)}, allowed ${tolerance}`;
  const place = passed ? "" : `, at ${where}`;
  return `${verdict} ${scenario.padEnd(26)} ${item.padEnd(28)} ${bound} (${compared} compared${place})`;
}

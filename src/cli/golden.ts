import { runGolden } from "../parity/golden.js";
import type { ParityItem } from "../parity/tally.js";
import { type BackendName, selectBackend } from "../tensor/backend.js";

/** `wise-lab golden DIR`. Prints a line per compared quantity. @returns 0 when all are within tolerance, else 1 */
export async function goldenCommand(folder: string, options: { backend?: BackendName }): Promise<number> {
  const backend = await selectBackend(options.backend);
  console.log(backend.detail);
  const { items, passed } = await runGolden(folder, (item) => console.log(line(item)));
  const failed = items.filter((item) => !item.passed).length;
  console.log(`${items.length - failed} passed, ${failed} failed on ${backend.name}`);
  return passed ? 0 : 1;
}

function line({ scenario, item, compared, worst, where, tolerance, passed }: ParityItem): string {
  const verdict = passed ? "ok  " : "OUT ";
  const bound = `largest difference ${worst.toExponential(1)}, allowed ${tolerance}`;
  const place = passed ? "" : `, at ${where}`;
  return `${verdict} ${scenario.padEnd(26)} ${item.padEnd(28)} ${bound} (${compared} compared${place})`;
}

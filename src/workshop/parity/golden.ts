import { loadModel } from "../../model/folder.js";
import { compareForward, compareText } from "./forward.js";
import { type GoldenFolder, type NotBuilt, openGolden } from "./golden-files.js";
import { type CompareScenario, scenarios } from "./scenarios.js";
import type { ParityItem } from "./tally.js";

/** The outcome of a comparison with golden vectors. */
export interface ParityReport {
  folder: string;
  items: ParityItem[];
  notBuilt: NotBuilt[];
  /** Files that belong to no scenario. */
  unread: string[];
  /** True if something was compared, and all of it is within tolerance. */
  passed: boolean;
}

export interface RunGoldenOptions {
  /** Folder of the checkpoint that the scenarios were made on, where it lies elsewhere. */
  model?: string | undefined;
  /** Called as soon as a quantity has been compared. */
  onItem?: ((item: ParityItem) => void) | undefined;
}

/**
 * Runs a folder of golden vectors through tokenizer, forward pass, every method that is built, and scoring, on the
 * current backend.
 * @throws {RefusedInput} when the folder is not one of golden vectors
 */
export async function runGolden(
  folder: string,
  { model, onItem = () => {} }: RunGoldenOptions = {},
): Promise<ParityReport> {
  const golden = await openGolden(folder, { model, methods: Object.keys(scenarios) });
  const items: ParityItem[] = [];
  for (const name of golden.checkpoints.keys()) {
    await compareModel(golden, name, (compared) => {
      items.push(...compared);
      compared.forEach(onItem);
    });
  }
  const { notBuilt, unread } = golden;
  return { folder, items, notBuilt, unread, passed: items.length > 0 && items.every(({ passed }) => passed) };
}

async function compareModel(
  golden: GoldenFolder,
  name: string,
  take: (items: readonly ParityItem[]) => void,
): Promise<void> {
  const model = await loadModel(golden.checkpoints.get(name) as string);
  try {
    take(await compareText(golden, name, model));
    if (golden.forward.includes(name)) take(await compareForward(golden, name, model));
    for (const scenario of golden.scenarios) {
      if (scenario.model !== name) continue;
      take(await (scenarios[scenario.method as string] as CompareScenario)(scenario, model));
    }
  } finally {
    model.dispose();
  }
}

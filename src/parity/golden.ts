import { join } from "node:path";
import { loadModel } from "../model/model.js";
import { compareForward, compareText } from "./forward.js";
import { type GoldenFolder, openGolden } from "./golden-files.js";
import { compareScenario } from "./scenario.js";
import type { ParityItem } from "./tally.js";

/** The outcome of a comparison with golden vectors. */
export interface ParityReport {
  folder: string;
  items: ParityItem[];
  passed: boolean;
}

/**
 * Runs a folder of golden vectors through tokenizer, forward pass, gradient, WISE and scoring, on the current backend.
 * @param onItem called as soon as a quantity has been compared
 * @throws {RefusedInput} when the folder is not one of golden vectors
 */
export async function runGolden(folder: string, onItem: (item: ParityItem) => void = () => {}): Promise<ParityReport> {
  const golden = await openGolden(folder);
  const items: ParityItem[] = [];
  for (const name of golden.models) {
    for (const item of await compareModel(golden, name)) {
      items.push(item);
      onItem(item);
    }
  }
  return { folder, items, passed: items.every(({ passed }) => passed) };
}

async function compareModel(golden: GoldenFolder, name: string): Promise<ParityItem[]> {
  const model = await loadModel(join(golden.folder, name));
  try {
    const items = await compareText(golden, model);
    if (golden.forward.includes(name)) items.push(...(await compareForward(golden, model)));
    for (const [scenario, wanted] of golden.scenarios) {
      if (wanted.model === name) items.push(...(await compareScenario(golden, scenario, model)));
    }
    return items;
  } finally {
    model.dispose();
  }
}

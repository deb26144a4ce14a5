import { join } from "node:path";
import { z } from "zod";
import { memitMass, memitSolver, startMemit } from "../../edit/memit/memit.js";
import type { MemitOptions } from "../../edit/memit/options.js";
import type { LlamaModel } from "../../model/model.js";
import { type GoldenScenario, readScenario } from "./golden-files.js";
import { assetsOf, settingOf } from "./setting.js";
import { compareSpreading, searchOf, spreadSchema } from "./spread.js";
import type { ParityItem } from "./tally.js";

/** memit*.json */
const memitSchema = spreadSchema.extend({
  options: spreadSchema.shape.options.extend({ mom2_weight: z.number() }),
});

/** Runs one scenario of MEMIT or MEMIT-MASS through editing and scoring and compares every recorded quantity. */
export async function compareMemit(golden: GoldenScenario, model: LlamaModel): Promise<ParityItem[]> {
  const wanted = readScenario(golden, memitSchema);
  const { mom2_weight, ...own } = wanted.options;
  const options: MemitOptions = {
    ...searchOf(own),
    mom2_update_weight: mom2_weight,
    ...{ stats_dir: join(golden.folder, "locate-stats"), mom2_dataset: "lab", mom2_n_samples: 64 },
  };
  const { needs, cut } = memitMass.plan(options, model.config);
  const setting = settingOf(model, cut, { templates: wanted.templates, assets: await assetsOf(needs, model) });
  const session = startMemit(options, setting, { together: "block" });
  return compareSpreading(golden, { wanted, options, setting, session, solve: memitSolver(options, setting) });
}

import { join } from "node:path";
import { z } from "zod";
import { alphaedit, alphaeditSolver, startAlphaedit } from "../../edit/memit/alphaedit.js";
import type { AlphaeditOptions } from "../../edit/memit/alphaedit-options.js";
import { nullSpaceNeed } from "../../edit/memit/null-space.js";
import type { LlamaModel } from "../../model/model.js";
import { openSafetensors } from "../../model/safetensors-file.js";
import type { NullSpace } from "../../stats/null-space.js";
import { type GoldenScenario, readScenario } from "./golden-files.js";
import { assetsOf, settingOf } from "./setting.js";
import { compareSpreading, searchOf, spreadSchema } from "./spread.js";
import { createTally, type ParityItem } from "./tally.js";
import { LOCATE } from "./tolerances.js";

/** alphaedit*.json */
const alphaeditSchema = spreadSchema.extend({
  options: spreadSchema.shape.options.extend({ l2: z.number(), threshold: z.number() }),
});

/** Runs one scenario of AlphaEdit through editing and scoring and compares every recorded quantity. */
export async function compareAlphaedit(golden: GoldenScenario, model: LlamaModel): Promise<ParityItem[]> {
  const wanted = readScenario(golden, alphaeditSchema);
  const { l2, threshold, ...own } = wanted.options;
  const options: AlphaeditOptions = {
    ...searchOf(own),
    ...{ L2: l2, nullspace_threshold: threshold, P_loc: null, batch_size: 2 },
    ...{ stats_dir: join(golden.folder, "locate-stats"), mom2_dataset: "lab", mom2_n_samples: 64 },
  };
  const { needs, cut } = alphaedit.plan(options, model.config);
  const setting = settingOf(model, cut, { templates: wanted.templates, assets: await assetsOf(needs, model) });
  const session = startAlphaedit(options, setting);
  const { solve, stood } = alphaeditSolver(options, setting);
  const spaces = options.layers.map((layer) => setting.assets.get(nullSpaceNeed(layer, options).name)?.value);
  return [
    ...(await compareSpaces(golden, options.layers, spaces as NullSpace[])),
    ...(await compareSpreading(golden, { wanted, options, setting, session, solve, stood })),
  ];
}

/** P of each layer, as it comes of C. */
async function compareSpaces(
  golden: GoldenScenario,
  layers: readonly number[],
  spaces: readonly NullSpace[],
): Promise<ParityItem[]> {
  const tally = createTally(golden.name);
  const file = await openSafetensors(join(golden.folder, "locate-stats.safetensors"));
  try {
    for (const [i, { size: m, project }] of spaces.entries()) {
      const where = `layers.${layers[i]}.P`;
      const ours = new Float32Array(m * m);
      for (let row = 0; row < m; row++)
        ours.set(project(Float64Array.from({ length: m }, (_, j) => +(row === j))), row * m);
      tally.entries("null space", { ours, golden: await file.read(where), where }, LOCATE.nullSpace);
    }
  } finally {
    await file.close();
  }
  return tally.items();
}

import { z } from "zod";
import type { EditSetting } from "../../edit/contract.js";
import { startFt } from "../../edit/ft/ft.js";
import { createProblem, exampleOf, lossAndGradients, sitesOf } from "../../edit/ft/objective.js";
import type { FtLOptions, FtObjective } from "../../edit/ft/options.js";
import { stateTensor } from "../../edit/state.js";
import { batchCuts } from "../../model/cut.js";
import type { LlamaModel } from "../../model/model.js";
import { cutBefore, type Site, siteName } from "../../model/patch.js";
import type { SafetensorsFile } from "../../model/safetensors.js";
import { tf } from "../../tensor/tf.js";
import { type GoldenScenario, readScenario, withTensors } from "./golden-files.js";
import { settingOf } from "./setting.js";
import { createTally, type ParityItem, type Tally } from "./tally.js";
import { TUNE } from "./tolerances.js";
import { apartAtStop, compareTuneAnswers, compareTuneEdits, type TuneEdit, tuneSchema } from "./tune.js";

/** ft-l*.json, ft-m*.json */
const ftSchema = tuneSchema.extend({
  options: z.object({
    layers: z.array(z.number().int()),
    lr: z.number(),
    num_steps: z.number().int(),
    weight_decay: z.number(),
    objective: z.enum(["prompt_last", "target_new"]),
    norm_constraint: z.number().nullable(),
    begin_token: z.number().int().nullable(),
  }),
});

type GoldenFt = z.infer<typeof ftSchema>;

interface Compared {
  tally: Tally;
  file: SafetensorsFile;
  setting: EditSetting;
  objective: FtObjective;
  options: FtLOptions;
}

/** Compares an ft-l or ft-m scenario: first gradient, every edit with the deltas it leaves, and the evaluation. */
export async function compareFt(golden: GoldenScenario, model: LlamaModel): Promise<ParityItem[]> {
  const wanted = readScenario(golden, ftSchema);
  const { objective, begin_token, ...own } = wanted.options;
  const options: FtLOptions = { ...own, bos_in_targets: begin_token !== null };
  const sites = sitesOf(options);
  const setting = settingOf(model, cutBefore(sites));
  const tally = createTally(golden.name);
  const logits = objective === "target_new" ? TUNE.farLogits : TUNE.logits;
  await withTensors(golden, async (file) => {
    await compareGradients({ tally, file, setting, objective, options }, wanted.edits[0] as TuneEdit);
    const session = startFt({ objective, options }, setting);
    const comparison = { golden, tally, file, setting, session, logits };
    try {
      await compareTuneEdits(comparison, wanted.edits, {
        apart: apartAtStop,
        async after({ edit }) {
          const state = await session.state();
          for (const site of sites) {
            const where = `delta.${edit}.${weightName(site)}`;
            if (!file.tensors.has(where)) continue; // of the released variant, the first and the last alone
            const ours = stateTensor(state, siteName(site), [model.config.hiddenSize, model.config.intermediateSize]);
            tally.matrix("delta", { ours, golden: await file.read(where), where }, TUNE.trained);
          }
        },
      });
      await compareTuneAnswers(comparison, wanted);
    } finally {
      session.dispose();
    }
  });
  return tally.items();
}

/** Gradients of the loss at the first step of the first edit, one per matrix. */
async function compareGradients(
  { tally, file, setting, objective, options }: Compared,
  { prompt, target }: GoldenFt["edits"][number],
): Promise<void> {
  const { model, cuts } = setting;
  const example = exampleOf(objective, { prompt, target }, { tokenizer: model.tokenizer, options });
  const problem = createProblem(model, options, example, batchCuts(model, await cuts.get([example.row.ids])));
  const zeros = problem.sites.map(() => tf.zeros<tf.Rank.R2>([model.config.hiddenSize, model.config.intermediateSize]));
  const { loss, gradients } = lossAndGradients(problem, zeros);
  try {
    for (const [i, site] of problem.sites.entries()) {
      const where = `first_gradient.${weightName(site)}`;
      const ours = await (gradients[i] as tf.Tensor2D).data<"float32">();
      tally.matrix("first gradient", { ours, golden: await file.read(where), where }, TUNE.gradient);
    }
  } finally {
    tf.dispose([loss, ...gradients, ...zeros]);
    problem.dispose();
  }
}

/** Name of a value matrix in the reference. */
function weightName({ layer }: Site): string {
  return `model.layers.${layer}.mlp.down_proj.weight`;
}

import { z } from "zod";
import type { EditSetting } from "../../edit/contract.js";
import { type Consolidation, consolidationOf, startEwc } from "../../edit/ft/ewc.js";
import type { EwcOptions } from "../../edit/ft/ewc-options.js";
import type { TokenRow } from "../../edit/rows.js";
import { type EditState, stateTensor } from "../../edit/state.js";
import type { LlamaModel } from "../../model/model.js";
import { cutBefore, type Site, siteName } from "../../model/patch.js";
import { tf } from "../../tensor/tf.js";
import { type GoldenScenario, readScenario, withTensors } from "./golden-files.js";
import { settingOf } from "./setting.js";
import { compareSteps } from "./steps.js";
import { createTally, type ParityItem } from "./tally.js";
import { TUNE } from "./tolerances.js";
import { compareTuneAnswers, compareTuneEdits, tuneEdit, tuneSchema } from "./tune.js";

const step = z.object({ step: z.number().int(), loss: z.number(), ce: z.number(), penalty: z.number() });

/** ft-ewc*.json */
const ewcSchema = tuneSchema.extend({
  options: z.object({
    layer: z.number().int(),
    lr: z.number(),
    num_steps: z.number().int(),
    ewc_lambda: z.number(),
    fisher_mem: z.number().int(),
    released: z.boolean(),
  }),
  edits: z.array(tuneEdit.extend({ steps: z.array(step) })),
});

/** Compares an ft-ewc scenario: every edit with its penalty and the delta it leaves, the last Fisher information, and the evaluation. */
export async function compareEwc(golden: GoldenScenario, model: LlamaModel): Promise<ParityItem[]> {
  const wanted = readScenario(golden, ewcSchema);
  const { released, ...own } = wanted.options;
  const options: EwcOptions = { ...own, fisher_sum: released ? "running" : "mean" };
  const site: Site = { layer: options.layer, matrix: "down" };
  const shape = [model.config.hiddenSize, model.config.intermediateSize] as const;
  const setting = settingOf(model, cutBefore([site]));
  const tally = createTally(golden.name);
  await withTensors(golden, async (file) => {
    const session = startEwc(options, setting);
    const comparison = { golden, tally, file, setting, session, logits: TUNE.logits };
    const last = wanted.edits.length - 1;
    let before = await session.state();
    try {
      await compareTuneEdits(comparison, wanted.edits, {
        // The pass that finds the target the likeliest is not counted there.
        taken: ({ steps, stoppedEarly }) => steps.length - (stoppedEarly ? 1 : 0),
        async after({ edit, steps: golden, ids, prompt_tokens: promptTokens }, { steps: ours }) {
          compareSteps(tally, { ours, golden, where: `edit ${edit}` }, [
            {
              item: "ce",
              ours: ({ terms }) => terms.ce,
              golden: ({ ce }) => ce,
              measure: "relative",
              tolerance: TUNE.loss,
            },
            {
              item: "penalty",
              ours: ({ terms }) => terms.penalty,
              golden: ({ penalty }) => penalty,
              tolerance: TUNE.loss,
            },
          ]);
          const ofEdit = `delta.${edit}`;
          const state = await session.state();
          if (file.tensors.has(ofEdit)) {
            const values = {
              ours: stateTensor(state, siteName(site), shape),
              golden: await file.read(ofEdit),
              where: ofEdit,
            };
            tally.matrix("delta", values, TUNE.trained);
          }
          if (edit === last) {
            const fisher = await fisherBefore(before, { row: { ids, promptTokens }, options, setting });
            tally.matrix("fisher", { ours: fisher, golden: await file.read("fisher"), where: "fisher" }, TUNE.gradient);
          }
          before = state;
        },
      });
      await compareTuneAnswers(comparison, wanted);
    } finally {
      session.dispose();
    }
  });
  return tally.items();
}

/** The Fisher information of an edit, from the state before it. [D, M] */
async function fisherBefore(
  state: EditState,
  { row, options, setting }: { row: TokenRow; options: EwcOptions; setting: EditSetting },
): Promise<Float32Array> {
  const { hiddenSize, intermediateSize } = setting.model.config;
  const shape: [number, number] = [hiddenSize, intermediateSize];
  const start = tf.tensor2d(stateTensor(state, siteName({ layer: options.layer, matrix: "down" }), shape), shape);
  const { past } = state.json as { past: TokenRow[] };
  const held = (await consolidationOf(
    { row, past, deltas: [start], signal: undefined },
    options,
    setting,
  )) as Consolidation;
  const fisher = await held.fisher.data<"float32">();
  tf.dispose([start, held.fisher, held.anchor]);
  return fisher;
}

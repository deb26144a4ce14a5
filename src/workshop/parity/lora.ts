import { z } from "zod";
import { layoutOf } from "../../edit/lora/factors.js";
import { startLora } from "../../edit/lora/lora.js";
import { type LoraOptions, loraOptions, loraSettle } from "../../edit/lora/options.js";
import { type StateTensor, stateTensor } from "../../edit/state.js";
import type { EditTrace } from "../../edit/trace.js";
import type { LlamaModel } from "../../model/model.js";
import { cutBefore, siteName } from "../../model/patch.js";
import type { SafetensorsFile } from "../../model/safetensors.js";
import { type GoldenScenario, readScenario, withTensors } from "./golden-files.js";
import { settingOf, siteOf } from "./setting.js";
import { compareSteps } from "./steps.js";
import { createTally, type ParityItem } from "./tally.js";
import { TUNE } from "./tolerances.js";
import { compareTuneAnswers, compareTuneEdits, tuneEdit, tuneSchema } from "./tune.js";

const step = z.object({ step: z.number().int(), ce: z.number(), orth: z.number(), loss: z.number() });

/** lora*.json. They were made without dropout. */
const loraSchema = tuneSchema.extend({
  options: z.object({
    lora_type: loraOptions.lora_type.schema,
    layers: loraOptions.layers.schema,
    target_modules: loraOptions.target_modules.schema,
    rank: z.number().int(),
    init_r: z.number().int(),
    lora_alpha: z.number(),
    lr: z.number(),
    num_steps: z.number().int(),
    weight_decay: z.number(),
    orth_reg_weight: z.number(),
    orth_first_only: z.boolean(),
  }),
  edits: z.array(tuneEdit.extend({ steps: z.array(step) })),
});

/** Compares a scenario of LoRA: from given factors, every edit with the factors it leaves, and the evaluation. */
export async function compareLora(golden: GoldenScenario, model: LlamaModel): Promise<ParityItem[]> {
  const wanted = readScenario(golden, loraSchema);
  const options: LoraOptions = loraSettle({ ...wanted.options, lora_dropout: 0 }).options;
  const { sites, factors } = layoutOf(options, model.config);
  const setting = settingOf(model, cutBefore(sites));
  const tally = createTally(golden.name);
  await withTensors(golden, async (file) => {
    const start: Record<string, StateTensor> = {};
    const names = namesIn(file);
    for (const { name, shape } of factors) {
      start[name] = { shape, data: await file.read(`start.${names.get(name)}`) };
    }
    const session = startLora(options, setting, { edits: 0, tensors: start, json: null });
    const comparison = { golden, tally, file, setting, session, logits: TUNE.farLogits };
    try {
      await compareTuneEdits(comparison, wanted.edits, {
        async after({ edit, steps }, trace: EditTrace) {
          compareSteps(tally, { ours: trace.steps, golden: steps, where: `edit ${edit}` }, [
            {
              item: "ce",
              ours: ({ terms }) => terms.ce,
              golden: ({ ce }) => ce,
              measure: "relative",
              tolerance: TUNE.loss,
            },
            { item: "penalty", ours: ({ terms }) => terms.orth ?? 0, golden: ({ orth }) => orth, tolerance: TUNE.loss },
          ]);
          const state = await session.state();
          for (const { name, shape } of factors) {
            const where = `factors.${edit}.${names.get(name)}`;
            if (!file.tensors.has(where)) continue; // those of the first and the last edit alone
            const ours = stateTensor(state, name, shape);
            tally.matrix("factors", { ours, golden: await file.read(where), where }, TUNE.trained);
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

/** The reference's names of the factors, "model.layers.2.self_attn.q_proj.weight.A", by ours. */
function namesIn({ tensors }: SafetensorsFile): Map<string, string> {
  const names = new Map<string, string>();
  for (const key of tensors.keys()) {
    const [, matrix, factor] = /^start\.(.+)\.([ABE])$/.exec(key) ?? [];
    if (matrix !== undefined) names.set(`${siteName(siteOf(matrix))}.${factor}`, `${matrix}.${factor}`);
  }
  return names;
}

import { z } from "zod";
import { startDefer } from "../../edit/defer/defer.js";
import { type Module, PARTS } from "../../edit/defer/module.js";
import type { LlamaModel } from "../../model/model.js";
import type { SafetensorsFile } from "../../model/safetensors.js";
import { meanSchema, probeSchema } from "./evaluation.js";
import { type GoldenScenario, readScenario, withTensors } from "./golden-files.js";
import { settingOf } from "./setting.js";
import { compareSteps } from "./steps.js";
import { createTally, type ParityItem } from "./tally.js";
import { TUNE } from "./tolerances.js";
import { compareTuneAnswers, compareTuneEdits, tuneEdit, tuneEvaluation } from "./tune.js";

const step = z.object({ step: z.number().int(), loss: z.number(), gate: z.number() });

/** defer*.json */
const deferSchema = z.object({
  options: z.object({ layer: z.number().int(), lr: z.number(), n_iter: z.number().int(), threshold: z.number() }),
  edits: z.array(tuneEdit.extend({ steps: z.array(step) })),
  evaluation: tuneEvaluation(probeSchema.extend({ gate: z.number() })),
  mean: meanSchema,
});

/** The parts of a module as the reference calls them. */
const NAMES = { a: "gate.w", b: "gate.b", A: "value.w", c: "value.b" } as const;

async function readModule(file: SafetensorsFile, prefix: string): Promise<Module> {
  const [a, b, A, c] = (await Promise.all(PARTS.map((part) => file.read(`${prefix}.${NAMES[part]}`)))) as [
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  return { a, b, A, c };
}

/** Runs one scenario of DEFER through editing and scoring and compares every recorded quantity. */
export async function compareDefer(golden: GoldenScenario, model: LlamaModel): Promise<ParityItem[]> {
  const wanted = readScenario(golden, deferSchema);
  const { lr, ...given } = wanted.options;
  const options = { ...given, edit_lr: lr };
  const setting = settingOf(model, { layer: options.layer, at: "mlpIn" });
  const tally = createTally(golden.name);
  await withTensors(golden, async (file) => {
    const session = startDefer(options, setting, { start: await readModule(file, "start") });
    const comparison = { golden, tally, file, setting, session, logits: TUNE.logits };
    try {
      await compareTuneEdits(comparison, wanted.edits, {
        async after({ edit, steps: golden }, { steps: ours }) {
          compareSteps(tally, { ours, golden, where: `edit ${edit}` }, [
            { item: "gate", ours: ({ numbers }) => numbers.gate, golden: ({ gate }) => gate, tolerance: TUNE.gate },
          ]);
          const { tensors } = await session.state();
          const module = await readModule(file, `state.${edit}`);
          for (const part of PARTS) {
            const values = { ours: tensors[part]?.data as Float32Array, golden: module[part] };
            tally.matrix(NAMES[part], { ...values, where: `edit ${edit}` }, TUNE.trained);
          }
        },
      });
      for (const { golden, score, where } of await compareTuneAnswers(comparison, wanted)) {
        const gate = { ours: score.readings[0]?.numbers.gate ?? Number.NaN, golden: golden.gate, where };
        tally.number("gate when read", gate, TUNE.gate);
      }
    } finally {
      session.dispose();
    }
  });
  return tally.items();
}

import { join } from "node:path";
import { requireWritableFolder, writeFileAtomic } from "../core/files.js";
import { listText, readWorld } from "../data/world/store.js";
import { exportFigure } from "../figures/export.js";
import { formatDuration } from "../notebook/progress.js";
import { projectFile } from "../run/inputs.js";
import type { BackendName } from "../tensor/backend.js";
import { trainLab } from "../workshop/train/lab.js";
import { trainingLoss } from "../workshop/train/trainingLoss.js";
import { generateWorld } from "../workshop/world/generate.js";
import { makePractice } from "../workshop/world/practice.js";
import { writeWorld } from "../workshop/world/write.js";

/** `wise-lab lab world`: generates the made-up world. @returns the exit status */
export async function worldCommand(options: { seed: number; out: string }): Promise<number> {
  const { sha256 } = await writeWorld(generateWorld({ seed: options.seed }), options.out);
  console.log(`${options.out}: seed ${options.seed}, sha256 ${sha256}`);
  return 0;
}

/** `wise-lab lab practice`: writes a thousand more records to choose hyperparameters on. @returns the exit status */
export async function practiceCommand({ seed, out }: { seed: number; out: string }): Promise<number> {
  await requireWritableFolder(out);
  const { records, irrelevant } = makePractice({ seed });
  for (const [name, items] of Object.entries({ practice: records, "practice-irrelevant": irrelevant })) {
    const file = join(out, `${name}.json`);
    await writeFileAtomic(file, listText(items));
    console.log(`${file}: ${items.length}`);
  }
  return 0;
}

/** Options of `wise-lab lab train`, as the command line gives them. */
export interface TrainArguments {
  world?: string;
  out: string;
  seed: number;
  steps?: number;
  backend?: BackendName;
}

const LINE_EVERY_STEPS = 10;

/** `wise-lab lab train`: trains the lab's LLaMA, or goes on with a training that was stopped. @returns the exit status */
export async function trainCommand(options: TrainArguments, signal: AbortSignal): Promise<number> {
  const { model, recall, curve } = await trainLab({
    world: await readWorld(options.world ?? projectFile("data", "lab")),
    folder: options.out,
    seed: options.seed,
    recipe: options.steps === undefined ? {} : { steps: options.steps },
    backend: options.backend,
    signal,
    onNotice: (line) => console.error(line),
    onProgress: ({ step, steps, loss, tokensPerSecond, secondsLeft }) => {
      if (step % LINE_EVERY_STEPS !== 0 && step !== steps) return;
      const pace = `${Math.round(tokensPerSecond)} tokens/s, ${formatDuration(secondsLeft * 1000)} left`;
      console.error(`step ${step}/${steps}  loss ${loss.toFixed(3)}  ${pace}`);
    },
  });
  const source = { command: "npm run lab:train", files: [join(model, "training.json")] };
  const { files, steppedDown } = await exportFigure(trainingLoss(curve), join(options.out, "loss"), undefined, {
    source,
  });
  if (steppedDown !== null) console.error(steppedDown);
  console.log(`model:      ${model}`);
  console.log(`loss curve: ${files.join(", ")}`);
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  console.log(`exact recall: trained phrasings ${percent(recall.trained)}, held out ${percent(recall.heldOut)}`);
  return 0;
}

import { type StandInName, standInFor } from "../model/known.js";
import { formatDuration } from "../notebook/progress.js";
import { writeStandIn } from "../workshop/stand-in/write.js";
import { createProgressLine } from "./run.js";

/** Options of `wise-lab make-checkpoint`, as the command line gives them. */
export interface CheckpointArguments {
  like: StandInName;
  out: string;
  layers?: number;
  seed: number;
}

/** `wise-lab make-checkpoint`: writes a stand-in for a published model. @returns the exit status */
export async function checkpointCommand(options: CheckpointArguments, signal: AbortSignal): Promise<number> {
  const line = createProgressLine();
  let begun: { at: number; done: number } | undefined; // what was there before is checked first, and not counted
  const { sha256, files, bytes, written } = await writeStandIn(standInFor(options.like, options), {
    folder: options.out,
    seed: options.seed,
    signal,
    onProgress: ({ file, done, total }) => {
      begun ??= { at: performance.now(), done };
      const sinceThen = done - begun.done;
      const pace = (performance.now() - begun.at) / sinceThen;
      const left = sinceThen === 0 ? "" : `, ${formatDuration(pace * (total - done))} left`;
      line.show(`${file}  ${gigabytes(done)} of ${gigabytes(total)}${left}`, done === total);
    },
  });
  line.end();
  const speed = begun ? `${(written / 1e3 / (performance.now() - begun.at)).toFixed(0)} MB/s` : "was there";
  console.log(`random weights in the shapes of ${options.like}: ${options.out}`);
  console.log(`weights: ${gigabytes(bytes)} in ${files.length === 1 ? "1 file" : `${files.length} files`} (${speed})`);
  console.log(`sha256:  ${sha256}`);
  return 0;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}

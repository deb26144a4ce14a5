import { existsSync } from "node:fs";
import { RefusedInput } from "../../core/errors.js";
import { writeFileAtomic } from "../../core/files.js";
import { type JsonlWriter, openJsonl, readJsonl } from "../../core/jsonl.js";

/** Opens the loss curve, one line per step, cut back to the steps that the checkpoint has. */
export async function continueCurve(path: string, steps: number): Promise<JsonlWriter> {
  const { values } = existsSync(path) ? await readJsonl(path) : { values: [] };
  if (values.length < steps) {
    throw new RefusedInput("the loss curve is shorter than the training", {
      where: path,
      found: `${values.length} steps`,
      expected: `at least the ${steps} steps of the checkpoint beside it`,
      hint: "remove both files to start again",
    });
  }
  await writeFileAtomic(
    path,
    values
      .slice(0, steps)
      .map((line) => `${JSON.stringify(line)}\n`)
      .join(""),
  );
  return openJsonl(path);
}

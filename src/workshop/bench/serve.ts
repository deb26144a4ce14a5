import { createInterface } from "node:readline";
import { LabFailure, RefusedInput } from "../../core/errors.js";

/**
 * The loop of a contestant's process: one question a line on stdin, its answer a line on stdout. Ends when stdin does. It
 * has no signal handlers: one that ran inside a product of native TensorFlow would corrupt its memory.
 */
export async function serve<Q>(answer: (question: Q) => Promise<object>): Promise<void> {
  try {
    for await (const line of createInterface({ input: process.stdin })) {
      const reply = await answer(JSON.parse(line) as Q);
      process.stdout.write(`${JSON.stringify(reply)}\n`);
    }
  } catch (error) {
    const expected = error instanceof RefusedInput || error instanceof LabFailure;
    console.error(expected ? error.message : error);
    process.exit(1); // stdin is still open
  }
}

import { availableParallelism } from "node:os";
import { relative } from "node:path";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

const root = new URL("..", import.meta.url).pathname;

/** The files that take longest, so that none of them is left alone at the end. */
const LONGEST = [
  "page/page",
  "slurm/slurm",
  "run/hands",
  "edit/sessions",
  "notebook/jupyter",
  "notebook/project",
  "run/sealed",
  "figures/export",
  "workshop/bench/bench",
].map((name) => `tests/${name}.test.ts`);

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification) => LONGEST.indexOf(relative(root, moduleId));
    const long = files.filter((file) => place(file) !== -1).sort((a, b) => place(a) - place(b));
    return [...long, ...(await super.sort(files.filter((file) => place(file) === -1)))];
  }
}

export default defineConfig({
  test: {
    root,
    include: ["tests/**/*.test.ts"],
    sequence: { sequencer: LongestFirst },
    // Processes, not threads: native TensorFlow cannot be loaded by two threads of one process.
    pool: "forks",
    // vitest leaves one core to itself, which on two is half of them.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});

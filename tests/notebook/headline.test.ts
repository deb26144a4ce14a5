import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { runNotebook } from "../../src/notebook/run.js";
import { readRuns } from "../../src/run/finished.js";
import { TINY_MODEL, TINY_RECORDS } from "../run/support.js";
import { repository } from "../support/shared.js";
import { codeCells, plainText, printed, scratchFolder } from "./support.js";

const folder = scratchFolder();

vi.setConfig({ testTimeout: 180_000 }); // kernels start in seconds, on a busy machine in many
afterEach(() => {
  vi.unstubAllEnvs();
});

/** Everything that the notebook prints and shows, with a model named by the environment as users name it. */
async function execute(model: string, parameters: Record<string, string> = {}): Promise<string> {
  vi.stubEnv("LLAMA3_8B", model);
  const { errors, notebook } = await runNotebook(join(repository, "notebooks/03-llama-3-8b-results.ipynb"), {
    output: join(await folder(), "03.ipynb"),
    parameters,
  });
  expect(errors).toEqual([]);
  return codeCells(notebook)
    .flatMap((cell) => [printed(cell), plainText(cell)])
    .join("\n");
}

describe("03-llama-3-8b-results", () => {
  it("measures the headline on the model it is given, and says why another model's numbers are not comparable", async () => {
    const runs = join(await folder(), "runs");
    const text = await execute(TINY_MODEL, { data: TINY_RECORDS, settings: "n_iter=2", runs });
    expect(text).not.toContain("LLAMA3_8B is not set");
    expect(text).toContain("runs of yours: 1;");
    expect(text).toMatch(/not comparable +model is tiny-llama3, published LLaMA-3-8B/);
    expect(text).toContain("From a run that is not the headline's: model is tiny-llama3");
    const [run] = await readRuns(runs);
    expect(run?.protocol).toMatchObject({ model: "tiny-llama3", T: 10, when: "after-all" });
    expect(run?.scores).toHaveLength(6);
  });

  it("says that nothing is measured without a model, and gives no verdict on what was not", async () => {
    const text = await execute("");
    expect(text).toContain("LLAMA3_8B is not set: nothing is measured here");
    expect(text).toContain("runs of yours: 0;");
    expect(text).toMatch(/WISE +10 +rewrite +0\.8738 .*not (measured|comparable)/);
    expect(text).not.toMatch(/ (inside|outside) /);
  });
});

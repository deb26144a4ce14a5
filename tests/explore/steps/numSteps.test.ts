import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EditMethod } from "../../../src/edit/contract.js";
import { methods } from "../../../src/edit/registry.js";
import { gridPoints } from "../../../src/explore/grid/points.js";
import { atSteps } from "../../../src/explore/steps/numSteps.js";
import type { RunRequest } from "../../../src/run/request.js";
import type { RunResult } from "../../../src/run/types.js";
import { goldenRecords } from "../../edit/support.js";
import { refusal } from "../../model/support.js";
import { openQuickLab } from "../../run/support.js";

const LIMIT = 7;
const CHOSEN = [1, 3, 4, 5, 6];
/** Edits that only have to learn their answer, in long steps: the first, of one token, settles after five. */
const SETTLING = ["edit_lr=30", "mask_ratio=1", "act_margin=[100,0,0]", "norm_constraint=false"];

let folder: string;
let data: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wise-lab-steps-test-"));
  data = join(folder, "records.json");
  const [first, ...others] = goldenRecords.records.slice(0, 3);
  await writeFile(data, JSON.stringify([{ ...first, alt: "a" }, ...others]));
});
afterAll(() => rm(folder, { recursive: true }));

async function runWith(set: readonly string[], request: Partial<RunRequest> = {}): Promise<RunResult> {
  const lab = await openQuickLab(...SETTLING, ...set);
  try {
    return await lab.run({ T: 1, data, ...request });
  } finally {
    lab.close();
  }
}

/** Findings of a run, without the seconds it took. */
function found({ protocol, edits, scores }: RunResult) {
  return { protocol, scores, edits: edits.map(({ seconds: _, ...edit }) => edit) };
}

describe.each([
  ["WISE-Retrieve", ["retrieve=true"]],
  ["WISE-Merge, a merge after each edit", ["retrieve=false", "save_freq=1", "merge_freq=1"]],
])("%s at T = 1", (_, set) => {
  let pass: RunResult;
  beforeAll(async () => {
    pass = await runWith([...set, `n_iter=${LIMIT}`], { scoreSteps: CHOSEN });
  });

  test("one pass gives every rerun with fewer steps, some of whose edits stop early and some not", async () => {
    const stopped = new Set<boolean>();
    const rewrites = new Set<string>();
    for (const steps of CHOSEN) {
      const rerun = await runWith([...set, `n_iter=${steps}`]);
      expect(found(atSteps(pass, steps))).toEqual(found(rerun));
      for (const { stoppedEarly } of rerun.edits) stopped.add(stoppedEarly);
      rewrites.add(rerun.scores.map(({ rewrite }) => rewrite.post).join());
    }
    expect(stopped).toEqual(new Set([true, false]));
    expect(rewrites.size).toBeGreaterThan(1);
    expect(pass.edits.map((edit) => edit.steps.length)).toEqual([5, LIMIT, LIMIT]);
  });

  test("and every rerun at another act_ratio and with fewer steps", async () => {
    const routes = new Set<string>();
    for (const { value, steps, run } of gridPoints(pass, { values: [0.3, 1.1], steps: [1, 4] })) {
      const rerun = await runWith([...set, `n_iter=${steps}`, `act_ratio=${value}`]);
      expect(found(run)).toEqual(found(rerun));
      routes.add(rerun.scores.map(({ rewrite, locality }) => [rewrite.route, locality[0]?.route]).join());
    }
    expect(routes.size).toBeGreaterThan(1);
  });
});

describe("atSteps", () => {
  let pass: RunResult;
  beforeAll(async () => {
    pass = await runWith([`n_iter=${LIMIT}`], { scoreSteps: [2, 6], limit: 2 });
  });

  test("with the run's own n_iter is the run; with less, what it needs for still less", () => {
    expect(atSteps(pass, LIMIT)).toBe(pass);
    const six = atSteps(pass, 6);
    expect(six.scoreSteps).toEqual([2]);
    expect(six.folder).toBeNull();
    expect(found(atSteps(six, 2))).toEqual(found(atSteps(pass, 2)));
  });

  test("shares the seconds of an edit among its steps", () => {
    const [whole, part] = [pass.edits[1], atSteps(pass, 2).edits[1]];
    expect(part?.seconds.frozen).toBe(whole?.seconds.frozen);
    expect(part?.seconds.steps).toBeCloseTo(((whole?.seconds.steps ?? 0) * 2) / LIMIT, 12);
  });

  test.each([3, 0, -1, 2.5, LIMIT + 1])("refuses %s steps, and says which were recorded", async (steps) => {
    const error = await refusal(() => atSteps(pass, steps));
    expect(error).toMatchObject({ found: `${steps} steps`, expected: `2, 6, ${LIMIT}` });
  });

  test("keeps the numbers of a trace that do not depend on its steps", () => {
    const { endNumbers: _, ...lasting } = methods.wise as EditMethod;
    expect(atSteps(pass, 2, lasting).edits.map(({ numbers }) => numbers)).toEqual(
      pass.edits.map(({ numbers }) => numbers),
    );
  });

  test("refuses a method whose shorter edits are not the beginning of longer ones", async () => {
    const { stepLimit: _, ...unlimited } = methods.wise as EditMethod;
    const error = await refusal(() => atSteps(pass, 2, unlimited));
    expect(error.message).toMatch(/no limit of steps/);
    expect(error.found).toMatch(/^WISE, whose edits of fewer steps/);
  });

  test("refuses another T, with the command that makes the runs", async () => {
    const error = await refusal(() => atSteps({ ...pass, protocol: { ...pass.protocol, T: 2 } }, 2));
    expect(error.found).toMatch(/^T = 2: later edits of a block depend/);
    expect(error.hint).toMatch(/wise-lab explore num-steps --method wise --T 2 --steps 2/);
  });
});

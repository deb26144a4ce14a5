import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { exploreSteps, type StepsRequest } from "../../src/explore/steps/numSteps.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { openQuickLab, TINY_MODEL, TINY_RECORDS, wiseLab } from "../run/support.js";

vi.setConfig({ testTimeout: 120_000 }); // processes of their own, on a busy machine

const SHARED = { model: TINY_MODEL, data: TINY_RECORDS, limit: 2, backend: "wasm" } as const;
const COMMAND = [
  ...["explore", "num-steps", "--model", TINY_MODEL, "--data", TINY_RECORDS, "--limit", "2", "--backend", "wasm"],
];

test("at T = 1 one run gives tables, CSV and figures; run again, it is read", async () => {
  const folder = await temporaryFolder();
  const out = join(folder, "runs");
  const csv = join(folder, "steps.csv");
  const figures = join(folder, "figures");
  const first = await wiseLab(...COMMAND, "--steps", "3,1", "--out", out, "--csv", csv, "--figures", figures);
  expect(first.status, first.stderr).toBe(0);
  expect(first.stdout).toMatch(/^n_iter +Rewrite .*\n-+.*\n {5}1 .*\n {5}3 /);
  expect(first.stdout).toMatch(/With n_iter = 3, 0% of the edits stopped early\./);
  expect(first.stdout).toMatch(/^n_iter \\ act_ratio +0 +0\.2 /m);
  expect((await readFile(csv, "utf8")).split("\n")[0]).toMatch(
    /^option,steps,records,rewrite,.*,gain,.*secondsPerEdit$/,
  );
  for (const name of ["num-steps-curve", "num-steps-grid"]) {
    const source = JSON.parse(await readFile(join(figures, `${name}.source.json`), "utf8"));
    expect(source).toMatchObject({ command: "wise-lab explore num-steps --T 1 --steps 1,3", runs: [{}] });
  }
  const scores = join(out, "T1,n_iter=3", "scores.jsonl");
  const { mtimeMs } = await stat(scores);
  const again = await wiseLab(...COMMAND, "--steps", "1,3", "--out", out, "--ratios", "0,0.2,0.4,0.6,0.8,1,1.2,1.4");
  expect(again.status, again.stderr).toBe(0);
  expect(first.stdout).toContain(again.stdout); // the second command names no figures
  expect((await stat(scores)).mtimeMs).toBe(mtimeMs);
});

test("at another T each number of steps is a run, and a notice says so", async () => {
  const notices: string[] = [];
  const request: StepsRequest = { ...SHARED, T: 2, steps: [2, 1] };
  const runs = await exploreSteps(request, { workers: 2, onNotice: (line) => notices.push(line) });
  expect(notices[0]).toMatch(/^T = 2: later edits .* each of the 2 values of n_iter is a run of its own$/);
  for (const [i, steps] of [1, 2].entries()) {
    const lab = await openQuickLab(`n_iter=${steps}`, "save_freq=500", "merge_freq=1000");
    const alone = await lab.run({ T: 2, limit: 2 });
    lab.close();
    expect(runs[i]?.protocol.options.n_iter).toBe(steps);
    expect(runs[i]?.scores.map(({ rewrite }) => rewrite.post)).toEqual(alone.scores.map(({ rewrite }) => rewrite.post));
  }
});

test.each<[what: string, change: Partial<StepsRequest>, found: unknown]>([
  ["no number of steps", { steps: [] }, []],
  ["a number twice", { steps: [2, 2] }, [2, 2]],
  ["half a step", { steps: [1, 2.5] }, 2.5],
  ["n_iter given as well", { hparams: { set: ["n_iter=4"] } }, "n_iter=4"],
  ["T = 0", { T: 0 }, 0],
])("refused before anything runs: %s", async (_, change, found) => {
  const error = await refusal(() => exploreSteps({ ...SHARED, T: 1, steps: [1, 2], ...change }));
  expect(error.found).toEqual(found);
});

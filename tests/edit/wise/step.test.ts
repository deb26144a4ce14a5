import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRng } from "../../../src/core/rng.js";
import { sequencesOfRows, type TokenRow } from "../../../src/edit/rows.js";
import type { StepReport } from "../../../src/edit/steps.js";
import type { WiseOptions } from "../../../src/edit/wise/options.js";
import { wiseRows } from "../../../src/edit/wise/rows.js";
import { createProblem, descend, runStep } from "../../../src/edit/wise/step.js";
import { batchCuts } from "../../../src/model/cut.js";
import { runFrozen } from "../../../src/model/frozen.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { tf } from "../../../src/tensor/tf.js";
import { atValue } from "../../support/points.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { fact, goldenRecords, loadTiny, tinyOptions } from "../support.js";

let model: LlamaModel;
let shape: [number, number];
beforeAll(async () => {
  model = await loadTiny();
  shape = [model.config.hiddenSize, model.config.intermediateSize];
});
afterAll(() => model.dispose());

/** The first edit of the golden folder under some templates. */
async function problemOf(options: WiseOptions, templates: readonly string[] = goldenRecords.templates) {
  const rows = wiseRows(fact(0), { tokenizer: model.tokenizer, templates }, options);
  const cuts = await runFrozen(model, sequencesOfRows(rows), { point: atValue(options.layer) });
  return { rows, problem: createProblem(model, options, batchCuts(model, cuts), rows) };
}

type Problem = Awaited<ReturnType<typeof problemOf>>["problem"];

interface WiseReport extends StepReport {
  terms: { ft: number; act: number };
  numbers: { in_scope: number; out_of_scope: number };
}

async function lossAt(problem: Problem, delta: Float32Array): Promise<WiseReport> {
  const at = tf.tensor2d(delta, shape);
  const step = runStep(problem, at, null);
  const report = await step.report();
  step.dispose();
  at.dispose();
  expect(Object.keys(report.terms)).toEqual(["ft", "act"]);
  return report as WiseReport;
}

async function gradientAt(problem: Problem, delta: Float32Array): Promise<Float32Array> {
  const at = tf.tensor2d(delta, shape);
  const step = runStep(problem, at, null);
  const gradient = await step.gradient.data<"float32">();
  step.dispose();
  at.dispose();
  return gradient;
}

const random = (seed: number, scale: number) => {
  const rng = createRng(seed);
  return Float32Array.from({ length: shape[0] * shape[1] }, () => scale * rng.normal());
};

const zeros = () => new Float32Array(shape[0] * shape[1]);

describe.each(["paper", "released"])("gradient of the loss, %s", (variant) => {
  // Margins that keep every term of the routing loss open: their kinks have no slope to compare.
  const settings = [`variant=${variant}`, "act_margin=[0.01, 20, 20]"];

  test("is the slope that finite differences see, at single entries and along directions", async () => {
    const { problem } = await problemOf(await tinyOptions(...settings));
    const delta = random(1, 0.02);
    const gradient = await gradientAt(problem, delta);
    const slope = async (direction: (i: number) => number, h: number) => {
      const along = (step: number) =>
        lossAt(
          problem,
          delta.map((value, i) => value + step * direction(i)),
        );
      const [above, below] = [await along(h), await along(-h)];
      expect(above.terms.act).toBeGreaterThan(0);
      return (above.loss - below.loss) / (2 * h);
    };
    const order = [...gradient.keys()].sort(
      (i, j) => Math.abs(gradient[j] as number) - Math.abs(gradient[i] as number),
    );
    for (const entry of [0, 1, 2, 50, 500].map((rank) => order[rank] as number)) {
      const seen = await slope((i) => (i === entry ? 1 : 0), 0.02);
      const claimed = gradient[entry] as number;
      expect(Math.abs(seen - claimed), `entry ${entry}: ${claimed}, seen ${seen}`).toBeLessThan(
        0.02 * Math.abs(claimed) + 1e-3,
      );
    }
    const size = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
    for (const seed of [2, 3]) {
      const direction = random(seed, 1);
      const claimed = gradient.reduce((sum, g, i) => sum + g * (direction[i] as number), 0);
      const seen = await slope((i) => direction[i] as number, 5e-4);
      expect(Math.abs(seen - claimed), `claimed ${claimed}, seen ${seen}`).toBeLessThan(0.02 * size);
    }
    problem.dispose();
  });
});

describe("terms of the loss, with one template", () => {
  test("the routing loss is the sum of the three margins that are not met", async () => {
    for (const [alpha, beta, gamma] of [
      [2, 8, 4],
      [0, 100, 0],
      [100, 0, 0],
    ] as const) {
      const options = await tinyOptions(`act_margin=[${alpha}, ${beta}, ${gamma}]`);
      const { problem } = await problemOf(options, ["{}"]);
      const { terms, numbers, loss } = await lossAt(problem, random(4, 0.02));
      const { ft, act } = terms;
      const { in_scope, out_of_scope } = numbers;
      const h = (x: number) => Math.max(x, 0);
      expect(act).toBeCloseTo(h(out_of_scope - in_scope + gamma) + h(out_of_scope - alpha) + h(beta - in_scope), 4);
      expect(loss).toBeCloseTo(ft + act, 4);
      problem.dispose();
    }
  });

  test("margins that hold for every template cost nothing", async () => {
    const { problem } = await problemOf(await tinyOptions("act_margin=[100, 0, 0]"), ["{}"]);
    const report = await lossAt(problem, zeros());
    expect(report).toMatchObject({ terms: { act: 0 }, numbers: { in_scope: 0, out_of_scope: 0 } });
    problem.dispose();
  });

  test("the target loss is the mean over n target tokens, or as released their sum over n + 1", async () => {
    const at = async (variant: string) => {
      const { problem, rows } = await problemOf(await tinyOptions(`variant=${variant}`), ["{}"]);
      const { ft } = (await lossAt(problem, zeros())).terms;
      problem.dispose();
      const [{ ids, promptTokens }] = rows as [TokenRow];
      return { ft, n: ids.length - promptTokens };
    };
    const [paper, released] = [await at("paper"), await at("released")];
    expect(paper.n).toBeGreaterThan(0);
    expect(released.ft).toBeCloseTo((paper.ft * paper.n) / (paper.n + 1), 4);
  });

  test("the gradient where nothing has moved yet is finite: a distance of zero has slope zero", async () => {
    for (const variant of ["paper", "released"]) {
      const { problem } = await problemOf(await tinyOptions(`variant=${variant}`));
      const gradient = await gradientAt(problem, zeros());
      expect(gradient.every(Number.isFinite)).toBe(true);
      problem.dispose();
    }
  });
});

describe("descend", () => {
  // W, W' - W, gradient and mask of four entries.
  const small = (values: number[]) => tf.tensor2d(values, [2, 2]);
  const run = async (settings: string[]) => {
    const options = await tinyOptions("edit_lr=0.5", ...settings);
    return expectTidy(async () => {
      const [main, delta, gradient, mask] = [
        small([10, -10, 20, 1]),
        small([0.25, 0.5, -0.25, 0.75]),
        small([1, 1, -0.5, 4]),
        small([1, 0, 1, 1]),
      ] as const;
      const moved = descend(delta, gradient, mask, { main, options });
      const values = Array.from(await moved.data());
      tf.dispose([main, delta, gradient, mask, moved]);
      return values;
    });
  };

  test("moves masked-in entries against the gradient, and no others", async () => {
    expect(await run(["variant=paper", "norm_constraint=null"])).toEqual([-0.25, 0.5, 0, -1.25]);
  });

  test("keeps every entry within the norm constraint", async () => {
    expect(await run(["variant=paper", "norm_constraint=0.3"])).toEqual([-0.25, 0.3, 0, -0.3].map(Math.fround));
  });

  test("as released, weight decay pulls all of W' towards zero, masked or not", async () => {
    // lr wd W' = 0.5 * 0.1 * (10.25, -9.5, 19.75, 1.75)
    const moved = await run(["weight_decay=0.1", "norm_constraint=null"]);
    for (const [i, expected] of [-0.7625, 0.975, -0.9875, -1.3375].entries()) expect(moved[i]).toBeCloseTo(expected, 5);
  });
});

test("leaves no tensor behind", async () => {
  const options = await tinyOptions();
  await expectTidy(async () => (await problemOf(options)).problem.dispose());
  const { problem } = await problemOf(options);
  await expectTidy(() => lossAt(problem, random(6, 0.01)));
  problem.dispose();
});

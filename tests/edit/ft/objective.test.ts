import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRng } from "../../../src/core/rng.js";
import { exampleOf } from "../../../src/edit/ft/objective.js";
import { prepareNamed } from "../../../src/edit/registry.js";
import { batchCuts, logitsAt } from "../../../src/model/cut.js";
import { runFrozen } from "../../../src/model/frozen.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { refusal } from "../../model/support.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { fact, loadTiny } from "../support.js";
import { evaluate, type FtName, ftOptions, METHODS, OBJECTIVE, problemOf } from "./support.js";

let model: LlamaModel;
let shape: [number, number];
beforeAll(async () => {
  model = await loadTiny();
  shape = [model.config.hiddenSize, model.config.intermediateSize];
});
afterAll(() => model.dispose());

const random = (seed: number, scale: number) => {
  const rng = createRng(seed);
  return Float32Array.from({ length: shape[0] * shape[1] }, () => scale * rng.normal());
};
const zeros = () => new Float32Array(shape[0] * shape[1]);

/** Token by token, log P of the untouched model at every position of a sequence. */
async function logProbabilities(ids: readonly number[]): Promise<(position: number, token: number) => number> {
  const batch = batchCuts(model, await runFrozen(model, [ids], { point: { layer: 0, at: "input" } }));
  const logits = logitsAt(model, batch, { spots: ids.map((_, position) => ({ row: 0, position })) });
  const values = await logits.data<"float32">();
  logits.dispose();
  batch.dispose();
  const V = model.config.vocabSize;
  return (position, token) => {
    const row = [...values.subarray(position * V, (position + 1) * V)];
    const most = Math.max(...row);
    return (row[token] as number) - most - Math.log(row.reduce((sum, x) => sum + Math.exp(x - most), 0));
  };
}

describe("the rows of an edit", () => {
  const p = () => model.tokenizer.encode(fact(0).prompt);
  const f = () => model.tokenizer.encode(`${fact(0).prompt} ${fact(0).target}`);

  test("FT-L runs the prompt alone, and its last position predicts all target tokens", async () => {
    const at = { tokenizer: model.tokenizer, options: await ftOptions("ft-l") };
    const { row, predicted } = exampleOf("prompt_last", fact(0), at);
    expect(row).toEqual({ ids: p(), promptTokens: p().length });
    expect(predicted).toEqual([{ position: p().length - 1, tokens: f().slice(p().length) }]);
    expect(predicted[0]?.tokens.length).toBeGreaterThan(1);
  });

  test("released: FT-L's target tokens begin with begin-of-text", async () => {
    const options = await ftOptions("ft-l", "variant=released");
    const { predicted } = exampleOf("prompt_last", fact(0), { tokenizer: model.tokenizer, options });
    expect(predicted[0]?.tokens).toEqual([model.tokenizer.bosId, ...f().slice(p().length)]);
  });

  test("a tokenizer without begin-of-text has no such variant", async () => {
    const options = await ftOptions("ft-l", "variant=released");
    const without = { tokenizer: { ...model.tokenizer, bosId: null }, options };
    const error = await refusal(async () => exampleOf("prompt_last", fact(0), without));
    expect(error).toMatchObject({ where: "option bos_in_targets", found: "a tokenizer without that token" });
  });

  test("FT-M runs prompt and target, and each target token is predicted one position before it", async () => {
    const { row, predicted } = exampleOf("target_new", fact(0), { tokenizer: model.tokenizer, options: {} });
    expect(row).toEqual({ ids: f(), promptTokens: p().length });
    expect(predicted).toEqual(
      f()
        .slice(p().length)
        .map((token, i) => ({ position: p().length - 1 + i, tokens: [token] })),
    );
  });

  test.each(METHODS)("%s: a plan tells the same row", async (name) => {
    const method = await prepareNamed(name, { preset: "tiny" }, model.config);
    const { tokenizer } = model;
    const { row } = exampleOf(OBJECTIVE[name], fact(1), { tokenizer, options: method.options });
    expect(method.rows(fact(1), { tokenizer, templates: ["{}"] })).toEqual([row]);
  });

  test.each(METHODS)("%s: an empty target is refused", async (name) => {
    const method = await prepareNamed(name, { preset: "tiny" }, model.config);
    for (const target of ["", " "]) {
      const rows = async () => method.rows({ ...fact(0), target }, { tokenizer: model.tokenizer, templates: ["{}"] });
      expect(await refusal(rows)).toMatchObject({
        where: `edit of ${JSON.stringify(fact(0).prompt)}`,
        found: JSON.stringify(target),
        expected: "a text of at least one token",
      });
    }
  });
});

describe("the loss", () => {
  test("of FT-L is the mean of -log P over the target tokens, all where the prompt ends", async () => {
    const problem = await problemOf("ft-l", await ftOptions("ft-l"), { model, request: fact(0) });
    const p = model.tokenizer.encode(fact(0).prompt);
    const y = model.tokenizer.encode(`${fact(0).prompt} ${fact(0).target}`).slice(p.length);
    const logP = await logProbabilities(p);
    const expected = -y.reduce((sum, token) => sum + logP(p.length - 1, token), 0) / y.length;
    expect((await evaluate(problem, [zeros()], shape)).loss).toBeCloseTo(expected, 4);
    problem.dispose();
  });

  test("of FT-M is the mean of -log P over the target tokens, each after what comes before it", async () => {
    const options = await ftOptions("ft-m", "layers=[2]");
    const problem = await problemOf("ft-m", options, { model, request: fact(0) });
    const p = model.tokenizer.encode(fact(0).prompt);
    const f = model.tokenizer.encode(`${fact(0).prompt} ${fact(0).target}`);
    const logP = await logProbabilities(f);
    const sum = f.slice(p.length).reduce((total, token, i) => total + logP(p.length - 1 + i, token), 0);
    expect((await evaluate(problem, [zeros()], shape)).loss).toBeCloseTo(-sum / (f.length - p.length), 4);
    problem.dispose();
  });
});

describe("gradients are the slopes that finite differences see", () => {
  test.each<[FtName, string]>([
    ["ft-l", "[2]"],
    ["ft-l", "[0, 3]"],
    ["ft-m", "[0]"],
    ["ft-m", "[3]"],
    ["ft-m", "[1, 2]"],
    ["ft-m", "[2, 1]"],
  ])("%s, layers %s", async (name, layers) => {
    await expectTidy(async () => {
      const problem = await problemOf(name, await ftOptions(name, `layers=${layers}`), { model, request: fact(0) });
      const at = problem.sites.map((_, i) => random(i + 1, 0.01));
      const { gradients } = await evaluate(problem, at, shape);
      expect(gradients).toHaveLength(problem.sites.length);
      for (const [i, gradient] of gradients.entries()) {
        // Along the gradient itself the slope is its norm; along another direction, their product.
        const norm = Math.hypot(...gradient);
        const directions = [gradient.map((x) => x / norm), random(10 + i, 1 / Math.sqrt(gradient.length))];
        for (const direction of directions) {
          const step = 0.05 / norm; // along the gradient, the loss changes by so much
          const moved = (sign: number) =>
            at.map((delta, j) => (j === i ? delta.map((x, k) => x + sign * step * (direction[k] as number)) : delta));
          const [up, down] = [await evaluate(problem, moved(1), shape), await evaluate(problem, moved(-1), shape)];
          const slope = (up.loss - down.loss) / (2 * step);
          const expected = gradient.reduce((sum, x, k) => sum + x * (direction[k] as number), 0);
          expect(Math.abs(slope - expected)).toBeLessThan(2e-3 * norm);
        }
      }
      problem.dispose();
    });
  });
});

import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { untouched } from "../../../src/edit/overlay.js";
import { createCutStore } from "../../../src/model/cut-store.js";
import { loadModel } from "../../../src/model/folder.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { selectBackend } from "../../../src/tensor/backend.js";
import {
  compareEvaluation,
  compareLogits,
  type Evaluated,
  type GoldenProbe,
  probeOf,
  scoreEvaluation,
} from "../../../src/workshop/parity/evaluation.js";
import { createTally } from "../../../src/workshop/parity/tally.js";
import { golden } from "../../support/shared.js";
import { failed } from "./support.js";

const record = {
  src: "The tower of Oslo stands in",
  rephrase: "In which city is the tower?",
  alt: "Bergen",
  loc: "The winter games were held in",
  loc_ans: "Turin",
};
const cut = { layer: 2, at: "mlpIn" } as const;

let model: LlamaModel;
beforeAll(async () => {
  await selectBackend();
  model = await loadModel(join(golden, "tiny-llama3"));
});
afterAll(() => model.dispose());

const asked = () => ({ model, cuts: createCutStore(model, cut), overlay: untouched(cut) });

/** Answers of the untouched model, in the form of a golden file. */
async function untouchedEvaluation(): Promise<Evaluated<GoldenProbe>> {
  const nothing: GoldenProbe = { pre: [], post: [], target: [], score: 0 };
  const empty = { record, where: "record 0", rewrite: nothing, rephrase: nothing, loc: nothing };
  const scored = await scoreEvaluation([empty], asked());
  const probes = scored.map(({ question, score: { pre, post, target, score } }) => [
    question,
    { pre, post, target, score },
  ]);
  return { ...empty, ...Object.fromEntries(probes) };
}

async function compare(evaluated: Evaluated<GoldenProbe>, tie: number) {
  const tally = createTally("made-up");
  const mean = { rewrite: evaluated.rewrite.score, rephrase: evaluated.rephrase.score, loc: evaluated.loc.score };
  await compareEvaluation(tally, { evaluation: [evaluated], mean }, { ...asked(), tie });
  return failed(tally.items());
}

describe("predicted tokens", () => {
  test("are the same where no two logits are near", async () => {
    expect(await compare(await untouchedEvaluation(), 0)).toEqual({});
  });

  test("may differ between logits that are nearer than a tie, and the scores with them", async () => {
    const evaluated = await untouchedEvaluation();
    const { post, target } = evaluated.rewrite;
    const other = target[0] === post[0] ? (target[0] as number) + 1 : (target[0] as number);
    evaluated.rewrite.post = [other, ...post.slice(1)];
    evaluated.rewrite.score += (other === target[0] ? 1 : -1) / target.length;
    expect(await compare(evaluated, 1e3)).toEqual({});
    expect(await compare(evaluated, 1e-6)).toEqual({
      "made-up: predictions after": "record 0, rewrite",
      "made-up: score": "record 0, rewrite",
      "made-up: mean rewrite": "rewrite",
    });
  });

  test("of another number never pass", async () => {
    const evaluated = await untouchedEvaluation();
    evaluated.loc.post = evaluated.loc.post.slice(1);
    expect(await compare(evaluated, 1e3)).toEqual({ "made-up: predictions after": "record 0, loc" });
  });
});

test("logits are compared at as many positions as the file has", async () => {
  const tally = createTally("made-up");
  const vocabulary = model.config.vocabSize;
  const probe = probeOf(record, "loc");
  const zeros = { probe, golden: new Float32Array(vocabulary), where: "logits.0.loc" };
  await compareLogits(tally, zeros, { ...asked(), tolerance: 1e-3 });
  expect(tally.items()).toMatchObject([{ item: "logits", compared: 1, where: "logits.0.loc", passed: false }]);
  expect(tally.items()[0]?.worst).toBeGreaterThan(1);
});

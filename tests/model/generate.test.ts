import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Interrupted } from "../../src/core/errors.js";
import { createRng } from "../../src/core/rng.js";
import { generateAfresh } from "../../src/model/afresh.js";
import { type Continuation, type GenerateOptions, generate } from "../../src/model/generate.js";
import type { LlamaModel } from "../../src/model/model.js";
import type { Change } from "../../src/model/patch.js";
import { tf } from "../../src/tensor/tf.js";
import { goldenRecords, loadTiny } from "../edit/support.js";
import { atInput, atValue } from "../support/points.js";
import { expectTidy } from "../support/tensor-matcher.js";
import { refusal } from "./support.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

const prompts = Object.values(goldenRecords.tokens).filter((ids) => ids.length > 0);
const tokensOf = (made: Continuation[]) => made.map(({ tokens }) => tokens);
const greedy = (ids: readonly (readonly number[])[], options: Omit<GenerateOptions, "cut">) =>
  generate(model, ids, { cut: atValue(2), ...options });

/** Prompts of 1 to 40 tokens, as many as asked for. */
function manyPrompts(count: number): number[][] {
  const rng = createRng(5);
  const whole = (below: number) => Math.floor(rng.uniform() * below);
  return Array.from({ length: count }, () =>
    Array.from({ length: 1 + whole(40) }, () => whole(model.config.vocabSize)),
  );
}

describe("greedy continuations that remember", () => {
  test.each([0, 1, 3].flatMap((layer) => [atValue(layer), atInput(layer)]))(
    "are those read afresh, cut at %o",
    async (cut) => {
      const made = await generate(model, prompts, { cut, maxNewTokens: 12 });
      expect(made.map(({ prompt, voice }) => [prompt, voice])).toEqual(prompts.map((_, i) => [i, "main"]));
      expect(tokensOf(made)).toEqual(await generateAfresh(model, prompts, { maxNewTokens: 12 }));
    },
  );

  test("are those of many prompts in several batches, each as it is alone", async () => {
    const many = manyPrompts(120);
    const together = tokensOf(await greedy(many, { maxNewTokens: 10 }));
    for (const [i, prompt] of many.slice(0, 30).entries()) {
      expect(tokensOf(await greedy([prompt], { maxNewTokens: 10 }))).toEqual([together[i]]);
    }
    expect(together).toEqual(await generateAfresh(model, many, { maxNewTokens: 10 }));
  });

  test("end with a token that ends them, each for itself", async () => {
    const free = await generateAfresh(model, prompts, { maxNewTokens: 8 });
    for (const stop of new Set(free.flat())) {
      const made = await greedy(prompts, { maxNewTokens: 8, ends: (_, tokens) => tokens.at(-1) === stop });
      const upTo = (tokens: number[]) => (tokens.includes(stop) ? tokens.slice(0, tokens.indexOf(stop) + 1) : tokens);
      expect(tokensOf(made)).toEqual(free.map(upTo));
    }
  });

  test("end where the model has no more positions", async () => {
    const [prompt] = prompts as [number[]];
    const short = { ...model, config: { ...model.config, maxPositions: prompt.length + 3 } };
    const made = await generate(short, [prompt], { cut: atValue(2), maxNewTokens: 9 });
    expect(tokensOf(made)).toEqual(await generateAfresh(model, [prompt], { maxNewTokens: 3 }));
  });
});

describe("voices", () => {
  /** The value matrix' output, scaled for every sequence by a number of its own. */
  const scaled =
    (by: tf.Tensor2D, T: number): Change =>
    (_x, own, pick) => {
      const perRow = tf.tile(by.expandDims(1), [1, T, 1]).reshape([-1, 1]) as tf.Tensor2D;
      return tf.mul(own(), pick(perRow));
    };
  const site = { layer: 2, matrix: "down" } as const;
  const by = [-20, 1, -7, 3, 0.5, -3];

  test("continue each sequence under changes of its own, as it is continued under them alone", async () => {
    const six = prompts.slice(0, 6);
    const made = await greedy(six, {
      maxNewTokens: 9,
      ends: (prompt, tokens) => tokens.length > prompt, // they end one after another
      async decide(batch) {
        const scales = tf.tensor2d(by.slice(0, six.length), [six.length, 1]);
        return {
          voices: [
            { name: "main", rows: [0, 2, 3], patch: [], later: [] },
            {
              name: "scaled",
              rows: six.map((_, row) => row),
              patch: [{ site, change: scaled(scales, batch.at.length) }],
              later: [{ site, change: scaled(scales, 1) }],
            },
          ],
          dispose: () => scales.dispose(),
        };
      },
    });
    expect(made.filter(({ voice }) => voice === "main").map(({ prompt }) => prompt)).toEqual([0, 2, 3]);
    for (const { prompt, voice, tokens } of made) {
      const factor = voice === "main" ? 1 : (by[prompt] as number);
      const alone = await generateAfresh(model, [six[prompt] as number[]], {
        maxNewTokens: prompt + 1,
        edited: {
          cut: atValue(2),
          patch: async () => ({
            patch: [{ site, change: (_x, own) => tf.mul(own(), factor) }],
            dispose: () => {},
          }),
        },
      });
      expect([prompt, voice, tokens]).toEqual([prompt, voice, alone[0]]);
    }
    const differing = made.filter(({ prompt, voice, tokens }) => {
      const main = made.find((other) => other.prompt === prompt && other.voice === "main");
      return voice === "scaled" && main !== undefined && `${main.tokens}` !== `${tokens}`;
    });
    expect(differing.length).toBeGreaterThan(0);
  });
});

test("stops when it is told to, and refuses prompts that the model has no positions for", async () => {
  await expect(greedy(prompts, { maxNewTokens: 4, signal: AbortSignal.abort() })).rejects.toThrow(Interrupted);
  const short = { ...model, config: { ...model.config, maxPositions: 4 } };
  const error = await refusal(() => generate(short, [[0, 1, 2, 3, 4]], { cut: atValue(2), maxNewTokens: 4 }));
  expect(error.message).toContain("1 to 4");
});

test("refuses logits that are not finite", async () => {
  const change: Change = (_x, own) => tf.mul(own(), Number.NaN);
  const patch = [{ site: { layer: 2, matrix: "down" } as const, change }];
  const decide = async () => ({ voices: [{ name: "a", rows: [0], patch: [], later: patch }], dispose: () => {} });
  await expect(greedy([[1, 2]], { maxNewTokens: 3, decide })).rejects.toThrow("not finite");
});

test("leaves no tensor behind", async () => {
  await expectTidy(() => greedy(prompts, { maxNewTokens: 3 }));
  await expectTidy(() => refusal(() => greedy([[]], { maxNewTokens: 2 })));
  await expectTidy(async () => {
    const failing = greedy([[1]], { maxNewTokens: 2, decide: () => Promise.reject(new Error("no voices")) });
    await expect(failing).rejects.toThrow("no voices");
  });
  await expectTidy(async () => {
    const change: Change = () => {
      throw new Error("no product");
    };
    const patch = [{ site: { layer: 3, matrix: "down" } as const, change }];
    const decide = async () => ({ voices: [{ name: "a", rows: [0], patch: [], later: patch }], dispose: () => {} });
    await expect(greedy([[1, 2]], { maxNewTokens: 3, decide })).rejects.toThrow("no product");
  });
});

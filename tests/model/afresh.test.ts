import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Interrupted } from "../../src/core/errors.js";
import { generateAfresh } from "../../src/model/afresh.js";
import type { LlamaModel } from "../../src/model/model.js";
import { tf } from "../../src/tensor/tf.js";
import { goldenRecords, loadTiny } from "../edit/support.js";
import { atValue } from "../support/points.js";
import { expectTidy } from "../support/tensor-matcher.js";
import { refusal } from "./support.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

const prompts = Object.values(goldenRecords.tokens).filter((ids) => ids.length > 0);
const whole = goldenRecords.greedy["tiny-llama3"] as number[];

describe("greedy continuations, read afresh", () => {
  test("are those of Transformers, from wherever one starts", async () => {
    const given = Math.max(...prompts.filter((ids) => ids.every((id, i) => id === whole[i])).map((ids) => ids.length));
    const starts = [given, given + 2, whole.length - 1];
    const made = await generateAfresh(
      model,
      starts.map((start) => whole.slice(0, start)),
      { maxNewTokens: 3 },
    );
    for (const [i, start] of starts.entries()) {
      const known = whole.slice(start, start + 3);
      expect(made[i]?.slice(0, known.length)).toEqual(known);
    }
  });

  test("of a batch of unlike lengths are those of each prompt alone", async () => {
    const together = await generateAfresh(model, prompts, { maxNewTokens: 4 });
    expect(together).toHaveLength(prompts.length);
    for (const [i, prompt] of prompts.entries()) {
      expect(await generateAfresh(model, [prompt], { maxNewTokens: 4 })).toEqual([together[i]]);
    }
  });

  test("end with a token that ends them, each for itself", async () => {
    const free = await generateAfresh(model, prompts.slice(0, 3), { maxNewTokens: 6 });
    const stop = free[0]?.[2] as number;
    const ends = (_: number, made: readonly number[]) => made.at(-1) === stop;
    const stopped = await generateAfresh(model, prompts.slice(0, 3), { maxNewTokens: 6, ends });
    const upTo = (tokens: number[]) => (tokens.includes(stop) ? tokens.slice(0, tokens.indexOf(stop) + 1) : tokens);
    expect(stopped).toEqual(free.map(upTo));
    expect(stopped[0]?.at(-1)).toBe(stop);
  });
});

test("reads through whatever stands in for a matrix", async () => {
  const [prompt] = prompts as [number[]];
  const free = await generateAfresh(model, [prompt], { maxNewTokens: 5 });
  const layer = 1;
  const through = (scale: number) =>
    generateAfresh(model, [prompt], {
      maxNewTokens: 5,
      edited: {
        cut: atValue(layer),
        patch: async () => ({
          patch: [{ site: { layer, matrix: "down" }, change: (_x, own) => tf.mul(own(), scale) }],
          dispose: () => {},
        }),
      },
    });
  expect(await through(1)).toEqual(free);
  expect(await through(-20)).not.toEqual(free);
});

test("stops when it is told to, and refuses to run over the model's positions", async () => {
  const stopped = generateAfresh(model, prompts, { maxNewTokens: 4, signal: AbortSignal.abort() });
  await expect(stopped).rejects.toThrow(Interrupted);
  const short = { ...model, config: { ...model.config, maxPositions: 4 } };
  const error = await refusal(() => generateAfresh(short, [[0, 1, 2]], { maxNewTokens: 4 }));
  expect(error.message).toContain("1 to 4");
});

test("leaves no tensor behind", async () => {
  await expectTidy(() => generateAfresh(model, prompts, { maxNewTokens: 2 }));
  await expectTidy(() => refusal(() => generateAfresh(model, [[]], { maxNewTokens: 2 })));
  await expectTidy(async () => {
    const failing = generateAfresh(model, [[1]], {
      maxNewTokens: 2,
      edited: { cut: atValue(1), patch: () => Promise.reject(new Error("no output")) },
    });
    await expect(failing).rejects.toThrow("no output");
  });
});

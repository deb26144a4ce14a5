import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LabFailure } from "../../src/core/errors.js";
import { type Memory, type Overlay, untouched } from "../../src/edit/overlay.js";
import { startWise, type WiseSession } from "../../src/edit/wise/wise.js";
import { type Answer, ask } from "../../src/eval/ask.js";
import { agreement } from "../../src/eval/metrics.js";
import { encodeProbe, type Probe, scoreProbes } from "../../src/eval/score.js";
import { mainOutput } from "../../src/model/cut.js";
import { generate } from "../../src/model/generate.js";
import type { LlamaModel } from "../../src/model/model.js";
import { PLAIN } from "../../src/model/prompt.js";
import { tf } from "../../src/tensor/tf.js";
import { errorOf, fact, goldenRecords, largestDifference, loadTiny, settingOf, tinyOptions } from "../edit/support.js";
import { expectTidy } from "../support/tensor-matcher.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

const setting = () => ({ model, cuts: settingOf(model).cuts, style: PLAIN });

const probes: Probe[] = goldenRecords.records.slice(0, 3).flatMap(({ src, rephrase, alt, loc, loc_ans }): Probe[] => [
  { kind: "rewrite", prompt: src, answer: alt },
  { kind: "rephrase", prompt: rephrase, answer: alt },
  { kind: "locality", prompt: loc, answer: loc_ans },
]);

/** One edit that every sequence is routed to, unless `set` says otherwise. */
async function edited(...set: string[]): Promise<{ session: WiseSession; overlay: Overlay }> {
  const session = startWise(settingOf(model), await tinyOptions("act_ratio=0", ...set));
  await session.edit(fact(0));
  return { session, overlay: await session.overlay() };
}

test("agreement is the share of positions that agree", () => {
  expect(agreement([1, 2, 3, 4], [1, 9, 3, 8])).toBe(0.5);
  expect(agreement([7], [7])).toBe(1);
  expect(agreement([], [7])).toBe(0);
});

describe("scores", () => {
  test("by teacher forcing are what the whole model predicts one position before each answer token", async () => {
    const scores = await scoreProbes(probes, untouched(2), setting());
    const encoded = probes.map((probe) => encodeProbe(model, probe, PLAIN));
    expect(scores.map(({ target }) => target)).toEqual(encoded.map(({ ids, promptTokens }) => ids.slice(promptTokens)));
    // An independent way to the same tokens: the greedy continuation of everything in front of each.
    const before = encoded.flatMap(({ ids, promptTokens }) =>
      ids.slice(promptTokens).map((_, k) => ids.slice(0, promptTokens + k)),
    );
    const next = await generate(model, before, { maxNewTokens: 1 });
    expect(scores.flatMap(({ pre }) => pre)).toEqual(next.flat());
  });

  test("without an edit: nothing moves, and locality is whole by definition", async () => {
    for (const { answer, pre, post, score, preScore, route, target } of await scoreProbes(
      probes,
      untouched(2),
      setting(),
    )) {
      expect(post).toEqual(pre);
      expect(route).toBe("main");
      expect(score).toBe(preScore ?? 1);
      if (preScore !== null) expect(preScore, answer).toBe(agreement(pre, target));
    }
  });

  test("locality is agreement with the model before the edit, not correctness", async () => {
    const { session, overlay } = await edited();
    const scores = await scoreProbes(probes, overlay, setting());
    const locality = scores.filter((_, i) => probes[i]?.kind === "locality");
    expect(locality.some(({ score }) => score < 1)).toBe(true); // this overlay answers everything
    for (const { pre, post, score, preScore, exact } of locality) {
      expect(score).toBe(agreement(post, pre));
      expect(preScore).toBeNull();
      expect(exact).toBe(score === 1);
    }
    for (const { post, target, score, route } of scores.filter((_, i) => probes[i]?.kind !== "locality")) {
      expect(score).toBe(agreement(post, target));
      expect(route).toBe("side");
    }
    overlay.dispose();
    session.dispose();
  });

  test("do not depend on what is scored beside them, and change nothing", async () => {
    const { session, overlay } = await edited("act_ratio=0.9");
    const together = await scoreProbes(probes, overlay, setting());
    const again = await expectTidy(() => scoreProbes(probes, overlay, setting()));
    expect(again).toEqual(together);
    for (const [i, probe] of probes.entries()) {
      const [alone] = await scoreProbes([probe], overlay, setting());
      const beside = together[i];
      expect(alone).toMatchObject({ pre: beside?.pre, post: beside?.post, route: beside?.route, score: beside?.score });
      expect(alone?.readings[0]?.delta).toBeCloseTo(beside?.readings[0]?.delta as number, 4);
    }
    const before = await session.snapshot();
    await scoreProbes(probes, overlay, setting());
    const after = await session.snapshot();
    expect(largestDifference(after.side, before.side)).toBe(0);
    expect({ ...after, side: null }).toEqual({ ...before, side: null });
    overlay.dispose();
    session.dispose();
  });

  test("locality prompts are never rendered with the chat template, the others are", () => {
    const chat = { chatTemplate: true, doubleBos: false };
    const [rewrite, , locality] = probes as [Probe, Probe, Probe];
    expect(encodeProbe(model, locality, chat)).toEqual(encodeProbe(model, locality, PLAIN));
    expect(model.tokenizer.decode(encodeProbe(model, rewrite, chat).ids)).toContain("<|start_header_id|>user");
  });

  test("logits that are not finite are a failure, never a score", async () => {
    const broken: Overlay = {
      layer: 2,
      async answer(_, batch) {
        const main = tf.tidy((): tf.Tensor2D => tf.mul(mainOutput(model, batch, 2), Number.NaN));
        return {
          decisions: batch.lengths.map(() => ({ route: "main" as const, readings: [] })),
          main,
          under: () => main.clone(),
          dispose: () => main.dispose(),
        };
      },
      dispose: () => {},
    };
    const error = await expectTidy(() => errorOf(scoreProbes(probes, broken, setting())));
    expect(error).toBeInstanceOf(LabFailure);
    expect(error.message).toContain("not finite");
  });
});

describe("a free answer", () => {
  const question = fact(0).prompt;
  const asking = () => ({ ...setting(), maxNewTokens: 4 });

  test("is the greedy continuation, up to the model's end token", async () => {
    const { tokens, text, route } = await ask(question, untouched(2), asking());
    const prompt = model.tokenizer.encode(question);
    expect([tokens]).toEqual(await generate(model, [prompt], { maxNewTokens: 4 }));
    expect(text).toBe(model.tokenizer.decode(tokens, { skipSpecial: true }));
    expect(route).toBe("main");
    const stopping = { ...model, config: { ...model.config, eosTokenIds: [tokens[1] as number] } };
    const cut = await ask(question, untouched(2), { ...asking(), model: stopping });
    expect(cut.tokens).toEqual(tokens.slice(0, 1));
  });

  test("is routed once, on the question; every token is then read through that memory", async () => {
    const { session, overlay } = await edited();
    const read: string[] = [];
    const watched: Overlay = {
      ...overlay,
      answer: async (on, batch) => {
        const given = await overlay.answer(on, batch);
        // A router that would send everything after the question elsewhere.
        if (read.length > 0) for (const decision of given.decisions) decision.route = "main";
        const under = (memory: Memory) => {
          read.push(memory);
          return given.under(memory);
        };
        return { ...given, under };
      },
    };
    const answer: Answer = await ask(question, watched, asking());
    expect(answer.route).toBe("side");
    expect(read).toEqual(["side", "side", "side", "side"]);
    expect(answer.readings).toHaveLength(1);
    expect(answer.tokens).not.toEqual((await ask(question, untouched(2), asking())).tokens);
    overlay.dispose();
    session.dispose();
  });

  test("leaves no tensor behind", async () => {
    const { session, overlay } = await edited();
    await expectTidy(() => ask(question, overlay, asking()));
    overlay.dispose();
    session.dispose();
  });
});

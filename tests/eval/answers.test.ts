import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startDefer } from "../../src/edit/defer/defer.js";
import type { DeferOptions } from "../../src/edit/defer/options.js";
import { MAIN, type Overlay, untouched } from "../../src/edit/overlay.js";
import { startWise } from "../../src/edit/wise/wise.js";
import { ask, type FreeAnswer, freeAnswers } from "../../src/eval/answers.js";
import type { Routing } from "../../src/eval/generation.js";
import { generateAfresh } from "../../src/model/afresh.js";
import type { LlamaModel } from "../../src/model/model.js";
import type { Patch } from "../../src/model/patch.js";
import { PLAIN } from "../../src/model/prompt.js";
import { tf } from "../../src/tensor/tf.js";
import { fact, loadTiny, optionsOf, settingOf, tinyOptions } from "../edit/support.js";
import { atValue } from "../support/points.js";
import { expectTidy } from "../support/tensor-matcher.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

async function edited(...set: string[]) {
  const session = startWise(await tinyOptions(...set), settingOf(model));
  await session.edit([fact(0)]);
  return { session, overlay: await session.overlay() };
}

/** A module that always answers. */
const deferOptions = async () => (await optionsOf("defer", "threshold=1e-9")) as DeferOptions;

const question = fact(0).prompt;
const settingFor = (routing: Routing) => ({ model, cuts: settingOf(model).cuts, maxNewTokens: 4, routing });
const asking = () => ({ ...settingFor("once"), style: PLAIN });

describe("a free answer", () => {
  test("is the greedy continuation, up to the model's end token", async () => {
    const { tokens, text, route } = await ask(question, untouched(atValue(2)), asking());
    const prompt = model.tokenizer.encode(question);
    expect([tokens]).toEqual(await generateAfresh(model, [prompt], { maxNewTokens: 4 }));
    expect(text).toBe(model.tokenizer.decode(tokens, { skipSpecial: true }));
    expect(route).toBe("main");
    const stopping = { ...model, config: { ...model.config, eosTokenIds: [tokens[1] as number] } };
    const cut = await ask(question, untouched(atValue(2)), { ...asking(), model: stopping });
    expect(cut.tokens).toEqual(tokens.slice(0, 1));
  });

  /** A router that would send everything after the first decision elsewhere. */
  function turning(overlay: Overlay): Overlay {
    let decided = 0;
    return {
      ...overlay,
      route: async (batch) => {
        const given = await overlay.route(batch);
        if (decided++ > 0) for (const decision of given.decisions) decision.variant = MAIN;
        return given;
      },
    };
  }

  test("is decided once, on the question, or again at every token", async () => {
    const { session, overlay } = await edited();
    const prompt = model.tokenizer.encode(question);
    const ends = () => false;
    const written = async (routing: Routing, over: Overlay) =>
      (await freeAnswers([prompt], over, { ...settingFor(routing), ends }))[0];
    const once = await written("once", overlay);
    expect(once?.route).toBe("side");
    expect(once?.readings).toHaveLength(1);
    expect(await written("once", turning(overlay))).toEqual(once);
    const [first, ...rest] = (once as FreeAnswer).tokens;
    const [main] = await generateAfresh(model, [[...prompt, first as number]], { maxNewTokens: 3 });
    const turned = await written("each-step", turning(overlay));
    expect(turned).toMatchObject({ route: "side", tokens: [first, ...(main as number[])] });
    expect(main).not.toEqual(rest);
    overlay.dispose();
    session.dispose();
  });

  test("can be written by other variants beside", async () => {
    const { session, overlay } = await edited();
    const prompts = [0, 3].map((i) => model.tokenizer.encode(fact(i).prompt));
    const setting = { ...settingFor("once"), ends: () => false, beside: () => [MAIN] };
    const answers = await freeAnswers(prompts, overlay, setting);
    const main = await freeAnswers(prompts, untouched(atValue(2)), { ...settingFor("once"), ends: () => false });
    for (const [i, { under, route, tokens }] of answers.entries()) {
      expect(under.get(MAIN)).toEqual(main[i]?.tokens);
      expect(under.get(route)).toEqual(tokens);
    }
    expect(answers[0]?.under.size).toBe(2);
    overlay.dispose();
    session.dispose();
  });

  test("of DEFER stands under the value that the question gave", async () => {
    const session = startDefer(await deferOptions(), settingOf(model));
    await session.edit([fact(0)]);
    const overlay = await session.overlay();
    const prompt = model.tokenizer.encode(question);
    const values: tf.Tensor2D[] = [];
    const keeping: Overlay = {
      ...overlay,
      async route(batch) {
        const routed = await overlay.route(batch);
        const [decided] = routed.later("module");
        const x = tf.zeros([1, 1]) as tf.Tensor2D;
        values.push(
          (decided as Patch[number]).change(
            x,
            () => x,
            (perRow) => perRow.clone(),
          ),
        );
        return routed;
      },
    };
    const [answer] = await freeAnswers([prompt], keeping, { ...settingFor("once"), ends: () => false });
    expect(answer?.route).toBe("module");
    const [value] = values as [tf.Tensor2D];
    const site = { layer: overlay.cut.layer, matrix: "down" } as const;
    const change = (x: tf.Tensor2D) => tf.tile(value, [x.shape[0], 1]);
    const edited = { cut: overlay.cut, patch: async () => ({ patch: [{ site, change }], dispose: () => {} }) };
    expect([answer?.tokens]).toEqual(await generateAfresh(model, [prompt], { maxNewTokens: 4, edited }));
    overlay.dispose();
    session.dispose();
  });

  test.each(["once", "each-step"] as const)("leaves no tensor behind, decided %s", async (routing) => {
    const { session, overlay } = await edited();
    await expectTidy(() => ask(question, overlay, { ...asking(), routing }));
    overlay.dispose();
    session.dispose();
  });
});

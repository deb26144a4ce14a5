import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LabFailure } from "../../src/core/errors.js";
import type { EditSession } from "../../src/edit/contract.js";
import { type Overlay, type Reading, type RoutedBatch, unrouted, untouched } from "../../src/edit/overlay.js";
import { startWise } from "../../src/edit/wise/wise.js";
import { agreement } from "../../src/eval/compare.js";
import { encodeProbe, type Probe, scoreProbes } from "../../src/eval/score.js";
import type { ProbeScore } from "../../src/eval/types.js";
import { generateAfresh } from "../../src/model/afresh.js";
import type { LlamaModel } from "../../src/model/model.js";
import type { Change, Site } from "../../src/model/patch.js";
import { PLAIN } from "../../src/model/prompt.js";
import { tf } from "../../src/tensor/tf.js";
import { errorOf, fact, goldenRecords, loadTiny, settingOf, tinyOptions } from "../edit/support.js";
import { atValue } from "../support/points.js";
import { expectTidy } from "../support/tensor-matcher.js";

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

/** The matrix that WISE edits, at whose input the model is cut. */
const VALUE: Site = { layer: 2, matrix: "down" };

const setting = () => ({ model, cuts: settingOf(model).cuts, style: PLAIN });

const probes: Probe[] = goldenRecords.records.slice(0, 3).flatMap(({ src, rephrase, alt, loc, loc_ans }): Probe[] => [
  { kind: "rewrite", prompt: src, answer: alt },
  { kind: "rephrase", prompt: rephrase, answer: alt },
  { kind: "locality", prompt: loc, answer: loc_ans },
]);

/** One edit that every sequence is routed to, unless `set` says otherwise. */
async function edited(...set: string[]): Promise<{ session: EditSession; overlay: Overlay }> {
  const session = startWise(await tinyOptions("act_ratio=0", ...set), settingOf(model));
  await session.edit([fact(0)]);
  return { session, overlay: await session.overlay() };
}

test("agreement is the share of positions that agree", () => {
  expect(agreement([1, 2, 3, 4], [1, 9, 3, 8])).toBe(0.5);
  expect(agreement([7], [7])).toBe(1);
  expect(agreement([], [7])).toBe(0);
});

describe("scores", () => {
  test("by teacher forcing are what the whole model predicts one position before each answer token", async () => {
    const scores = await scoreProbes(probes, untouched(atValue(2)), setting());
    const encoded = probes.map((probe) => encodeProbe(model, probe, PLAIN));
    expect(scores.map(({ target }) => target)).toEqual(encoded.map(({ ids, promptTokens }) => ids.slice(promptTokens)));
    // An independent way to the same tokens: the greedy continuation of everything in front of each.
    const before = encoded.flatMap(({ ids, promptTokens }) =>
      ids.slice(promptTokens).map((_, k) => ids.slice(0, promptTokens + k)),
    );
    const next = await generateAfresh(model, before, { maxNewTokens: 1 });
    expect(scores.flatMap(({ pre }) => pre)).toEqual(next.flat());
  });

  test("without an edit: nothing moves, and locality is whole by definition", async () => {
    for (const { answer, pre, post, score, preScore, route, target } of await scoreProbes(
      probes,
      untouched(atValue(2)),
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
      expect(alone?.readings[0]?.numbers.delta).toBeCloseTo(beside?.readings[0]?.numbers.delta as number, 4);
    }
    const before = await session.state();
    await scoreProbes(probes, overlay, setting());
    expect(await session.state()).toEqual(before);
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
    const broken = unrouted(atValue(2), [{ site: VALUE, change: (_x, own) => tf.mul(own(), Number.NaN) }], () => {});
    const error = await expectTidy(() => errorOf(scoreProbes(probes, broken, setting())));
    expect(error).toBeInstanceOf(LabFailure);
    expect(error.message).toContain("not finite");
  });
});

/** An overlay whose changes note which sequences of a batch go through them. */
function watched(overlay: Overlay) {
  const passes: { variant: string; rows: tf.Tensor; T: number }[] = [];
  return {
    overlay: {
      ...overlay,
      async route(batch): Promise<RoutedBatch> {
        const routed = await overlay.route(batch);
        const rows = tf.range(0, batch.lengths.length * batch.at.length, 1, "int32");
        return {
          ...routed,
          patch: (variant) =>
            routed.patch(variant).map(({ site, change }) => ({
              site,
              change: (x, own, pick) => {
                const picked = tf.keep(tf.clone(pick(rows)));
                passes.push({ variant, rows: picked, T: batch.at.length });
                expect(x.shape[0]).toBe(picked.size);
                return change(x, own, pick);
              },
            })),
          dispose() {
            routed.dispose();
            rows.dispose();
          },
        };
      },
    } satisfies Overlay,
    /** The sequences of every pass so far, by variant. */
    async passes(): Promise<Record<string, number[]>> {
      const found: Record<string, number[]> = {};
      for (const { variant, rows, T } of passes.splice(0)) {
        const through = Array.from(await rows.data<"int32">(), (row) => Math.floor(row / T));
        found[variant] = [...(found[variant] ?? []), ...new Set(through)];
        rows.dispose();
      }
      return found;
    },
  };
}

describe("a pass under a variant", () => {
  const scaled =
    (by: number): Change =>
    (_x, own) =>
      tf.mul(own(), by);
  const changes: Record<string, Change[]> = { a: [scaled(-20)], b: [scaled(-7)], empty: [] };
  const patchOf = (variant: string) => (changes[variant] ?? []).map((change) => ({ site: VALUE, change }));
  const readings = (): Reading[] => Object.keys(changes).map((variant) => ({ variant, margin: 0, numbers: {} }));
  /** For each of four sequences what is chosen, and what could be. */
  const plan = [
    { variant: "main", within: ["a"] },
    { variant: "b", within: [] },
    { variant: "main", within: [] },
    { variant: "a", within: ["a", "b", "empty"] },
  ];
  const routing: Overlay = {
    cut: atValue(2),
    route: async () => ({
      decisions: plan.map(({ variant }) => ({ variant, readings: readings() })),
      patch: patchOf,
      later: patchOf,
      reachable: (variant, row) => plan[row]?.within.includes(variant) ?? false,
      dispose: () => {},
    }),
    dispose: () => {},
  };
  const four = () => probes.slice(0, 4);

  test("is made for the sequences that could be answered by it alone, and for no others", async () => {
    const { overlay, passes } = watched(routing);
    await scoreProbes(four(), overlay, setting());
    expect(await passes()).toEqual({ a: [0, 3], b: [1, 3] });
  });

  test("gives what the variant says of everything; what could not answer has no prediction and no score", async () => {
    const scores = await scoreProbes(four(), routing, setting());
    const under: Record<string, number[][]> = {};
    for (const variant of Object.keys(changes)) {
      const always = unrouted(atValue(2), patchOf(variant), () => {});
      under[variant] = (await scoreProbes(four(), always, setting())).map(({ post }) => post);
    }
    under.main = scores.map(({ pre }) => pre);
    expect(under.empty).toEqual(under.main);
    expect(under.a).not.toEqual(under.main);
    for (const [row, { route, post, pre, target, readings: found }] of scores.entries()) {
      const { variant: chosen, within } = plan[row] as (typeof plan)[number];
      expect(route).toBe(chosen);
      expect(post).toEqual(under[chosen]?.[row]);
      expect(found.map(({ variant }) => variant)).toEqual(Object.keys(changes));
      for (const { variant, predicted, score } of found) {
        const known = variant === chosen || within.includes(variant);
        expect(predicted, `${variant} of sequence ${row}`).toEqual(known ? under[variant]?.[row] : null);
        const wanted = probes[row]?.kind === "locality" ? pre : target;
        expect(score).toBe(predicted === null ? null : agreement(predicted, wanted));
      }
    }
  });

  test("is made once for every sequence where nothing routes, and there are no readings then", async () => {
    const { overlay, passes } = watched(unrouted(atValue(2), patchOf("a"), () => {}));
    const scores = await scoreProbes(four(), overlay, setting());
    expect(await passes()).toEqual({ edited: [0, 1, 2, 3] });
    expect(scores.map(({ route, readings }) => [route, readings])).toEqual(four().map(() => ["edited", []]));
  });

  test("is not made at all without edits", async () => {
    const { overlay, passes } = watched(untouched(atValue(2)));
    await scoreProbes(four(), overlay, setting());
    expect(await passes()).toEqual({});
  });
});

describe("under WISE's memories", () => {
  /** A session of three edits: with saved memories, or with a merged one, and a side memory that is empty. */
  async function withMemories(set: readonly string[]): Promise<EditSession> {
    const session = startWise(await tinyOptions(...set), settingOf(model));
    for (const i of [0, 1, 2]) await session.edit([fact(i)]);
    return session;
  }

  test.each([
    ["Retrieve", ["save_freq=1", "merge_freq=4"], ["side", "memory-0", "memory-1", "memory-2"]],
    ["Merge", ["save_freq=1", "merge_freq=4", "retrieve=false"], ["side", "merged"]],
  ])("%s: an empty side memory costs no pass, and another one only where it could answer", async (_, set, variants) => {
    const session = await withMemories(set);
    const { overlay, passes } = watched(await session.overlay());
    const scores = await scoreProbes(probes, overlay, setting());
    const found = await passes();
    expect(Object.keys(found)).not.toContain("side");
    for (const [row, { readings }] of scores.entries()) {
      expect(readings.map(({ variant }) => variant)).toEqual(variants);
      for (const { variant, predicted, score } of readings.slice(1)) {
        expect(found[variant]?.includes(row) ?? false).toBe(predicted !== null);
        expect(score === null).toBe(predicted === null);
      }
    }
    const unknown = scores.flatMap(({ readings }) => readings).filter(({ predicted }) => predicted === null);
    expect(unknown.length).toBeGreaterThan(0);
    overlay.dispose();
    session.dispose();
  });

  test.each([
    ["Retrieve", ["save_freq=1", "merge_freq=4"]],
    ["Retrieve, a shard in progress", ["save_freq=2", "merge_freq=4"]],
    ["Merge", ["save_freq=2", "merge_freq=4", "retrieve=false"]],
  ])("%s: what is logged once says what is answered at every act_ratio", async (_, set) => {
    const session = await withMemories(set);
    const overlay = await session.overlay();
    const logged = await scoreProbes(probes, overlay, setting());
    overlay.dispose();
    const routes = new Set<string>();
    for (const act_ratio of [0, 0.2, 0.5, 0.9, 1, 1.5, 4]) {
      const given = { saved: await session.state() };
      const other = startWise(await tinyOptions(...set, `act_ratio=${act_ratio}`), settingOf(model), given);
      const under = await other.overlay();
      for (const [row, { route, post }] of (await scoreProbes(probes, under, setting())).entries()) {
        const { pre, readings } = logged[row] as ProbeScore;
        const said = readings.find(({ variant }) => variant === route);
        expect(route === "main" ? pre : said?.predicted, `${route} at ${act_ratio}`).toEqual(post);
        routes.add(route);
      }
      under.dispose();
      other.dispose();
    }
    expect(routes.size).toBeGreaterThan(1);
    session.dispose();
  });
});

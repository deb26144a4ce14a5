import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { createRng } from "../../../src/core/rng.js";
import type { Codebook, Entry } from "../../../src/edit/grace/codebook.js";
import type { GraceOptions } from "../../../src/edit/grace/options.js";
import { graceOverlay, graceRouter } from "../../../src/edit/grace/reading.js";
import { LARGEST_MARGIN, MAIN, type Overlay, type Reading, type RoutedBatch } from "../../../src/edit/overlay.js";
import { scoreProbes } from "../../../src/eval/score.js";
import { batchCuts, type CutBatch, logitsAt, mainOutput, type Sequences } from "../../../src/model/cut.js";
import { createCutStore } from "../../../src/model/cut-store.js";
import { loadModel } from "../../../src/model/folder.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { outputChange, type Patch } from "../../../src/model/patch.js";
import { PLAIN } from "../../../src/model/prompt.js";
import { tf } from "../../../src/tensor/tf.js";
import { refusal } from "../../model/support.js";
import { atValue } from "../../support/points.js";
import { repository } from "../../support/shared.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { loadTiny } from "../support.js";
import { graceTiny } from "./support.js";

const inference = graceRouter.inference as NonNullable<typeof graceRouter.inference>;

describe("the router", () => {
  const from0 = fc.oneof(fc.constant(0), fc.double({ min: 1e-3, max: 100, noNaN: true }));
  /** As readings are logged: a distance under the slack is 0, and a split may leave a radius a little under 0. */
  const logged = fc
    .record({
      distance: from0,
      radius: fc.oneof(from0, fc.constant(-1e-5), fc.constant(1e300)),
      slack: fc.oneof(fc.constant(0), fc.constant(5e-6), fc.constant(1e-3)),
    })
    .map(({ distance, radius, slack }): Reading => {
      const numbers = { distance: distance < slack ? 0 : distance, radius, slack, key: 0 };
      return { variant: "codebook", margin: 0, numbers };
    });
  const decide = (reading: Reading, eps_ratio: number) => inference.decide([reading], { eps_ratio });

  test("decides by the rule itself, and a margin of 1 says the same", () => {
    fc.assert(
      fc.property(logged, (reading) => {
        const { distance, radius, slack } = reading.numbers as { distance: number; radius: number; slack: number };
        const { variant, readings } = decide(reading, 1);
        expect(variant).toBe(distance <= radius + slack ? "codebook" : MAIN);
        const [{ margin }] = readings as [Reading];
        expect(margin >= 1).toBe(variant === "codebook");
        expect(margin).toBeGreaterThanOrEqual(0);
        expect(margin).toBeLessThanOrEqual(LARGEST_MARGIN);
      }),
      { numRuns: 1000 },
    );
  });

  test("a margin next to 1 is on the side of the rule, to the last bit", () => {
    fc.assert(
      fc.property(fc.double({ min: 1e-3, max: 1e3, noNaN: true }), (radius) => {
        const bits = new BigInt64Array(new Float64Array([radius]).buffer)[0] as bigint;
        const next = new Float64Array(new BigInt64Array([bits + 1n]).buffer)[0] as number;
        const at = (distance: number) =>
          decide({ variant: "codebook", margin: 0, numbers: { distance, radius, slack: 0, key: 0 } }, 1);
        expect(at(radius).variant).toBe("codebook");
        expect(at(next).variant).toBe(MAIN);
      }),
    );
  });

  test("the codebook answers from its turn on, and never below", () => {
    const ratios = fc.oneof(fc.constant(0), fc.double({ min: 0, max: 10, noNaN: true }));
    fc.assert(
      fc.property(logged, ratios, (reading, ratio) => {
        const turn = inference.turn([reading], {});
        fc.pre(!Number.isFinite(turn) || Math.abs(turn - ratio) > 1e-9 * turn); // else rounding decides
        expect(decide(reading, ratio).variant).toBe(ratio >= turn ? "codebook" : MAIN);
      }),
      { numRuns: 1000 },
    );
  });

  test("without readings the untouched model answers, at any value", () => {
    expect(inference.decide([], { eps_ratio: 2 })).toEqual({ variant: MAIN, readings: [] });
    expect(inference.turn([], {})).toBe(Number.POSITIVE_INFINITY);
  });

  test("deciding keeps what stands in a reading", () => {
    const numbers = { distance: 3, radius: 2, slack: 0, key: 4 };
    const reading = { variant: "codebook", margin: 0, numbers, predicted: [7], score: 0.5 };
    expect(inference.decide([reading], { eps_ratio: 3 })).toEqual({
      variant: "codebook",
      readings: [{ ...reading, margin: 2 }],
    });
  });

  test.each([[{}], [{ eps_ratio: -1 }], [{ eps_ratio: Number.NaN }], [{ eps_ratio: "1" }]])(
    "options that do not say how it decides are refused: %o",
    async (options) => {
      const error = await refusal(() => inference.decide([], options));
      expect(error).toMatchObject({ where: "options of the protocol", expected: "eps_ratio, a number from 0" });
    },
  );

  test("names its variant and the numbers of a reading", () => {
    expect(graceRouter.called("codebook")).toBe("the codebook");
    expect(Object.keys(graceRouter.numbers)).toEqual(["distance", "radius", "slack", "key"]);
  });
});

let model: LlamaModel;
beforeAll(async () => {
  model = await loadTiny();
});
afterAll(() => model.dispose());

/** Sequences of several lengths, one of a single token, with the tokens of their prompts. */
const SEQUENCES: Sequences = [[0, 5, 9, 11, 40], [0], [0, 300, 12], [0, 7, 8, 9, 10, 11, 12]];
const PROMPTS = [3, 1, 2, 7];

/** Reads a batch at a layer; everything is disposed afterwards. */
async function withBatch<T>(
  { layer, rows = [0, 1, 2, 3] }: { layer: number; rows?: number[] },
  use: (batch: CutBatch) => Promise<T>,
): Promise<T> {
  const cuts = await createCutStore(model, atValue(layer)).get(rows.map((row) => SEQUENCES[row] as number[]));
  const batch = batchCuts(
    model,
    cuts,
    rows.map((row) => PROMPTS[row] as number),
  );
  try {
    return await use(batch);
  } finally {
    batch.dispose();
  }
}

/** Entries at the inputs of the value matrix at one token of each sequence, with values of their own. */
async function entriesAt(layer: number, tokens: readonly number[], radius = 1): Promise<Entry[]> {
  const cuts = await createCutStore(model, atValue(layer)).get(SEQUENCES);
  const rng = createRng(1);
  const { hiddenSize: D, intermediateSize: M } = model.config;
  return cuts.map(({ mlpIn }, row) => {
    const token = tokens[row] as number;
    const own = rng.fork("value", row);
    return {
      key: (mlpIn as Float32Array).slice(token * M, (token + 1) * M),
      value: Float32Array.from({ length: D }, own.uniform),
      radius,
      label: { tokens: [row], promptTokens: 1 },
    };
  });
}

const overlayOf = async (entries: Entry[], set: string[], lastPrompt = 1): Promise<Overlay> => {
  const codebook: Codebook = { edits: entries.length, entries, lastPrompt };
  return graceOverlay(codebook, await graceTiny(...set));
};

const keysOf = ({ decisions }: RoutedBatch) => decisions.map(({ readings }) => readings[0]?.numbers.key);

async function routed<T>(overlay: Overlay, batch: CutBatch, use: (found: RoutedBatch) => T | Promise<T>): Promise<T> {
  const found = await overlay.route(batch);
  try {
    return await use(found);
  } finally {
    found.dispose();
  }
}

async function logitsUnder(patch: Patch, batch: CutBatch): Promise<Float32Array> {
  const spots = batch.lengths.flatMap((length, row) => Array.from({ length }, (_, position) => ({ row, position })));
  const logits = logitsAt(model, batch, { patch, spots });
  const values = await logits.data<"float32">();
  logits.dispose();
  return values;
}

describe("an overlay", () => {
  const last = PROMPTS.map((tokens) => tokens - 1);

  test.each([0, 2, 3])("puts each sequence's own value where it belongs, at layer %i", async (layer) => {
    const entries = await entriesAt(layer, last);
    const ranges = {
      replace_last: (row: number) => [last[row], (last[row] as number) + 1],
      replace_prompt: (row: number) => [0, last[row]],
      replace_all: (row: number) => [0, SEQUENCES[row]?.length],
    };
    for (const [replacement, range] of Object.entries(ranges)) {
      await expectTidy(async () => {
        const overlay = await overlayOf(entries, [`layer=${layer}`, `replacement=${replacement}`]);
        await withBatch({ layer }, async (batch) => {
          const output = tf.tidy(() => mainOutput(model, batch));
          const { hiddenSize: D } = model.config;
          const rows = (await output.data<"float32">()).slice();
          for (const [row] of SEQUENCES.entries()) {
            const [from, to] = range(row) as [number, number];
            for (let t = from; t < to; t++) rows.set((entries[row] as Entry).value, (row * batch.at.length + t) * D);
          }
          const wanted = tf.tensor2d(rows, output.shape);
          const change = outputChange(wanted);
          const expected = await logitsUnder([{ site: { layer, matrix: "down" }, change }], batch);
          await routed(overlay, batch, async (found) => {
            expect(keysOf(found)).toEqual([0, 1, 2, 3]);
            expect(found.decisions.map(({ variant }) => variant)).toEqual(Array(4).fill("codebook"));
            expect(await logitsUnder(found.patch("codebook"), batch)).toEqual(expected);
          });
          tf.dispose([output, wanted]);
        });
        overlay.dispose();
      });
    }
  });

  test("reads nothing back but the inputs at the key tokens", async () => {
    const overlay = await overlayOf(await entriesAt(2, last), []);
    await withBatch({ layer: 2 }, async (batch) => {
      const read = vi.spyOn(tf.Tensor.prototype, "data");
      await routed(overlay, batch, () => {});
      const shapes = read.mock.contexts.map((tensor) => (tensor as tf.Tensor).shape);
      read.mockRestore();
      expect(shapes).toEqual([[4, model.config.intermediateSize]]);
    });
  });

  test("reads a sequence as it reads it alone", async () => {
    const entries = await entriesAt(2, last);
    const overlay = await overlayOf(entries, []);
    const together = await withBatch({ layer: 2 }, (batch) => routed(overlay, batch, ({ decisions }) => decisions));
    for (const row of [0, 1, 2, 3]) {
      const alone = await withBatch({ layer: 2, rows: [row] }, (batch) =>
        routed(overlay, batch, ({ decisions }) => decisions[0]),
      );
      expect(alone?.readings[0]?.numbers).toEqual(together[row]?.readings[0]?.numbers);
    }
  });

  test("answers, under its one variant, with the nearest entry even where that is out of reach", async () => {
    const [entry, ...others] = await entriesAt(2, last, 0.1);
    const overlay = await overlayOf([entry as Entry], []);
    expect(others).toHaveLength(3);
    await withBatch({ layer: 2 }, (batch) =>
      routed(overlay, batch, async (found) => {
        expect(found.decisions.map(({ variant }) => variant)).toEqual(["codebook", MAIN, MAIN, MAIN]);
        expect(keysOf(found)).toEqual([0, 0, 0, 0]);
        expect([0, 1, 2, 3].map((row) => found.reachable("codebook", row))).toEqual([true, true, true, true]);
        const [under, main] = [await logitsUnder(found.patch("codebook"), batch), await logitsUnder([], batch)];
        const V = model.config.vocabSize;
        const of = (values: Float32Array, spot: number) => values.slice(spot * V, (spot + 1) * V);
        expect(of(under, 5)).not.toEqual(of(main, 5)); // the one token of the second sequence
      }),
    );
  });

  test("an entry whose radius is not above 0 reaches no other prompt at any eps_ratio", async () => {
    const [entry] = await entriesAt(2, last, -1e-5);
    const overlay = await overlayOf([entry as Entry], ["eps_ratio=1e6"]);
    await withBatch({ layer: 2 }, (batch) =>
      routed(overlay, batch, ({ decisions, reachable }) => {
        expect(decisions.map(({ variant }) => variant)).toEqual(["codebook", MAIN, MAIN, MAIN]);
        expect([0, 1].map((row) => reachable("codebook", row))).toEqual([true, false]);
      }),
    );
  });

  test("eps_ratio moves the radii, and deciding on what was logged says the same to the last bit", async () => {
    const entries = (await entriesAt(2, last)).slice(0, 2);
    const read = async (eps_ratio: number) => {
      const overlay = await overlayOf(entries, [`eps_ratio=${eps_ratio}`]);
      return withBatch({ layer: 2 }, (batch) => routed(overlay, batch, ({ decisions }) => decisions));
    };
    const logged = JSON.parse(JSON.stringify(await read(1)));
    const answered = new Set<string>();
    for (const eps_ratio of [0, 0.5, 1, 5, 12, 20, 1000]) {
      const decisions = await read(eps_ratio);
      for (const [row, decision] of decisions.entries()) {
        expect(inference.decide(logged[row].readings, { eps_ratio })).toEqual(decision);
      }
      answered.add(decisions.map(({ variant }) => variant).join());
    }
    expect(answered.size).toBeGreaterThan(1);
  });

  test("before the first edit there are no readings", async () => {
    const overlay = await overlayOf([], []);
    await withBatch({ layer: 2 }, (batch) =>
      routed(overlay, batch, ({ decisions }) => {
        expect(decisions).toEqual(Array(4).fill({ variant: MAIN, readings: [] }));
      }),
    );
  });

  test("as released, an answer is read where the last edit's prompt ended, and a prompt alone where it ends", async () => {
    // Prompts of 3, 1, 2, 7 tokens of 5, 1, 3, 7: the last edit's had 4, beyond the end of the third sequence.
    const tokens = [3, 0, 2, 6];
    const overlay = await overlayOf(await entriesAt(2, tokens, 0), ["key_at=last_edit"], 4);
    await withBatch({ layer: 2 }, (batch) =>
      routed(overlay, batch, (found) => {
        expect(found.decisions.map(({ variant }) => variant)).toEqual(Array(4).fill("codebook"));
        expect(keysOf(found)).toEqual([0, 1, 2, 3]);
      }),
    );
  });

  test("as released, an answer that the model writes is read where its own prompt ends", async () => {
    const tokens = [2, 0, 1, 6];
    const overlay = await overlayOf(await entriesAt(2, tokens, 0), ["key_at=last_edit"], 4);
    await withBatch({ layer: 2 }, (batch) =>
      routed(overlay, { ...batch, answers: "generated" }, (found) => expect(keysOf(found)).toEqual([0, 1, 2, 3])),
    );
  });
});

test("a thousand entries are read in as many passes as one", async () => {
  const lab = await loadModel(join(repository, "data/lab-llama"));
  const { hiddenSize: D, intermediateSize: M } = lab.config;
  const rng = createRng(0);
  const entry = (i: number): Entry => {
    const own = rng.fork("entry", i);
    const draw = (length: number) => Float32Array.from({ length }, own.uniform);
    return { key: draw(M), value: draw(D), radius: 1e6, label: { tokens: [i], promptTokens: 1 } };
  };
  const probes = Array.from({ length: 24 }, (_, i) => {
    return { kind: "rewrite", prompt: `quiz card ${i}: category of`, answer: "opera" } as const;
  });
  const options = { ...(await graceTiny("layer=1")) } satisfies GraceOptions;
  const read = async (entries: Entry[]) => {
    let passes = 0;
    const counted: LlamaModel = {
      ...lab,
      layer(i) {
        if (i === lab.config.layers - 1) passes += 1;
        return lab.layer(i);
      },
    };
    const overlay = graceOverlay({ edits: entries.length, entries, lastPrompt: 1 }, options);
    const cuts = createCutStore(lab, atValue(1)); // the frozen part is not counted: it ends before
    const scores = await scoreProbes(probes, overlay, { model: counted, cuts, style: PLAIN });
    overlay.dispose();
    return { passes, keys: new Set(scores.map(({ readings }) => readings[0]?.numbers.key)), scores };
  };
  const thousand = Array.from({ length: 1000 }, (_, i) => entry(i));
  const one = await read(thousand.slice(0, 1));
  const many = await read(thousand);
  expect([one.passes, many.passes]).toEqual([2, 2]); // the untouched model, then the codebook
  expect(many.scores.every(({ route }) => route === "codebook")).toBe(true);
  expect(many.keys.size).toBeGreaterThan(1);
  lab.dispose();
});

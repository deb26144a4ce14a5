import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LabFailure } from "../../../src/core/errors.js";
import { createRng } from "../../../src/core/rng.js";
import type { MemoryReading, Route } from "../../../src/edit/overlay.js";
import { createWiseOverlay, decide, type RoutingRule, type WiseMemory } from "../../../src/edit/wise/routing.js";
import { batchCuts, type Cut } from "../../../src/model/cut.js";
import { runFrozen } from "../../../src/model/frozen.js";
import type { LlamaModel } from "../../../src/model/model.js";
import { tf } from "../../../src/tensor/tf.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { errorOf, largestDifference, loadTiny } from "../support.js";

/** A memory's reading: its activation and its threshold. */
type Pair = readonly [delta: number, threshold: number];

const reading = (memory: MemoryReading["memory"], [delta, threshold]: Pair): MemoryReading => ({
  memory,
  delta,
  threshold,
  minAct: threshold,
});

describe("which memory answers", () => {
  test.each<[string, Pair, Pair[], Route]>([
    ["nothing saved, under the threshold", [4, 5], [], "main"],
    ["nothing saved, at the threshold", [5, 5], [], "side"],
    ["nothing saved, above it", [6, 5], [], "side"],
    ["nothing edited yet", [0, 1e9], [], "main"],
    ["a saved memory above its own threshold and the side memory", [6, 5], [[7, 5]], "memory-0"],
    ["a saved memory at its threshold does not take over", [4, 5], [[6, 6]], "main"],
    ["nor one that ties with the side memory", [6, 5], [[6, 2]], "side"],
    ["nor one below the side memory, although that one did not answer", [6, 7], [[5, 2]], "main"],
    ["a saved memory answers where the side memory does not", [6, 7], [[6.5, 2]], "memory-0"],
    [
      "the largest of several",
      [1, 5],
      [
        [6, 5],
        [8, 5],
        [7, 5],
      ],
      "memory-1",
    ],
    [
      "a tie of saved memories goes to the older",
      [1, 5],
      [
        [6, 5],
        [6, 5],
      ],
      "memory-0",
    ],
    [
      "a large one under its own threshold does not count as the best so far",
      [1, 5],
      [
        [9, 10],
        [6, 5],
      ],
      "memory-1",
    ],
  ])("retrieve: %s", (_, side, saved, expected) => {
    const readings = [reading("side", side), ...saved.map((pair, i) => reading(`memory-${i}`, pair))];
    expect(decide(readings, { retrieve: true })).toBe(expected);
  });

  test.each<[string, Pair, number | null, Route]>([
    ["before the first merge, under the threshold", [4, 5], null, "main"],
    ["before the first merge, at the threshold", [5, 5], null, "side"],
    ["both under the threshold", [4, 5], 4.5, "main"],
    ["only the merged one reaches it", [0, 5], 5, "merged"],
    ["only the side memory reaches it", [5, 5], 4, "side"],
    ["both: the larger", [6, 5], 7, "merged"],
    ["both: the larger, the other way", [7, 5], 6, "side"],
    ["a tie goes to the side memory", [6, 5], 6, "side"],
  ])("merge: %s", (_, side, merged, expected) => {
    const readings = [reading("side", side), ...(merged === null ? [] : [reading("merged", [merged, side[1]])])];
    expect(decide(readings, { retrieve: false })).toBe(expected);
  });

  test("without memories, the untouched model", () => {
    expect([true, false].map((retrieve) => decide([], { retrieve }))).toEqual(["main", "main"]);
  });
});

describe("activations", () => {
  const layer = 2;
  const rule: RoutingRule = { activationOnDistance: true, actRatio: 0.5, retrieve: true, longSequenceMax: false };
  const sequence = (length: number) => Array.from({ length }, (_, i) => (i * 37 + length) % 1000);
  let model: LlamaModel;
  let main: Float32Array; // W, [D, M]
  const delta = { values: new Float32Array(), shape: [0, 0] as [number, number] };

  beforeAll(async () => {
    model = await loadTiny();
    const { hiddenSize: D, intermediateSize: M } = model.config;
    main = await model.valueMatrix(layer).data<"float32">();
    const rng = createRng(5);
    delta.values = Float32Array.from({ length: D * M }, () => rng.normal() / 100);
    delta.shape = [D, M];
  });
  afterAll(() => model.dispose());

  const side = (values = delta.values, minAct = 1): WiseMemory => ({
    name: "side",
    delta: tf.tensor2d(values, delta.shape),
    minAct,
  });

  /** Readings and routes of some sequences under one side memory. */
  async function read(lengths: readonly number[], given: Partial<RoutingRule> = {}, memory: () => WiseMemory = side) {
    const cuts = await runFrozen(model, lengths.map(sequence), { layer });
    const batch = batchCuts(model, cuts);
    const overlay = createWiseOverlay(layer, [memory()], { ...rule, ...given });
    try {
      const answer = await overlay.answer(model, batch);
      const under = answer.under("side");
      const [mainOut, edited] = [await answer.main.data(), await under.data()];
      for (const held of [under, answer]) held.dispose();
      return { cuts, decisions: answer.decisions, mainOut, edited };
    } finally {
      overlay.dispose();
      batch.dispose();
    }
  }

  /** Token distances of a cut in plain arithmetic. */
  function distances(cut: Cut, squashed: boolean): number[] {
    const [D, M] = delta.shape;
    const s = (x: number) => (squashed ? x / (1 + Math.exp(-x)) : x);
    return cut.tokens.map((_, t) => {
      let squares = 0;
      for (let d = 0; d < D; d++) {
        let [o, change] = [0, 0];
        for (let m = 0; m < M; m++) {
          o += (main[d * M + m] as number) * (cut.mlpIn[t * M + m] as number);
          change += (delta.values[d * M + m] as number) * (cut.mlpIn[t * M + m] as number);
        }
        squares += (s(o + change) - s(o)) ** 2;
      }
      return Math.sqrt(squares);
    });
  }

  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

  test.each([true, false])(
    "are the mean token distance, with SiLU on both outputs: %s",
    async (activationOnDistance) => {
      const { cuts, decisions } = await read([3, 17], { activationOnDistance });
      for (const [row, cut] of cuts.entries()) {
        expect(decisions[row]?.readings[0]?.delta).toBeCloseTo(mean(distances(cut, activationOnDistance)), 4);
      }
    },
  );

  test("a sequence of more than 100 tokens uses its largest distance, where that is asked for", async () => {
    const { cuts, decisions } = await read([100, 101], { longSequenceMax: true });
    const [atLimit, over] = cuts.map((cut) => distances(cut, true)) as [number[], number[]];
    expect(decisions[0]?.readings[0]?.delta).toBeCloseTo(mean(atLimit), 4);
    expect(decisions[1]?.readings[0]?.delta).toBeCloseTo(Math.max(...over), 4);
    expect(Math.max(...over)).toBeGreaterThan(1.1 * mean(over));
    const plain = await read([101], { longSequenceMax: false });
    expect(plain.decisions[0]?.readings[0]?.delta).toBeCloseTo(mean(over), 4);
  });

  test("padding counts nothing: alone and among longer ones a sequence reads the same and answers the same", async () => {
    const lengths = [2, 40, 9];
    const together = await read(lengths, { actRatio: 0 });
    const D = delta.shape[0];
    for (const [row, length] of lengths.entries()) {
      const alone = await read([length], { actRatio: 0 });
      const [ours, theirs] = [together, alone].map(({ decisions }, i) => decisions[i === 0 ? row : 0]?.readings[0]);
      expect(ours?.delta).toBeCloseTo(theirs?.delta as number, 4);
      const start = row * 40 * D;
      const own = together.edited.slice(start, start + length * D) as Float32Array;
      expect(largestDifference(own, alone.edited as Float32Array)).toBeLessThan(1e-5);
    }
  });

  test("each sequence of a batch has its own route, and its output under the memory is known whichever it is", async () => {
    const { decisions: probe } = await read([5, 30]);
    const [low, high] = probe.map(({ readings }) => readings[0]?.delta as number).sort((a, b) => a - b) as [
      number,
      number,
    ];
    const between = () => side(delta.values, low + high); // threshold at the middle, with an act_ratio of one half
    const { decisions, mainOut, edited } = await read([5, 30], {}, between);
    expect(decisions.map(({ route }) => route).sort()).toEqual(["main", "side"]);
    const D = delta.shape[0];
    for (const row of decisions.keys()) {
      const span = [row * 30 * D, (row * 30 + 5) * D] as const;
      const difference = largestDifference(
        mainOut.slice(...span) as Float32Array,
        edited.slice(...span) as Float32Array,
      );
      expect(difference).toBeGreaterThan(1e-3);
    }
  });

  test("the threshold is min_act times act_ratio", async () => {
    const { decisions } = await read([4], { actRatio: 0.25 }, () => side(delta.values, 8));
    expect(decisions[0]?.readings).toEqual([{ memory: "side", delta: expect.any(Number), minAct: 8, threshold: 2 }]);
  });

  test("a memory that is not finite is a failure, never a route", async () => {
    const broken = () => side(Float32Array.from(delta.values, (value, i) => (i === 5 ? Number.NaN : value)));
    const error = await expectTidy(() => errorOf(read([4], {}, broken)));
    expect(error).toBeInstanceOf(LabFailure);
    expect(error.message).toMatch(/side.*NaN/);
  });

  test("leaves no tensor behind", async () => {
    await expectTidy(() => read([4, 9]));
    await expectTidy(() => read([4, 9], { actRatio: 1e9 }));
  });
});

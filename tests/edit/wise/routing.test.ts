import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LabFailure } from "../../../src/core/errors.js";
import { createRng } from "../../../src/core/rng.js";
import type { Decision, Reading } from "../../../src/edit/overlay.js";
import { createWiseOverlay, decide, NO_EDITS, reachable, type WiseMemory } from "../../../src/edit/wise/routing.js";
import { batchCuts, type Cut, mainOutput, valueInput } from "../../../src/model/cut.js";
import { runFrozen } from "../../../src/model/frozen.js";
import type { LlamaModel } from "../../../src/model/model.js";
import type { Patch } from "../../../src/model/patch.js";
import { tf } from "../../../src/tensor/tf.js";
import { atValue } from "../../support/points.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { errorOf, largestDifference, loadTiny } from "../support.js";

/** A memory's reading: its activation and its threshold, where act_ratio is 1. */
type Pair = readonly [delta: number, threshold: number];

const reading = (variant: string, [delta, min_act]: Pair): Reading => ({
  variant,
  margin: delta / min_act,
  numbers: { delta, min_act },
});

describe("which memory answers", () => {
  test.each<[string, Pair, Pair[], string]>([
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
    expect(decide(readings, { act_ratio: 1, retrieve: true })).toBe(expected);
  });

  test.each<[string, Pair, number | null, string]>([
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
    expect(decide(readings, { act_ratio: 1, retrieve: false })).toBe(expected);
  });

  test("without memories, the untouched model", () => {
    expect([true, false].map((retrieve) => decide([], { act_ratio: 1, retrieve }))).toEqual(["main", "main"]);
  });
});

/** Readings of memories: the side memory, then saved ones or, for Merge, the merged one. */
function readingsOf(pairs: readonly Pair[], retrieve: boolean): Reading[] {
  const [, sideMinAct] = pairs[0] as Pair;
  return pairs.map(([delta, min_act], i) => {
    if (i === 0) return reading("side", [delta, min_act]);
    return retrieve ? reading(`memory-${i - 1}`, [delta, min_act]) : reading("merged", [delta, sideMinAct]);
  });
}

/** Values of act_ratio at which a memory's threshold is just reached and just missed, those between, and the ends. */
function ratiosAround(readings: readonly Reading[]): number[] {
  const turns = readings
    .map(({ numbers }) => (numbers.delta as number) / (numbers.min_act as number))
    .filter(Number.isFinite)
    .sort((a, b) => a - b);
  const between = turns.slice(1).map((turn, i) => (turn + (turns[i] as number)) / 2);
  const near = turns.flatMap((turn) => [turn * (1 - 1e-6), turn, turn * (1 + 1e-6)]);
  return [0, 1e-9, ...near, ...between, 2 * (turns.at(-1) ?? 1)];
}

describe.each([
  ["retrieve", true, 5],
  ["merge", false, 2],
] as const)("memories within reach: %s", (_, retrieve, most) => {
  // From few values, so that ties and empty memories are among them.
  const any = fc.oneof(fc.constantFrom(0, 1, 2), fc.double({ min: 1e-3, max: 50, noNaN: true }));
  const anyMinAct = fc.oneof(fc.constantFrom(0, 1, 2, 1e9), fc.double({ min: 1e-3, max: 50, noNaN: true }));
  const anyReadings = fc
    .array(fc.tuple(any, anyMinAct), { minLength: 1, maxLength: most })
    .map((pairs) => readingsOf(pairs, retrieve));

  test("no other one answers, at any act_ratio", () => {
    fc.assert(
      fc.property(anyReadings, fc.double({ min: 0, max: 60, noNaN: true }), (readings, ratio) => {
        const within = ["main", ...reachable(readings, { retrieve })];
        for (const act_ratio of [...ratiosAround(readings), ratio]) {
          expect(within).toContain(decide(readings, { act_ratio, retrieve }));
        }
      }),
      { numRuns: 1000 },
    );
  });

  // Activations, and the act_ratios where thresholds are reached, that rounding cannot confuse.
  const apart = fc.uniqueArray(fc.integer({ min: 0, max: 300 }), { minLength: most, maxLength: most });
  const readingsApart = fc.tuple(apart, apart, fc.integer({ min: 1, max: most })).map(([deltas, turns, count]) => {
    const pairs = deltas.slice(0, count).map((power, i): Pair => {
      const delta = 1.01 ** power;
      return [delta, delta / (0.05 * 1.01 ** (turns[i] as number))];
    });
    return readingsOf(pairs, retrieve);
  });

  test("each of them answers, at some act_ratio", () => {
    fc.assert(
      fc.property(readingsApart, (readings) => {
        const answering = ratiosAround(readings).map((act_ratio) => decide(readings, { act_ratio, retrieve }));
        const named = new Set(answering.filter((variant) => variant !== "main"));
        expect([...named].sort()).toEqual([...reachable(readings, { retrieve })].sort());
      }),
      { numRuns: 1000 },
    );
  });

  test("one that is as strong as another, up to rounding, is not left out", () => {
    const pairs: Pair[] = [
      [6, 5],
      [6 * (1 - 1e-6), 5],
    ];
    expect(reachable(readingsOf(pairs, retrieve), { retrieve }).size).toBe(2);
  });
});

describe("activations", () => {
  const layer = 2;
  const rule = { layer, distance_act: true, act_ratio: 0.5, retrieve: true, long_sequence_max: false };
  const sequence = (length: number) => Array.from({ length }, (_, i) => (i * 37 + length) % 1000);
  let model: LlamaModel;
  let main: Float32Array; // W, [D, M]
  const delta = { values: new Float32Array(), shape: [0, 0] as [number, number] };

  beforeAll(async () => {
    model = await loadTiny();
    const { hiddenSize: D, intermediateSize: M } = model.config;
    main = await model.matrix({ layer, matrix: "down" }).data<"float32">();
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

  /** Decisions on some sequences under memories, and what the value matrix gives by itself and under the side memory. */
  async function read(
    lengths: readonly number[],
    given: Partial<typeof rule> = {},
    memories: () => WiseMemory[] = () => [side()],
  ) {
    const cuts = await runFrozen(model, lengths.map(sequence), { point: atValue(layer) });
    const batch = batchCuts(model, cuts);
    const overlay = createWiseOverlay(model, memories(), { ...rule, ...given });
    try {
      const { decisions, patch, reachable: within, dispose } = await overlay.route(batch);
      const main = mainOutput(model, batch);
      const mainOut = await main.data<"float32">();
      const [{ site, change }] = patch("side") as [Patch[number]];
      expect([site, patch("side").length]).toEqual([{ layer, matrix: "down" }, 1]);
      const edited = await change(
        valueInput(batch),
        () => main,
        (perRow) => perRow,
      ).data<"float32">();
      main.dispose();
      dispose();
      return { cuts, decisions, mainOut, edited, within, patch };
    } finally {
      overlay.dispose();
      batch.dispose();
    }
  }

  /** Token distances of a cut in plain arithmetic. */
  function distances(cut: Cut, squashed: boolean): number[] {
    const [D, M] = delta.shape;
    const mlpIn = cut.mlpIn as Float32Array;
    const s = (x: number) => (squashed ? x / (1 + Math.exp(-x)) : x);
    return cut.tokens.map((_, t) => {
      let squares = 0;
      for (let d = 0; d < D; d++) {
        let [o, change] = [0, 0];
        for (let m = 0; m < M; m++) {
          o += (main[d * M + m] as number) * (mlpIn[t * M + m] as number);
          change += (delta.values[d * M + m] as number) * (mlpIn[t * M + m] as number);
        }
        squares += (s(o + change) - s(o)) ** 2;
      }
      return Math.sqrt(squares);
    });
  }

  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

  test.each([true, false])("are the mean token distance, with SiLU on both outputs: %s", async (distance_act) => {
    const { cuts, decisions } = await read([3, 17], { distance_act });
    for (const [row, cut] of cuts.entries()) {
      expect(deltaOf(decisions[row])).toBeCloseTo(mean(distances(cut, distance_act)), 4);
    }
  });

  test("a sequence of more than 100 tokens uses its largest distance, where that is asked for", async () => {
    const { cuts, decisions } = await read([100, 101], { long_sequence_max: true });
    const [atLimit, over] = cuts.map((cut) => distances(cut, true)) as [number[], number[]];
    expect(deltaOf(decisions[0])).toBeCloseTo(mean(atLimit), 4);
    expect(deltaOf(decisions[1])).toBeCloseTo(Math.max(...over), 4);
    expect(Math.max(...over)).toBeGreaterThan(1.1 * mean(over));
    const plain = await read([101], { long_sequence_max: false });
    expect(deltaOf(plain.decisions[0])).toBeCloseTo(mean(over), 4);
  });

  test("padding counts nothing: alone and among longer ones a sequence reads the same and answers the same", async () => {
    const lengths = [2, 40, 9];
    const together = await read(lengths, { act_ratio: 0 });
    const D = delta.shape[0];
    for (const [row, length] of lengths.entries()) {
      const alone = await read([length], { act_ratio: 0 });
      expect(deltaOf(together.decisions[row])).toBeCloseTo(deltaOf(alone.decisions[0]), 4);
      const start = row * 40 * D;
      const own = together.edited.slice(start, start + length * D) as Float32Array;
      expect(largestDifference(own, alone.edited as Float32Array)).toBeLessThan(1e-5);
    }
  });

  test("each sequence of a batch has its own variant, and its output under the memory is known whichever it is", async () => {
    const { decisions: probe } = await read([5, 30]);
    const [low, high] = probe.map(deltaOf).sort((a, b) => a - b) as [number, number];
    const between = () => [side(delta.values, low + high)]; // threshold at the middle, with an act_ratio of one half
    const { decisions, mainOut, edited } = await read([5, 30], {}, between);
    expect(decisions.map(({ variant }) => variant).sort()).toEqual(["main", "side"]);
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
    const { decisions } = await read([4], { act_ratio: 0.25 }, () => [side(delta.values, 8)]);
    const activation = deltaOf(decisions[0]);
    expect(decisions[0]?.readings).toEqual([
      { variant: "side", margin: activation / 2, numbers: { delta: activation, min_act: 8 } },
    ]);
  });

  test("a memory without edits reads 0, and changes nothing", async () => {
    const empty = (name: WiseMemory["name"]): WiseMemory => ({ name, delta: null, minAct: NO_EDITS });
    const { decisions, within, patch } = await read([4, 9], {}, () => [side(), empty("memory-0")]);
    for (const [row, { readings }] of decisions.entries()) {
      expect(readings[1]).toEqual({ variant: "memory-0", margin: 0, numbers: { delta: 0, min_act: NO_EDITS } });
      expect([within("side", row), within("memory-0", row)]).toEqual([true, false]);
    }
    expect(patch("memory-0")).toEqual([]);
  });

  test("what could not answer at any act_ratio is out of reach, for every sequence", async () => {
    // A saved memory of half the side memory's changes: always weaker than it, so that it never takes over.
    const half = (): WiseMemory => ({
      ...side(
        delta.values.map((value) => value / 2),
        0.5,
      ),
      name: "memory-0",
    });
    const weaker = await read([4, 9], {}, () => [side(), half()]);
    // The other way round the stronger one needs a smaller act_ratio than the side memory.
    const stronger = await read([4, 9], {}, () => [
      { ...half(), name: "side" },
      { ...side(delta.values, 1e6), name: "memory-0" },
    ]);
    for (const row of [0, 1]) {
      expect(["side", "memory-0"].filter((variant) => weaker.within(variant, row))).toEqual(["side"]);
      expect(["side", "memory-0"].filter((variant) => stronger.within(variant, row))).toEqual(["side", "memory-0"]);
      expect(weaker.within("main", row)).toBe(false);
    }
  });

  test("a memory that is not finite is a failure, never a variant", async () => {
    const broken = () => [side(Float32Array.from(delta.values, (value, i) => (i === 5 ? Number.NaN : value)))];
    const error = await expectTidy(() => errorOf(read([4], {}, broken)));
    expect(error).toBeInstanceOf(LabFailure);
    expect(error.message).toMatch(/side.*NaN/);
  });

  test("leaves no tensor behind", async () => {
    await expectTidy(() => read([4, 9]));
    await expectTidy(() => read([4, 9], { act_ratio: 1e9 }));
  });
});

/** The activation of the first memory that was read. */
function deltaOf(decision: Decision | undefined): number {
  return decision?.readings[0]?.numbers.delta as number;
}

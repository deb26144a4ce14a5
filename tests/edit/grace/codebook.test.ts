import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Entry, loadedCodebook, nearestTo, storedCodebook, takeIn } from "../../../src/edit/grace/codebook.js";
import type { GraceOptions } from "../../../src/edit/grace/options.js";
import type { EditState } from "../../../src/edit/state.js";
import type { LlamaConfig } from "../../../src/model/config.js";
import { refusal } from "../../model/support.js";
import { entryOf } from "./support.js";

const MENDED: GraceOptions = {
  layer: 0,
  edit_lr: 1,
  n_iter: 1,
  eps: 1,
  val_init: "cold",
  replacement: "replace_last",
  eps_expand: "coverage",
  label_match: "target",
  label_order: "own",
  key_at: "prompt_end",
  resolution: 1e-5,
  eps_ratio: 1,
};

/** Takes keys on a line in, one after another, with a radius of 1 each: [place, token of the target]. */
function grown(edits: readonly (readonly [number, number])[], options: Partial<GraceOptions> = {}) {
  let entries: Entry[] = [];
  const events = edits.map(([place, token]) => {
    const taken = takeIn(entries, entryOf([place, 0], 1, token), { ...MENDED, ...options });
    entries = taken.entries;
    return [taken.event, taken.now.index, taken.now.distance];
  });
  return { events, places: entries.map(({ key }) => key[0]), radii: entries.map(({ radius }) => radius) };
}

describe("the nearest entry", () => {
  const at = (...places: number[]) => places.map((place) => entryOf([place, 0], 1, 0));
  const from = (place: number, entries: Entry[], resolution = 1e-5) =>
    nearestTo(Float32Array.of(place, 0), entries, { resolution });

  test("is the one at the smallest distance, in float64", () => {
    expect(from(4, at(1, 6, 3.5))).toEqual({ index: 2, distance: 0.5, slack: 1e-5 * 3.5 });
    const farther = entryOf([1, 2 ** -13], 1, 0); // whose square in float32 would be 1 as well
    expect(from(0, [farther, ...at(1)], 0)?.index).toBe(1);
    expect(from(0, [])).toBeNull();
  });

  test("within the resolution it is at a distance of 0, and of equal ones the newest counts", () => {
    expect(from(100.0005, at(100, 100, 7))).toEqual({ index: 1, distance: 0, slack: 1e-3 });
    expect(from(100.002, at(100))?.distance).toBeCloseTo(0.002, 5);
    expect(from(5, at(4, 6))?.index).toBe(1);
  });

  test("as released, without a resolution, every distance counts, and of equal ones the oldest", () => {
    expect(from(100.0005, at(100, 100), 0)).toMatchObject({ index: 0, slack: 0 });
    expect(from(100.0005, at(100), 0)?.distance).toBeGreaterThan(0);
    expect(from(5, at(4, 6), 0)?.index).toBe(0);
  });
});

describe("an edit", () => {
  test("beyond its radius and the nearest one's adds a key", () => {
    expect(
      grown([
        [10, 1],
        [12.5, 1],
      ]),
    ).toEqual({
      events: [
        ["new", 0, 0],
        ["new", 1, 0],
      ],
      places: [10, 12.5],
      radii: [1, 1],
    });
    expect(
      grown([
        [10, 1],
        [12, 1],
      ]).events[1],
    ).toEqual(["expand", 0, 2]); // at both radii together it is near
  });

  test("with another target splits the distance", () => {
    const { events, radii, places } = grown([
      [10, 1],
      [11.5, 2],
    ]);
    expect(events[1]).toEqual(["split", 1, 0]);
    expect(places).toEqual([10, 11.5]);
    expect(radii).toEqual([0.75 - 1e-5, 0.75]);
  });

  test("with the same target expands the radius up to itself, or changes nothing", () => {
    expect(
      grown([
        [10, 1],
        [11.5, 1],
        [11.25, 1],
      ]),
    ).toEqual({
      events: [
        ["new", 0, 0],
        ["expand", 0, 1.5],
        ["none", 0, 1.25],
      ],
      places: [10],
      radii: [1.5],
    });
  });

  test("with the same target moves the key halfway, where keys move", () => {
    const { events, places, radii } = grown(
      [
        [10, 1],
        [11.5, 1],
      ],
      { eps_expand: "moving_average" },
    );
    expect([events[1], places, radii]).toEqual([["expand", 0, 0.75], [10.75], [1.5]]);
  });

  test("of the same prompt with another target trains the new key; as released, the old one, which does not answer", () => {
    const twice = [
      [10, 1],
      [10, 2],
    ] as const;
    expect(grown(twice)).toMatchObject({
      events: [
        ["new", 0, 0],
        ["split", 1, 0],
      ],
      radii: [-1e-5, 0],
    });
    expect(grown(twice, { resolution: 0 })).toMatchObject({
      events: [
        ["new", 0, 0],
        ["split", 0, 0],
      ],
      radii: [-1e-5, 0],
    });
  });

  test("leaves the codebook that it was given as it was", () => {
    const entries = [entryOf([10, 0], 1, 1)];
    const before = structuredClone(entries);
    for (const token of [1, 2]) {
      takeIn(entries, entryOf([11.5, 0], 1, token), { ...MENDED, eps_expand: "moving_average" });
    }
    expect(entries).toEqual(before);
  });

  test("meets, as released, the label of the key that was added as long before the last as its own after the first", () => {
    // Keys 10, 20, 30 with targets 1, 2, 3: beside the first one stands the label of the last.
    const three = [
      [10, 1],
      [20, 2],
      [30, 3],
    ] as const;
    const last = (token: number) => grown([...three, [10.5, token]], { label_order: "reversed" }).events[3]?.[0];
    expect([last(1), last(3)]).toEqual(["split", "none"]);
    expect(grown([...three, [10.5, 1]]).events[3]?.[0]).toBe("none");
  });

  test("compares, as released, the means of label rows with a -100 for each token of the prompt", () => {
    const label = (tokens: number[], promptTokens: number) => ({ tokens, promptTokens });
    const event = (a: Entry["label"], b: Entry["label"]) => {
      const [first, second] = [a, b].map((own) => ({ ...entryOf([10, 0], 1, 0), label: own })) as [Entry, Entry];
      return takeIn([first], second, { ...MENDED, label_match: "mean" }).event;
    };
    expect(event(label([7, 9], 3), label([9, 7], 3))).toBe("none");
    expect(event(label([7, 9], 3), label([7, 9], 4))).toBe("split");
    expect(event(label([7, 9], 3), label([7, 10], 3))).toBe("split");
  });

  test("is answered by the entry that it trained, whatever came before it", () => {
    const edit = fc.tuple(fc.constantFrom(10, 10, 10.4, 11, 11.5, 12.2, 13, 20), fc.constantFrom(1, 2, 3));
    const expand = fc.constantFrom<GraceOptions["eps_expand"]>("coverage", "moving_average");
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 12 }), expand, (edits, eps_expand) => {
        let entries: Entry[] = [];
        for (const [place, token] of edits) {
          const fresh = entryOf([place, 0], 1, token);
          const taken = takeIn(entries, fresh, { ...MENDED, eps_expand });
          entries = taken.entries;
          const { index, distance, slack } = taken.now;
          const { radius, label } = entries[index] as Entry;
          expect(distance).toBeLessThanOrEqual(radius + slack);
          expect(label.tokens).toEqual([token]);
        }
      }),
    );
  });
});

describe("a state", () => {
  const config = { hiddenSize: 2, intermediateSize: 2 } as LlamaConfig;
  const entries = [entryOf([1, 2], 1.23456789012345, 5), entryOf([3, 4], -1e-5, 6)];
  const codebook = { edits: 3, entries, lastPrompt: 7 };
  const saved = storedCodebook(codebook);

  test("holds the whole codebook, and brings it back", () => {
    expect(saved.tensors.keys).toEqual({ shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) });
    expect(loadedCodebook(JSON.parse(JSON.stringify(saved.json)) && saved, config)).toEqual(codebook);
    const through: EditState = { ...saved, json: JSON.parse(JSON.stringify(saved.json)) };
    expect(loadedCodebook(through, config)).toEqual(codebook);
    const empty = { edits: 0, entries: [], lastPrompt: 1 };
    expect(loadedCodebook(storedCodebook(empty), config)).toEqual(empty);
  });

  const json = saved.json as object;
  test.each<[string, Partial<EditState>, object]>([
    ["of another method", { json: { minAct: 1 } }, { where: "saved edits", expected: "what GRACE keeps of its edits" }],
    ["with a radius too many", { json: { ...json, radii: [1, 2, 3] } }, { found: "3 radii, 2 labels" }],
    ["without its values", { tensors: { keys: saved.tensors.keys } as never }, { where: "tensor values" }],
    [
      "of another model",
      { tensors: { ...saved.tensors, keys: { shape: [2, 3], data: new Float32Array(6) } } },
      { where: "tensor keys", found: "[2, 3]", expected: "[2, 2]" },
    ],
  ])("%s is refused", async (_, change, expected) => {
    expect(await refusal(() => loadedCodebook({ ...saved, ...change }, config))).toMatchObject(expected);
  });
});

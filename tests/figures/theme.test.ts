import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { metricNamed } from "../../src/eval/seeing.js";
import { subtitleOf } from "../../src/figures/subtitle.js";
import { baseLayout, createTheme, spread, wholeTicks } from "../../src/figures/theme.js";
import { sampleRun } from "../tables/sample.js";

describe("spread", () => {
  const positions = fc.array(fc.double({ min: -100, max: 100, noNaN: true }), { minLength: 1, maxLength: 8 });

  it("sets neighbours at least a gap apart and keeps their order", () => {
    fc.assert(
      fc.property(positions, fc.double({ min: 0.1, max: 20, noNaN: true }), (before, gap) => {
        const after = spread(before, gap);
        const order = before.map((_, i) => i).sort((a, b) => (before[a] as number) - (before[b] as number));
        const sorted = order.map((i) => after[i] as number);
        for (let i = 1; i < sorted.length; i++) {
          expect((sorted[i] as number) - (sorted[i - 1] as number)).toBeGreaterThanOrEqual(gap - 1e-9);
        }
      }),
    );
  });

  it("leaves alone what is far enough apart, and moves a close pair to both sides alike", () => {
    expect(spread([30, 0, 15], 10)).toEqual([30, 0, 15]);
    expect(spread([10, 10], 4)).toEqual([8, 12]);
    expect(spread([0, 1, 50], 10)).toEqual([-4.5, 5.5, 50]);
  });
});

describe("wholeTicks", () => {
  it.each([
    [0.6, 1],
    [1, 1],
    [8, 1],
    [30, 5],
    [70, 10],
    [1037, 200],
  ])("over a span of %d are %d apart", (span, step) => {
    expect(wholeTicks(span)).toBe(step);
  });
});

describe("a subtitle", () => {
  const parts = ["100 records", "T = 1, 10, 100", "a model with a name", "scored after-all", "a metric of its own"];
  const titleOf = (options: object) => baseLayout({ heightInches: 2, ...options }).title as { text: string };

  it("is in lines that break between its parts, under the title where there is one", () => {
    expect(titleOf({ subtitle: parts }).text).toBe(
      "100 records · T = 1, 10, 100 · a model with a name · scored after-all<br>a metric of its own",
    );
    const { text } = titleOf({ subtitle: parts.slice(0, 1), title: "Quality" });
    expect(text).toMatch(/^Quality<br><span style="[^"]*">100 records<\/span>$/);
    expect(baseLayout({ heightInches: 2, subtitle: [] }).title).toBeUndefined();
  });

  it("has room of its own: what is under it is as large as without it", () => {
    const inner = (options: object) => {
      const { height = 0, margin } = baseLayout({ heightInches: 2, ...options });
      return height - (margin?.t ?? 0) - (margin?.b ?? 0);
    };
    const without = inner({});
    for (const options of [{ subtitle: parts }, { subtitle: parts, title: "Quality" }]) {
      expect(inner(options)).toBeCloseTo(without, 1);
    }
  });

  it("says method, records, T, model and time of scoring of all runs, and the metric where it is not the usual one", () => {
    const runs = [sampleRun({ T: 1 }), sampleRun({ T: 10, model: "another" })];
    expect(subtitleOf(runs)).toEqual(["WISE", "60 records", "T = 1, 10", "invented or another", "scored after-all"]);
    const more = ["rome", "mend"].map((method) => sampleRun({ T: 1, method }));
    expect(subtitleOf([...more, ...runs])[0]).toBe("60 records");
    expect(subtitleOf(more)[0]).toBe("ROME and MEND");
    const one = sampleRun({ T: "all", records: 1, when: "after-each" });
    expect(subtitleOf([{ ...one, metric: metricNamed("free-em") }])).toEqual([
      "WISE",
      "1 record",
      "T = all",
      "invented",
      "scored after-each",
      "exact match of the free answer",
    ]);
  });
});

describe("the theme", () => {
  it("is one column wide in print, with text of 7 to 8 points", () => {
    expect(baseLayout({ heightInches: 2 })).toMatchObject({ width: 3.25 * 96, height: 192 });
    const { text, smallText } = createTheme("print");
    expect(((text.size ?? 0) * 72) / 96).toBeCloseTo(8, 1);
    expect(((smallText.size ?? 0) * 72) / 96).toBeCloseTo(7, 1);
  });

  it("keeps its proportions on screen", () => {
    const [print, screen] = (["print", "screen"] as const).map((medium) => baseLayout({ heightInches: 2, medium }));
    const ratio = (screen?.width ?? 0) / (print?.width ?? 1);
    expect((screen?.height ?? 0) / (print?.height ?? 1)).toBeCloseTo(ratio, 3);
    expect((screen?.margin?.l ?? 0) / (print?.margin?.l ?? 1)).toBeCloseTo(ratio, 3);
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { baseLayout, createTheme, spread, wholeTicks } from "../../src/report/theme.js";

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

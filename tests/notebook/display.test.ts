import { afterEach, describe, expect, it, vi } from "vitest";
import type { RenderedFigure } from "../../src/figures/export.js";
import { resultBundle, tableBundle } from "../../src/notebook/bundles.js";
import { display, displayFigure, displayTable, interruptSignal } from "../../src/notebook/display.js";
import { type KernelHost, setKernelHost } from "../../src/notebook/host.js";
import { formatDuration, progress } from "../../src/notebook/progress.js";

afterEach(() => vi.restoreAllMocks());

describe("a table", () => {
  const frame = {
    columns: ["T", "Avg"],
    index: [0, 1],
    values: [
      [1, 0.25],
      ["all", null],
    ],
  };

  it("is static HTML and aligned text, from rows or a frame", () => {
    const bundle = tableBundle(frame, { caption: "Rollback & co" });
    expect(bundle["text/plain"]).toBe("Rollback & co\nT      Avg\n---  -----\n1    0.250\nall      -");
    expect(bundle["text/html"]).toContain("<caption>Rollback &amp; co</caption>");
    expect(bundle["text/html"]).toMatch(/<td align="left"[^>]*>all<\/td><td align="right"[^>]*>-<\/td><\/tr>/);
    expect(tableBundle([{ T: 1, Avg: 0.25 }, { T: "all" }])).toEqual(tableBundle(frame));
  });

  it("shows chosen columns and says how many rows it leaves out", () => {
    const rows = Array.from({ length: 60 }, (_, i) => ({ i, square: i * i }));
    const text = tableBundle(rows, { columns: ["square"], maxRows: 2 })["text/plain"];
    expect(text).toBe("square\n------\n     0\n     1\n2 of 60 rows");
  });

  it("has one number format per column, text to the left, and numbers and intervals to the right on one line", () => {
    const rows = [
      { who: "Anna", score: 1, mean: "0.5 [0.4, 0.6]", n: 3 },
      { who: "Bo", score: 0.5, mean: "0.75 [0.7, 0.8]", n: 12 },
    ];
    const { "text/html": html = "", "text/plain": text = "" } = tableBundle(rows);
    expect(String(text).split("\n").slice(2)).toEqual([
      "Anna  1.000   0.5 [0.4, 0.6]   3",
      "Bo    0.500  0.75 [0.7, 0.8]  12",
    ]);
    const [first = ""] = String(html).match(/<tr><td.*<\/tr>/) ?? [];
    const placed = [...first.matchAll(/<td align="(\w+)" style="([^"]*)">/g)];
    expect(placed.map(([, side]) => side)).toEqual(["left", "right", "right", "right"]);
    expect(placed.map(([, , style]) => style?.includes("nowrap"))).toEqual([false, true, true, true]);
  });

  it("keeps script out", () => {
    expect(tableBundle([{ "<b>": '<img onerror="x">' }])["text/html"]).not.toMatch(/<b>|<img/);
  });
});

describe("a result", () => {
  it("is a table for a frame, and text else", () => {
    expect(resultBundle({ columns: ["a"], index: [0], values: [1] })).toHaveProperty("text/html");
    expect(resultBundle(new Map([[1, 2]]))).toEqual({ "text/plain": "Map(1) { 1 => 2 }" });
  });
});

describe("outside a notebook", () => {
  it("displays print text and the signal is never aborted", async () => {
    const log = vi.spyOn(console, "log").mockImplementation(() => undefined);
    display({ "text/html": "<b>x</b>" });
    displayTable([{ a: 1 }]);
    await displayFigure({ data: [], layout: { title: { text: "<b>Loss</b> curve" } }, config: {} });
    const bar = progress("edits", 2);
    bar.update(2);
    bar.finish("done");
    expect(log.mock.calls.map(([line]) => line)).toEqual([
      "[text/html]",
      "a\n-\n1",
      "Figure: Loss curve",
      `edits  ${"█".repeat(24)} 2/2 · done`,
    ]);
    expect(interruptSignal().aborted).toBe(false);
  });
});

describe("a figure in a notebook", () => {
  const figure = { data: [], layout: { width: 561.6, height: 302.4, title: { text: "Loss<br>one edit" } }, config: {} };

  /** What a cell shows of the figure where drawing gives these pictures. */
  async function shown(pictures: RenderedFigure) {
    const host = {
      display: vi.fn<KernelHost["display"]>(),
      signal: () => new AbortController().signal,
      renderer: Promise.resolve({
        engine: "invented",
        steppedDown: pictures.steppedDown,
        render: async () => pictures,
        close: async () => {},
      }),
    };
    setKernelHost(host);
    try {
      await displayFigure(figure);
    } finally {
      setKernelHost(null);
    }
    const [[bundle, options] = []] = host.display.mock.calls;
    return { bundle, options };
  }

  it("tells how wide its picture is on a page, which has more pixels than that", async () => {
    const { bundle, options } = await shown({ png: Buffer.from("a picture"), steppedDown: null });
    expect(options).toEqual({ metadata: { "image/png": { width: 562, height: 302 } } });
    expect(bundle?.["text/plain"]).toBe("Figure: Loss; one edit");
  });

  it("has no size where there is no picture", async () => {
    const { bundle, options } = await shown({ steppedDown: "nothing here can draw" });
    expect(options).toEqual({ metadata: {} });
    expect(bundle).not.toHaveProperty("image/png");
  });
});

describe("durations", () => {
  it.each([
    [850, "850 ms"],
    [12_300, "12 s"],
    [200_000, "3 min 20 s"],
    [7_500_000, "2 h 05 min"],
  ])("%d ms is %s", (milliseconds, text) => {
    expect(formatDuration(milliseconds)).toBe(text);
  });
});

import { afterEach, describe, expect, it, vi } from "vitest";
import { displayCase, displayCases } from "../../src/notebook/cases.js";
import { setKernelHost } from "../../src/notebook/host.js";
import type { MimeBundle } from "../../src/notebook/wire.js";
import { probe, reading, record, runOf } from "../report/sample.js";

const shown: MimeBundle[] = [];
setKernelHost({ display: (bundle) => shown.push(bundle), signal: () => new AbortController().signal });
afterEach(() => {
  shown.length = 0;
  vi.restoreAllMocks();
});

const run = runOf([
  record(0),
  record(1, { rewrite: { ...probe("main", [reading("side", [1, 2], 0.5)]), prompt: 'Who is <b class="good">?' } }),
]);

describe("displayCase", () => {
  it("shows a record without scripts, style sheets or classes, its texts as text", () => {
    displayCase(run, 1);
    const html = String(shown[0]?.["text/html"]);
    expect(html).toContain("Who is &lt;b class=&quot;good&quot;&gt;?");
    expect(html).not.toMatch(/<script|<style| class="| id="/);
    for (const part of ["not routed", "✗ ␣no", "margin was 0.5: 1 is needed", "answered</span>", "<polyline"]) {
      expect(html).toContain(part);
    }
    expect(shown[0]?.["text/plain"]).toContain("Rewrite: wrong, 0 (not routed)");
  });
});

describe("displayCases", () => {
  it("shows the records that pass a filter as rows", () => {
    displayCases(run, { cause: "not routed" });
    const text = String(shown[0]?.["text/plain"]);
    expect(text).toMatch(/^1 of 2 records\n/);
    expect(text.split("\n").at(-1)).toMatch(/^ +1 .*not routed$/);
  });

  it("says so when there is none", () => {
    displayCases(run, { block: 9 });
    expect(shown[0]?.["text/plain"]).toContain("0 of 2 records");
  });
});

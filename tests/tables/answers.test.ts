import { describe, expect, it } from "vitest";
import { answerRows, probeRows } from "../../src/tables/answers.js";
import { editedProbe, probe, reading } from "../report/sample.js";

const answer = { question: "Which?", text: "one two", tokens: [1, 2] };

describe("answerRows", () => {
  it("shows the variant that answered, or the one that came closest, by its margin and numbers", () => {
    const readings = [reading("a", [1, 2], 0.5), reading("b", [8, 9], 0.812345)];
    const rows = answerRows([
      { ...answer, route: "a", readings },
      { ...answer, route: "main", readings },
      { ...answer, route: "main", readings: [] },
    ]);
    const asked = { question: "Which?", answer: "one two" };
    expect(rows).toEqual([
      { ...asked, route: "a", margin: 0.5, delta: 5, min_act: 20 },
      { ...asked, route: "main", margin: 0.8123, delta: 8.123, min_act: 20 },
      { ...asked, route: "main", margin: null, delta: null, min_act: null },
    ]);
  });

  it("has no columns of a router where nothing was read", () => {
    expect(answerRows([{ ...answer, route: "edited", readings: [] }])).toEqual([
      { question: "Which?", answer: "one two", route: "edited" },
    ]);
  });
});

describe("probeRows", () => {
  const tokenizer = { decode: (ids: readonly number[]) => ids.join(" ") };

  it("shows scored probes in the same columns, the predicted tokens as text", () => {
    const shared = { prompt: "Which?", expected: "one two", "predicted before": "8 9" };
    expect(probeRows([probe("a", [reading("a", [1, 9])])], tokenizer)).toEqual([
      { ...shared, "predicted now": "1 9", score: 0.5, route: "a", margin: 2, delta: 20, min_act: 20 },
    ]);
    expect(probeRows([editedProbe([1, 2])], tokenizer)).toEqual([
      { ...shared, "predicted now": "1 2", score: 1, route: "edited" },
    ]);
  });
});

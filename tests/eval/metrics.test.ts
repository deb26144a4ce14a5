import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { bare, wordEntropy } from "../../src/eval/compare.js";
import { judgeOf } from "../../src/eval/judge.js";
import { type Asked, metrics } from "../../src/eval/metrics.js";
import { metricNamed, seeingFor } from "../../src/eval/seeing.js";
import type { Seen, Written } from "../../src/eval/types.js";
import { refusal, temporaryFolder } from "../model/support.js";

const written = (tokens: number[], end: number, text = ""): Written => ({ tokens, end, text });
const asked = (change: Partial<Asked> = {}): Asked => ({
  answer: "St Louis",
  target: [7, 8, 9],
  before: null,
  ...change,
});
const value = (name: string, seen: Seen, at: Partial<Asked> = {}) => metricNamed(name).of(seen, asked(at));

describe("metrics of what was predicted", () => {
  test("teacher forcing: shares, all or nothing", () => {
    expect(value("teacher-forced", { predicted: [7, 1, 9] })).toBe(2 / 3);
    expect(value("exact-match", { predicted: [7, 1, 9] })).toBe(0);
    expect(value("exact-match", { predicted: [7, 8, 9] })).toBe(1);
  });

  test("of locality it is what was predicted before that counts", () => {
    const before = { predicted: [1, 2, 9] };
    expect(value("teacher-forced", { predicted: [1, 8, 9] }, { before })).toBe(2 / 3);
    expect(value("exact-match", { predicted: [1, 2, 9] }, { before })).toBe(1);
  });
});

describe("metrics of probabilities", () => {
  const logp = [Math.log(0.9), Math.log(0.5), Math.log(0.81)];

  test("are those computed by hand", () => {
    expect(value("log-prob", { logp })).toBeCloseTo((Math.log(0.9) + Math.log(0.5) + Math.log(0.81)) / 3, 12);
    expect(value("perplexity", { logp })).toBeCloseTo((0.9 * 0.5 * 0.81) ** (-1 / 3), 12);
    expect(value("sure-tokens", { logp })).toBe(2 / 3);
    expect(value("sure-tokens", { logp: [Math.log(0.8)] })).toBe(0); // above, not at
  });

  test("a perplexity can be clipped", () => {
    const unlikely = { logp: [-7, -9] };
    expect(value("perplexity", unlikely)).toBeCloseTo(Math.exp(8), 9);
    expect(value("perplexity-clip-100", unlikely)).toBe(100);
    expect(value("perplexity-clip-100", { logp: [-1] })).toBeCloseTo(Math.E, 12);
  });
});

describe("metrics of free answers", () => {
  test("of the right length: tokens, and all of them", () => {
    expect(value("autoregressive", { written: written([7, 8, 1, 4, 5], 5) })).toBe(2 / 3);
    expect(value("em-gold-length", { written: written([7, 8, 1], 3) })).toBe(0);
    expect(value("em-gold-length", { written: written([7, 8, 9, 4], 4) })).toBe(1); // it runs on
    expect(value("em-gold-length", { written: written([7, 8], 2) })).toBe(0); // too short
  });

  test("of the natural length: texts but for case, punctuation and articles", () => {
    expect(value("free-em", { written: written([7, 8, 9, 4], 4, "the st. LOUIS!") })).toBe(1);
    expect(value("free-em", { written: written([7, 8, 9, 4], 4, "St Louis and on") })).toBe(0);
  });

  test("of locality: the whole list of tokens, up to where it ended", () => {
    const before = { written: written([1, 2, 3, 4], 2) };
    expect(value("free-em", { written: written([1, 2, 9, 9], 2) }, { before })).toBe(1);
    expect(value("free-em", { written: written([1, 2, 3, 4], 3) }, { before })).toBe(0);
    expect(value("autoregressive", { written: written([1, 2, 9, 4], 2) }, { before })).toBe(2 / 3);
  });

  test("fluency is the entropy of word pairs and triples", () => {
    // a b a b: pairs ab ba ab -> H2 = 0.9183; triples aba bab -> H3 = 1
    const H2 = -(2 / 3) * Math.log2(2 / 3) - (1 / 3) * Math.log2(1 / 3);
    expect(wordEntropy("a b  a\nb")).toBeCloseTo(((2 / 3) * H2 + 4 / 3) / 2, 12);
    expect(wordEntropy("")).toBe(0);
    expect(value("fluency", { written: { ...written([1], 1), whole: "a a a a" } })).toBe(0);
    expect(value("fluency", { written: written([1], 1) })).toBeNull();
  });
});

test("texts are compared as SQuAD does", () => {
  expect(bare("  The  U.S.A.,\tan  Answer ")).toBe("usa answer");
  expect(bare("Theatre of another")).toBe("theatre of another"); // no articles inside words
  expect(bare("Åland’s")).toBe("åland’s"); // ASCII punctuation alone
});

test("every metric says what it is, and is null where its part was not seen", () => {
  for (const { name, title, meaning, range, of, needs } of metrics.values()) {
    expect(title.length, name).toBeGreaterThan(5);
    expect(meaning.length, name).toBeGreaterThan(10);
    expect(range[0] === null || range[1] === null || range[0] < range[1], name).toBe(true);
    expect(of(needs.length === 0 ? {} : { predicted: [7, 8, 9] }, asked()), name).toBeNull();
  }
});

describe("what is seen for metrics", () => {
  test("teacher forcing alone needs nothing more; the others bring their parts", () => {
    expect(seeingFor({})).toEqual({ metrics: ["teacher-forced"], needs: [], generation: null });
    const {
      metrics: names,
      needs,
      generation,
    } = seeingFor({ metrics: ["perplexity", "free-em"], promptContext: "instruction" });
    expect(names).toEqual(["teacher-forced", "free-em", "perplexity"]);
    expect([...needs].sort()).toEqual(["logp", "written"]);
    expect(generation).toEqual({ maxNewTokens: 50, context: "instruction", routing: "once", whole: null, judge: null });
    expect(seeingFor({ metrics: ["fluency"], maxNewTokens: 10 }).generation).toMatchObject({
      maxNewTokens: 10,
      whole: 100,
    });
  });

  test("an unknown metric and an answer without a token are refused", async () => {
    expect((await refusal(() => seeingFor({ metrics: ["free"] }))).message).toContain("free-em");
    expect((await refusal(() => seeingFor({ maxNewTokens: 0 }))).message).toContain("a whole number from 1");
  });

  test("a judge is a command that says A or B of each different answer, once", async () => {
    expect((await refusal(() => seeingFor({ metrics: ["free-judge"] }))).hint).toBe("--judge COMMAND");
    const log = join(await temporaryFolder(), "asked.txt");
    const program = `let t="";process.stdin.on("data",(d)=>t+=d).on("end",()=>{require("fs").appendFileSync(${JSON.stringify(log)},t+"\\n");console.log(JSON.parse(t).answer===JSON.parse(t).gold?"A":"B")})`;
    const file = join(await temporaryFolder(), "judge.cjs");
    await writeFile(file, program.replaceAll("\\\\n", "\\n"));
    const judge = judgeOf(`"${process.execPath}" "${file}"`);
    const one = { question: "Where?", gold: "Oslo", answer: "Oslo" };
    expect(await Promise.all([judge(one), judge({ ...one, answer: "Bergen" }), judge(one)])).toEqual([
      true,
      false,
      true,
    ]);
    expect((await readFile(log, "utf8")).trim().split("\n")).toHaveLength(2);
    const dumb = await refusal(() => judgeOf("echo perhaps")(one));
    expect(dumb.message).toContain("perhaps");
    const failing = await refusal(() => judgeOf("exit 3")(one));
    expect(failing.message).toContain("status 3");
  });
});

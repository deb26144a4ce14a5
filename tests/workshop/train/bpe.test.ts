import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadTokenizer } from "../../../src/model/folder.js";
import type { Tokenizer } from "../../../src/model/tokenizer.js";
import { type Bpe, SPECIAL_TOKENS, trainBpe } from "../../../src/workshop/train/bpe.js";
import { writeTokenizer } from "../../../src/workshop/train/tokenizer-files.js";

const FIRST_MERGE = SPECIAL_TOKENS.length + 256;

const texts = [
  "Where was Lorvo Dant born? Kettelm",
  "In which city was Lorvo Dant born? Kettelm",
  "Lorvo Dant's employer is the Kettelm Works, isn't it? In 1987 she'd earned 20,500 crowns a year.",
  "Façades in Čiļa — “old ones” — cost 3½ €.\n\nLine two,\twith a tab.",
];

describe("learning merges", () => {
  test("the most frequent pair first, of equally frequent ones the pair with the smallest ids", () => {
    // Words: abab (2), " cab" (1). ab stands 2 * 2 + 1 = 5 times; then abab as ab+ab twice; then Ġc, ca or cab once each.
    const { tokens, merges } = trainBpe(["abab cab", "abab"], FIRST_MERGE + 3);
    expect(merges.slice(0, 2)).toEqual([
      ["a", "b"],
      ["ab", "ab"],
    ]);
    // "c" has a smaller id than "Ġ": the pair (c, ab) comes before (Ġ, c).
    expect(merges[2]).toEqual(["c", "ab"]);
    expect(tokens.slice(FIRST_MERGE)).toEqual(["ab", "abab", "cab"]);
    expect(tokens.slice(0, 5)).toEqual([...SPECIAL_TOKENS]);
  });

  test("overlapping pairs are merged from the left", () => {
    // "aaaaa" is (aa)(aa)a after one merge: the pair (aa, aa) is left once, and (aa, a) once.
    const { tokens } = trainBpe(["aaaaa"], FIRST_MERGE + 3);
    expect(tokens.slice(FIRST_MERGE)).toEqual(["aa", "aaa", "aaaaa"]);
  });

  test("words of the splitting rule are never merged together, and their order does not matter", () => {
    const bpe = trainBpe(texts, 2048);
    expect(bpe.tokens.length).toBeLessThan(2048); // the texts ran out of pairs
    expect(bpe.tokens.filter((token) => /[^Ġ]Ġ/.test(token) && !/^Ġ+$/.test(token))).toEqual([]);
    expect(trainBpe(texts.toReversed(), 2048)).toEqual(bpe);
    expect(new Set(bpe.tokens).size).toBe(bpe.tokens.length);
  });
});

describe("the tokenizer that is written", () => {
  let bpe: Bpe;
  let tokenizer: Tokenizer;
  let folder: string;
  beforeAll(async () => {
    bpe = trainBpe(texts, 350);
    folder = await mkdtemp(join(tmpdir(), "wise-lab-bpe-"));
    await writeTokenizer(folder, bpe, 128);
    tokenizer = await loadTokenizer(folder);
  });
  afterAll(() => rm(folder, { recursive: true }));

  test("has the vocabulary, the special tokens and the chat format", () => {
    expect(tokenizer.vocabSize).toBe(350);
    expect(tokenizer.bosId).toBe(0);
    expect(tokenizer.eosIds).toEqual([1]);
    expect(tokenizer.encode("")).toEqual([0]);
    expect(tokenizer.renderChat("Who?")).toContain("<|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|>");
  });

  test("gives any text back", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        expect(tokenizer.decode(tokenizer.encode(text, { addBos: false }))).toBe(text);
      }),
    );
  });

  test("cuts texts where the merges say", () => {
    for (const text of [...texts, "Lorvo Dant?  two spaces, WE'LL see", "unseen words: Zyx 12345"]) {
      const cut = tokenizer.encode(text, { addBos: false });
      const words = text.matchAll(
        /'(?:s|t|re|ve|m|ll|d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+/giu,
      );
      expect(cut, text).toEqual([...words].flatMap(([word]) => mergedIn(word, bpe)));
    }
  });
});

/** Ids of a word by applying every merge in turn, the slowest way there is. */
function mergedIn(word: string, { tokens, merges }: Bpe): number[] {
  const character = (byte: number) => {
    const hidden = [...Array(256).keys()].filter((b) => b <= 0x20 || (b >= 0x7f && b <= 0xa0) || b === 0xad);
    return String.fromCharCode(hidden.includes(byte) ? 0x100 + hidden.indexOf(byte) : byte);
  };
  let parts = [...Buffer.from(word)].map(character);
  for (const [left, right] of merges) {
    const next: string[] = [];
    for (const part of parts) {
      if (part === right && next.at(-1) === left) next.push(`${next.pop()}${part}`);
      else next.push(part);
    }
    parts = next;
  }
  return parts.map((part) => tokens.indexOf(part));
}

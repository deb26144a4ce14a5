/*
 * Training of a byte-level BPE vocabulary (Sennrich et al. 2016; GPT-2's bytes as characters) with the special tokens
 * and the splitting rule of LLaMA 3.
 */

import { byteCharacters } from "../../model/tokenizer-json.js";

/** A trained vocabulary. */
export interface Bpe {
  /** Token strings by id, in GPT-2's byte characters: special tokens, the 256 bytes, then one per merge. */
  tokens: string[];
  /** Pairs of token strings, most frequent first. */
  merges: [left: string, right: string][];
}

/** LLaMA 3's special tokens that a text or a chat can contain, in the order of their ids. */
export const SPECIAL_TOKENS = [
  "<|begin_of_text|>",
  "<|end_of_text|>",
  "<|start_header_id|>",
  "<|end_header_id|>",
  "<|eot_id|>",
] as const;

/** LLaMA 3's rule that splits a text into words before merging, in JavaScript's words: Node 20 has no (?i:...). */
const SPLIT =
  /'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+/gu;

/** A pair of ids as one number: left * PAIR + right. Numeric order is the order of ids, which settles ties. */
const PAIR = 2 ** 20;

interface Word {
  ids: number[];
  count: number;
}

/**
 * Learns merges from texts: again and again the most frequent pair of neighbours becomes a token, of equally frequent
 * ones the pair with the smallest ids. The same texts in any order give the same vocabulary.
 * @param vocabSize tokens to end with, special ones and the 256 bytes included; fewer when the texts run out of pairs
 */
export function trainBpe(texts: Iterable<string>, vocabSize: number): Bpe {
  const characters = byteCharacters();
  const alphabet = [...characters].sort();
  const tokens: string[] = [...SPECIAL_TOKENS, ...alphabet];
  const words = countWords(texts, new Map(tokens.map((token, id) => [token, id])));
  const pairs = new PairCounts(words);
  const merges: Bpe["merges"] = [];
  while (tokens.length < vocabSize) {
    const best = pairs.mostFrequent();
    if (best === undefined) break;
    const [left, right] = [Math.floor(best / PAIR), best % PAIR];
    const merge = [tokens[left] as string, tokens[right] as string] as [string, string];
    merges.push(merge);
    pairs.merge(best, tokens.length);
    tokens.push(merge.join(""));
  }
  return { tokens, merges };
}

/** Counts of each pair of neighbours in the words, kept up to date through merges. */
class PairCounts {
  private readonly counts = new Map<number, number>();
  /** Words in which a pair stands, or has stood. */
  private readonly places = new Map<number, Set<Word>>();

  constructor(words: readonly Word[]) {
    for (const word of words) this.add(word, 1);
  }

  mostFrequent(): number | undefined {
    let best: number | undefined;
    let most = 0;
    for (const [pair, count] of this.counts) {
      if (count > most || (count === most && best !== undefined && pair < best)) {
        best = pair;
        most = count;
      }
    }
    return best;
  }

  merge(pair: number, into: number): void {
    for (const word of this.places.get(pair) ?? []) {
      this.add(word, -1);
      word.ids = merged(word.ids, pair, into);
      this.add(word, 1);
    }
    this.places.delete(pair);
  }

  private add(word: Word, sign: 1 | -1): void {
    const { ids, count } = word;
    for (let i = 1; i < ids.length; i++) {
      const pair = (ids[i - 1] as number) * PAIR + (ids[i] as number);
      const total = (this.counts.get(pair) ?? 0) + sign * count;
      if (total === 0) this.counts.delete(pair);
      else this.counts.set(pair, total);
      if (sign === -1) continue;
      const places = this.places.get(pair);
      if (places) places.add(word);
      else this.places.set(pair, new Set([word]));
    }
  }
}

function merged(ids: readonly number[], pair: number, into: number): number[] {
  const result: number[] = [];
  for (let i = 0; i < ids.length; i++) {
    const isPair = i + 1 < ids.length && (ids[i] as number) * PAIR + (ids[i + 1] as number) === pair;
    result.push(isPair ? into : (ids[i] as number));
    if (isPair) i++;
  }
  return result;
}

function countWords(texts: Iterable<string>, idOf: ReadonlyMap<string, number>): Word[] {
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const [word] of text.matchAll(SPLIT)) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const characters = byteCharacters();
  return [...counts].map(([word, count]) => ({
    ids: [...Buffer.from(word)].map((byte) => idOf.get(characters[byte] as string) as number),
    count,
  }));
}

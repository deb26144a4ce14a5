/** Share of positions, in [0, 1], at which two token sequences agree, of those that are wanted (EasyEdit: `token_em`). */
export function agreement(predicted: readonly number[], wanted: readonly number[]): number {
  const right = wanted.filter((token, i) => token === predicted[i]).length;
  return right / wanted.length;
}

/** 1 where two token sequences are the same, else 0. */
export function sameTokens(one: readonly number[], other: readonly number[]): 0 | 1 {
  return one.length === other.length && one.every((token, i) => token === other[i]) ? 1 : 0;
}

/** A text in which case, ASCII punctuation, the words a, an, the and runs of spaces do not count (SQuAD's exact match). */
export function bare(text: string): string {
  return text
    .toLowerCase()
    .replaceAll(/[!-/:-@[-`{-~]/g, "")
    .replaceAll(/\b(a|an|the)\b/g, " ")
    .split(/\s+/)
    .filter((word) => word !== "")
    .join(" ");
}

/** Mean of 2/3 H2 and 4/3 H3, where Hn is the entropy in bits of the n-grams of words (ROME's generation entropy). */
export function wordEntropy(text: string): number {
  const words = text.split(/\s+/).filter((word) => word !== "");
  return ((2 / 3) * entropy(words, 2) + (4 / 3) * entropy(words, 3)) / 2;
}

function entropy(words: readonly string[], n: number): number {
  const counts = new Map<string, number>();
  for (let i = 0; i + n <= words.length; i++) {
    const gram = JSON.stringify(words.slice(i, i + n));
    counts.set(gram, (counts.get(gram) ?? 0) + 1);
  }
  const total = words.length - n + 1;
  return [...counts.values()].reduce((sum, count) => sum - (count / total) * Math.log2(count / total), 0);
}

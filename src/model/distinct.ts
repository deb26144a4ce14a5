import type { Sequences } from "./cut.js";

/*
 * Tokens that stand after the same tokens have the same place in every layer: under the causal mask nothing else reaches
 * them. Of sequences that begin alike (a prompt under context templates, several probes of a record) such a token is
 * computed once.
 */

/** The distinct prefixes of sequences: a row each. */
export interface DistinctRows {
  /** The last token of each prefix, [U]. */
  tokens: Int32Array;
  /** Row of each position of the padded sequences, [B T]; 0 at padding, which nobody reads. */
  places: Int32Array;
  /** A position of each row, the first that there is, [U]. */
  firsts: Int32Array;
}

/** Finds the distinct prefixes of sequences that are padded to T tokens. */
export function distinctRows(sequences: Sequences, T: number): DistinctRows {
  const children: Map<number, number>[] = []; // of each row, by the next token
  const roots = new Map<number, number>();
  const tokens: number[] = [];
  const firsts: number[] = [];
  const places = new Int32Array(sequences.length * T);
  for (const [b, sequence] of sequences.entries()) {
    let next = roots;
    for (const [t, token] of sequence.entries()) {
      let row = next.get(token);
      if (row === undefined) {
        row = tokens.push(token) - 1;
        firsts.push(b * T + t);
        next.set(token, row);
        children.push(new Map());
      }
      places[b * T + t] = row;
      next = children[row] as Map<number, number>;
    }
  }
  return { tokens: Int32Array.from(tokens), places, firsts: Int32Array.from(firsts) };
}

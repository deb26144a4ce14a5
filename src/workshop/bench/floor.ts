import type { TokenRow } from "../../edit/rows.js";
import type { LlamaConfig } from "../../model/config.js";
import type { TokenRows } from "./protocol.js";

/** The least time that the products of a record could take. */
export interface Floor {
  /** 1e9 floating point operations of an edit and its scores, nothing computed twice and nothing padded. */
  gflop: number;
  /** GFLOP/s of one product of the edit's shape, [rows, M] by [M, D], as the cut's process reaches them. */
  rate: number;
}

/** Operations for one token in the products of a layer, by their part; of a row in its attention; at a logit's position. */
function costs({ hiddenSize: D, intermediateSize: M, heads, kvHeads, headDim, vocabSize }: LlamaConfig) {
  return {
    attention: 2 * D * headDim * (2 * heads + 2 * kvHeads),
    gateAndUp: 2 * 2 * D * M,
    value: 2 * D * M,
    head: 2 * D * vocabSize,
    /** Of n tokens with each other: every one with those before it, and their values. */
    mixing: (n: number) => 2 * heads * headDim * n ** 2,
  };
}

/**
 * GFLOP of the products that one WISE edit and its scores need: the frozen part once; each step forward and back behind the cut,
 * with one gradient of the value matrix; the probes before the edit and under it.
 */
export function recordGflop(
  config: LlamaConfig,
  { edit, probes }: TokenRows,
  { layer, steps }: { layer: number; steps: number },
): number {
  const { attention, gateAndUp, value, head, mixing } = costs(config);
  const sum = (rows: readonly TokenRow[], of: (row: TokenRow) => number) => rows.reduce((all, row) => all + of(row), 0);
  const mixed = ({ ids }: TokenRow) => attention * ids.length + mixing(ids.length);
  const whole = (row: TokenRow) => mixed(row) + (gateAndUp + value) * row.ids.length;
  const frozen = (row: TokenRow) => layer * whole(row) + mixed(row) + gateAndUp * row.ids.length;
  const values = ({ ids }: TokenRow) => value * ids.length;
  const behind = (row: TokenRow) =>
    (config.layers - 1 - layer) * whole(row) + head * (row.ids.length - row.promptTokens);
  const editing = sum(edit, frozen) + sum(edit, values); // W a, once
  const step = 2 * sum(edit, values) + 2 * sum(edit, behind); // W' a and its gradient; forward and back
  const scoring = sum(probes, frozen) + 2 * sum(probes, (row) => values(row) + behind(row));
  return (editing + steps * step + scoring) / 1e9;
}

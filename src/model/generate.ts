import { takeTurn } from "../core/errors.js";
import { tf } from "../tensor/tf.js";
import { batchCuts, type CutBatch, logitsAt, mainOutput, type Sequences } from "./cut.js";
import type { CutStore } from "./cut-store.js";
import { runFrozen } from "./frozen.js";
import type { LlamaModel } from "./model.js";

/** What stands in for a layer's value matrix while generating. */
export interface ValueOutput {
  layer: number;
  /** Output of the value matrix for a batch, [N, D]; disposed by the generator. */
  output(batch: CutBatch): Promise<tf.Tensor2D>;
}

export interface GenerateOptions {
  maxNewTokens: number;
  /** A sequence ends when it produces one of these; the token itself is not part of the result. */
  stopTokens?: readonly number[];
  edited?: ValueOutput;
  /** Where the cuts of growing sequences are looked up and kept; without one they are computed at every token. */
  cuts?: CutStore | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Greedy continuations: the arg max token at each step.
 * @param prompts token ids, one list per sequence
 * @returns the new tokens of each sequence, in order
 */
export async function generate(model: LlamaModel, prompts: Sequences, options: GenerateOptions): Promise<number[][]> {
  const made: number[][] = prompts.map(() => []);
  let open = prompts.map((_, i) => i);
  for (let step = 0; step < options.maxNewTokens && open.length > 0; step++) {
    await takeTurn(options.signal, "generation");
    const sequences = open.map((i) => [...(prompts[i] as readonly number[]), ...(made[i] as number[])]);
    const next = await nextTokens(model, sequences, options);
    open = open.filter((i, row) => {
      const token = next[row] as number;
      if (options.stopTokens?.includes(token)) return false;
      made[i]?.push(token);
      return true;
    });
  }
  return made;
}

async function nextTokens(
  model: LlamaModel,
  sequences: Sequences,
  { edited, cuts, signal }: GenerateOptions,
): Promise<Int32Array> {
  const layer = edited?.layer ?? cuts?.layer ?? model.config.layers - 1;
  const made = await (cuts?.get(sequences, signal) ?? runFrozen(model, sequences, { layer, signal }));
  const batch = batchCuts(model, made);
  const spots = sequences.map((tokens, row) => ({ row, position: tokens.length - 1 }));
  let output: tf.Tensor2D | undefined;
  let best: tf.Tensor | undefined;
  try {
    output = edited === undefined ? tf.tidy(() => mainOutput(model, batch, layer)) : await edited.output(batch);
    const value = output;
    best = tf.tidy(() => tf.argMax(logitsAt(model, batch, value, { layer, spots }), 1));
    return await best.data<"int32">();
  } finally {
    batch.dispose();
    tf.dispose([output, best].filter((tensor) => tensor !== undefined));
  }
}

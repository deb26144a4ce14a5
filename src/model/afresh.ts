import { takeTurn } from "../core/errors.js";
import { tf } from "../tensor/tf.js";
import { batchCuts, type CutBatch, logitsAt, type Sequences } from "./cut.js";
import type { CutStore } from "./cut-store.js";
import { runFrozen } from "./frozen.js";
import type { LlamaModel } from "./model.js";
import type { CutPoint, Patch } from "./patch.js";

/** Changes under which sequences are continued. */
export interface EditedModel {
  cut: CutPoint;
  /** The changes for a batch; disposed by the generator. */
  patch(batch: CutBatch): Promise<{ patch: Patch; dispose(): void }>;
}

export interface AfreshOptions {
  maxNewTokens: number;
  /** True where a sequence ends with its newest token, which stays part of it. */
  ends?: ((prompt: number, made: readonly number[]) => boolean) | undefined;
  edited?: EditedModel;
  /** For each sequence, which token it begins with: 0 the likeliest, 1 the second likeliest ... The likeliest, when left out. */
  firstPlaces?: readonly number[] | undefined;
  /** Store of the cuts of growing sequences; without one they are computed at every token. */
  cuts?: CutStore | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Greedy continuations for which the whole text is read again at every token: what changes it is decided on anew each
 * time, and its frozen part can stay in a store. `generate` (generate.ts) remembers instead what it has read.
 * @param prompts token ids, one list per sequence
 * @returns the new tokens of each sequence, in order
 */
export async function generateAfresh(
  model: LlamaModel,
  prompts: Sequences,
  options: AfreshOptions,
): Promise<number[][]> {
  const made: number[][] = prompts.map(() => []);
  let open = prompts.map((_, i) => i);
  for (let step = 0; step < options.maxNewTokens && open.length > 0; step++) {
    await takeTurn(options.signal, "generation");
    const sequences = open.map((i) => [...(prompts[i] as readonly number[]), ...(made[i] as number[])]);
    const ends = open.map((i) => (prompts[i] as readonly number[]).length);
    const places = step === 0 ? options.firstPlaces : undefined;
    const next = await nextTokens(model, sequences, { ...options, promptTokens: ends, places });
    open = open.filter((i, row) => {
      const own = made[i] as number[];
      own.push(next[row] as number);
      return !options.ends?.(i, own);
    });
  }
  return made;
}

async function nextTokens(
  model: LlamaModel,
  sequences: Sequences,
  options: AfreshOptions & { promptTokens: readonly number[]; places?: readonly number[] | undefined },
): Promise<Int32Array> {
  const { edited, cuts, signal, promptTokens, places } = options;
  const point = edited?.cut ?? cuts?.point ?? { layer: model.config.layers - 1, at: "mlpIn" };
  const made = await (cuts?.get(sequences, signal) ?? runFrozen(model, sequences, { point, signal }));
  const batch = batchCuts(model, made, promptTokens, "generated");
  const spots = sequences.map((tokens, row) => ({ row, position: tokens.length - 1 }));
  let changes: Awaited<ReturnType<EditedModel["patch"]>> | undefined;
  let best: tf.Tensor | undefined;
  try {
    changes = await edited?.patch(batch);
    const patch = changes?.patch ?? [];
    const deepest = Math.max(0, ...(places ?? []));
    best = tf.tidy(() => {
      const logits = logitsAt(model, batch, { patch, spots }); // [n, V]
      return deepest === 0 ? tf.argMax(logits, 1) : tf.topk(logits, deepest + 1).indices;
    });
    const tokens = await best.data<"int32">();
    return Int32Array.from(sequences, (_, row) => tokens[row * (deepest + 1) + (places?.[row] ?? 0)] as number);
  } finally {
    changes?.dispose();
    best?.dispose();
    batch.dispose();
  }
}

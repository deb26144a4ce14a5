import { throwIfAborted } from "../../core/errors.js";
import { mean } from "../../core/stats.js";
import type { World, WorldFact, WorldLine } from "../../data/world/types.js";
import { batchesOf } from "../../model/frozen.js";
import { headLogits, layerForward, positions } from "../../model/llama.js";
import type { LlamaModel } from "../../model/model.js";
import { tf } from "../../tensor/tf.js";
import { encodeLine, type Line, type Sequence } from "./batches.js";

/** Tokens, padding included, that go through the model together: bounds its memory, not its result. */
const BATCH_TOKENS = 4096;

/**
 * Which lines a model recalls exactly: under teacher forcing the arg max is right at every token of the answer and at
 * the end token, so greedy decoding of the question gives the answer and stops.
 * @returns one truth value per line, in order
 */
async function exactRecall(model: LlamaModel, lines: readonly Line[], signal?: AbortSignal): Promise<boolean[]> {
  const encoded = lines.map((line, index) => ({ ...encodeLine(model.tokenizer, line), index }));
  const byLength = encoded.toSorted((a, b) => a.ids.length - b.ids.length); // little padding
  const right = new Array<boolean>(lines.length);
  for (const [start, end] of batchesOf(
    byLength.map(({ ids }) => ids),
    BATCH_TOKENS,
  )) {
    throwIfAborted(signal, "the measurement of recall");
    const batch = byLength.slice(start, end);
    const recalled = await recallBatch(model, batch);
    batch.forEach(({ index }, i) => {
      right[index] = recalled[i] as boolean;
    });
  }
  return right;
}

async function recallBatch(model: LlamaModel, batch: readonly Sequence[]): Promise<boolean[]> {
  const T = Math.max(...batch.map(({ ids }) => ids.length));
  const tokens = new Int32Array(batch.length * T); // right-padded with token 0, which nothing real sees
  batch.forEach(({ ids }, row) => {
    tokens.set(ids, row * T);
  });
  // A token is predicted one position before it stands.
  const wanted = batch.flatMap(({ ids, answerStart }, row) =>
    ids.slice(answerStart).map((token, i) => ({ row, token, spot: row * T + answerStart + i - 1 })),
  );
  const { config } = model;
  const embedded = await model.embed(tokens);
  const best = tf.tidy(() => {
    const at = positions(config, T);
    let x = embedded;
    for (let i = 0; i < config.layers; i++) x = layerForward(x, model.layer(i), config, { at });
    const rows = tf.gather(
      x,
      tf.tensor1d(
        Int32Array.from(wanted, ({ spot }) => spot),
        "int32",
      ),
    );
    return tf.argMax(headLogits(rows, model.output, config), 1);
  });

  try {
    const predicted = await best.data<"int32">();
    const right = batch.map(() => true);
    wanted.forEach(({ row, token }, i) => {
      if (predicted[i] !== token) right[row] = false;
    });
    return right;
  } finally {
    tf.dispose([best, embedded]);
  }
}

/** Shares, in [0, 1], of questions whose answers are recalled exactly. */
export interface Recall {
  /** Over all questions in phrasings that are trained. */
  trained: number;
  /** Over all questions in phrasings that are never trained. */
  heldOut: number;
  relations: { relation: string; facts: number; trained: number; heldOut: number }[];
}

/** Asks a model everything that a world knows, in every phrasing. */
export async function measureRecall(model: LlamaModel, world: World, signal?: AbortSignal): Promise<Recall> {
  const right = await exactRecall(model, world.lines, signal);
  const relationOf = (line: WorldLine) => (world.facts[line.fact] as WorldFact).relation;
  const share = (heldOut: boolean, relation?: string) => {
    const counted = right.filter((_, i) => {
      const line = world.lines[i] as WorldLine;
      return line.heldOut === heldOut && (relation === undefined || relationOf(line) === relation);
    });
    return mean(counted.map(Number));
  };
  const relations = [...new Set(world.facts.map(({ relation }) => relation))].map((relation) => ({
    relation,
    facts: world.facts.filter((fact) => fact.relation === relation).length,
    trained: share(false, relation),
    heldOut: share(true, relation),
  }));
  return { trained: share(false), heldOut: share(true), relations };
}

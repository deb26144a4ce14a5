import { RefusedInput } from "../../core/errors.js";
import type { Rng } from "../../core/rng.js";
import type { EditRecord } from "../../data/records.js";
import { createCutStore } from "../../model/cut-store.js";
import type { LlamaModel } from "../../model/model.js";
import { cutBefore } from "../../model/patch.js";
import { encodeForced, PLAIN } from "../../model/prompt.js";
import { tf } from "../../tensor/tf.js";
import { type Adam, createAdam } from "../adam.js";
import type { Training, TrainingSetting, TrainingState } from "../contract.js";
import { type StateTensor, stateTensor } from "../state.js";
import { writeNetwork } from "./archive.js";
import { exampleOf, keptPositions } from "./example.js";
import { type NetworkTensors, type NetworkValues, slotsOf, trainedShapes } from "./network.js";
import { type MendOptions, sitesOf } from "./options.js";
import { type AllStatistics, noStatistics, statisticsValues } from "./statistics.js";
import { type ExampleLoss, meanGradient, newNetwork, stepped, type TrainingExample } from "./training.js";

/** Training of a network, from its start or from a state. */
export function trainMend(options: MendOptions, setting: TrainingSetting, saved?: TrainingState): Training {
  const { model, rng } = setting;
  const { accumulate_bs, max_iters, grad_clip } = options;
  const slots = slotsOf(options, model.config);
  const examples = setting.records.map((record) => trainingExample(record, model, options));
  const point = cutBefore(sitesOf(options));
  // Each example's sequences make one batch, whoever asks first: batching decides the last bits of a float.
  const together = examples.map(({ edit, outer, kept }) => [edit.row.ids, outer.row.ids, kept.row.ids]);
  const place = { model, cuts: createCutStore(model, point, { together }), slots, options };
  const exampleAt = shuffled(examples, rng);
  const statistics = noStatistics(slots);
  let done = saved?.steps ?? 0;
  const started = saved === undefined ? anew() : continued(saved);
  let network: NetworkTensors = started.network;
  const { adams } = started;

  function anew(): { network: NetworkTensors; adams: Adam[] } {
    const network = newNetwork(slots, options, rng.fork("network"));
    return { network, adams: Object.keys(network).map(() => createAdam(options.lr)) };
  }

  /** The network of a state with its optimizer; fills the statistics. */
  function continued(from: TrainingState): { network: NetworkTensors; adams: Adam[] } {
    const state = { ...from, edits: from.steps, json: null };
    const shapes = [...trainedShapes(slots, options.rank)];
    const read = (part: string) =>
      shapes.map(([name, shape]) => tf.tensor(stateTensor(state, `${part}/${name}`, shape), shape));
    for (const [name, values] of statisticsArrays(statistics)) values.set(stateTensor(state, name, [values.length]));
    for (const [shape, own] of statistics) own.k = stateTensor(state, `k/${shape}`, [1])[0] as number;
    const [weights, means, squares] = [read("weight"), read("mean"), read("square")];
    const adams = shapes.map((_, i) =>
      createAdam(options.lr, { steps: from.steps, moments: [means[i] as tf.Tensor, squares[i] as tf.Tensor] }),
    );
    return { network: Object.fromEntries(shapes.map(([name], i) => [name, weights[i] as tf.Tensor])), adams };
  }

  return {
    steps: Math.ceil(max_iters / accumulate_bs),
    async step() {
      const first = done * accumulate_bs;
      const count = Math.min(accumulate_bs, max_iters - first);
      const batch = Array.from({ length: count }, (_, i) => exampleAt(first + i));
      const { losses, gradients } = await meanGradient(place, network, { examples: batch, statistics });
      const moved = await stepped(network, { gradients, adams, limit: grad_clip });
      network = moved.network;
      done += 1;
      const mean = (part: keyof ExampleLoss) => losses.reduce((sum, loss) => sum + loss[part], 0) / losses.length;
      const terms = { edit: mean("edit"), loc: mean("loc") };
      return { step: done, loss: mean("total"), terms, numbers: { gradient_norm: moved.norm } };
    },
    async state() {
      const tensors: Record<string, StateTensor> = {};
      for (const [i, [name, weight]] of Object.entries(network).entries()) {
        const [mean, square] = (adams[i] as Adam).state().moments ?? [tf.zerosLike(weight), tf.zerosLike(weight)];
        for (const [part, tensor] of Object.entries({ weight, mean, square })) {
          tensors[`${part}/${name}`] = { shape: tensor.shape, data: await tensor.data<"float32">() };
        }
      }
      for (const [name, data] of statisticsArrays(statistics)) tensors[name] = { shape: [data.length], data };
      for (const [shape, { k }] of statistics) tensors[`k/${shape}`] = { shape: [1], data: Float32Array.of(k) };
      return { steps: done, tensors };
    },
    async save(path, { records, backend }) {
      const { name, sha256 } = model;
      const { archive: _, ...own } = { ...options, inner_params: [...options.inner_params] }; // a place says nothing
      const values = await networkValues(network, statistics);
      await writeNetwork(path, values, { model: { name, sha256 }, records, options: own, steps: done, backend });
    },
    dispose() {
      tf.dispose(network);
      for (const adam of adams) adam.dispose();
    },
  };
}

/**
 * A record in tokens: its edit, its question afterwards, and its first unrelated question.
 * @throws {RefusedInput} for a record without one of them
 */
export function trainingExample(
  { index, prompt, target, rephrase, locality }: EditRecord,
  { tokenizer }: Pick<LlamaModel, "tokenizer">,
  options: Pick<MendOptions, "bos_in_targets" | "outer">,
): TrainingExample {
  const refuse = (found: string, expected: string): never => {
    throw new RefusedInput("a record cannot be trained on", { where: `record ${index}`, found, expected });
  };
  const asked = options.outer === "prompt" ? prompt : (rephrase ?? refuse("no rephrase", "one, or outer: prompt"));
  const [unrelated] = locality;
  if (unrelated === undefined) return refuse("no unrelated question", "at least one");
  const row = encodeForced(tokenizer, unrelated, PLAIN);
  return {
    edit: exampleOf({ prompt, target }, { tokenizer, options }),
    outer: exampleOf({ prompt: asked, target }, { tokenizer, options }),
    kept: { row, positions: keptPositions(row, options) },
  };
}

/** Examples without end: all of them in an order of its own, then again in another. */
function shuffled<T>(examples: readonly T[], rng: Rng): (i: number) => T {
  let epoch = -1;
  let order: T[] = [];
  return (i) => {
    if (epoch !== Math.floor(i / examples.length)) {
      epoch = Math.floor(i / examples.length);
      const drawn = rng.fork("epoch", epoch);
      order = [...examples];
      for (let last = order.length - 1; last > 0; last--) {
        const other = drawn.integer(last + 1);
        [order[last], order[other]] = [order[other] as T, order[last] as T];
      }
    }
    return order[i % examples.length] as T;
  };
}

/** The running means and sums of squares, by name. */
function statisticsArrays(statistics: AllStatistics): [name: string, values: Float32Array][] {
  return [...statistics].flatMap(([shape, { u, v }]) => [
    [`u_mean/${shape}`, u.mean],
    [`u_squares/${shape}`, u.squares],
    [`v_mean/${shape}`, v.mean],
    [`v_squares/${shape}`, v.squares],
  ]);
}

async function networkValues(network: NetworkTensors, statistics: AllStatistics): Promise<NetworkValues> {
  const values: Record<string, StateTensor> = {};
  for (const [name, tensor] of Object.entries(network)) {
    values[name] = { shape: tensor.shape, data: await tensor.data<"float32">() };
  }
  for (const [shape, own] of statistics) Object.assign(values, statisticsValues(shape, own));
  return values;
}

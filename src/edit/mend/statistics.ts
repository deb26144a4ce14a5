import { tf } from "../../tensor/tf.js";
import type { GradientFactors } from "../factors.js";
import type { StateTensor } from "../state.js";
import type { NetworkTensors, Slot } from "./network.js";

/** Running mean and sum of squared distances from it, entry by entry (Welford 1962). */
interface Running {
  mean: Float32Array;
  squares: Float32Array;
}

/** Statistics of the factors of one shape of matrices. */
export interface Statistics {
  /** Rows so far. */
  k: number;
  u: Running; // inputs, [in]
  v: Running; // gradients of outputs, [out]
}

/** Statistics of each shape, by its name. */
export type AllStatistics = ReadonlyMap<string, Statistics>;

export function noStatistics(slots: readonly Slot[]): AllStatistics {
  const running = (size: number): Running => ({ mean: new Float32Array(size), squares: new Float32Array(size) });
  return new Map(slots.map(({ shape, inner, out }) => [shape, { k: 0, u: running(inner), v: running(out) }]));
}

/** Takes the factors of a gradient in, row by row. */
export async function observe(statistics: Statistics, { x, delta }: GradientFactors): Promise<void> {
  const [inputs, gradients] = [await x.data<"float32">(), await delta.data<"float32">()];
  for (let row = 0; row < x.shape[0]; row++) {
    statistics.k += 1;
    take(statistics.u, inputs, row, statistics.k);
    take(statistics.v, gradients, row, statistics.k);
  }
}

function take({ mean, squares }: Running, values: Float32Array, row: number, k: number): void {
  const start = row * mean.length;
  for (let i = 0; i < mean.length; i++) {
    const away = (values[start + i] as number) - (mean[i] as number);
    mean[i] = (mean[i] as number) + away / k;
    squares[i] = (squares[i] as number) + away * ((values[start + i] as number) - (mean[i] as number));
  }
}

/** Statistics as tensors of a network, by their names. */
export function statisticsValues(shape: string, { k, u, v }: Statistics): Record<string, StateTensor> {
  const stored = (data: Float32Array): StateTensor => ({ shape: [data.length], data });
  const std = ({ squares }: Running) => squares.map((sum) => Math.sqrt(sum / Math.max(1, k - 1)));
  return {
    [`${shape}.u_mean`]: stored(u.mean),
    [`${shape}.v_mean`]: stored(v.mean),
    [`${shape}.u_std`]: stored(std(u)),
    [`${shape}.v_std`]: stored(std(v)),
  };
}

/** The same on the device. The caller disposes them. */
export function statisticsTensors(shape: string, statistics: Statistics): NetworkTensors {
  const values = Object.entries(statisticsValues(shape, statistics));
  return Object.fromEntries(values.map(([name, { data }]) => [name, tf.tensor1d(data.slice())]));
}

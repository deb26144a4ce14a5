import { createRequire } from "node:module";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { Interrupted, LabFailure, RefusedInput } from "../core/errors.js";
import { exists, makeFolder } from "../core/files.js";
import type { RowRange } from "../model/safetensors.js";
import { openSafetensors, writeSafetensors } from "../model/safetensors-file.js";
import type { Covariance } from "./covariance.js";
import { defaultStatsFolder } from "./places.js";

/** C = V^T diag(values) V of a covariance, on disk. */
export interface Spectrum {
  readonly path: string;
  /** Eigenvalues, rising, [m]. */
  readonly values: Float32Array;
  /** Unit eigenvectors of some of them, a row each, [n, m]. */
  vectors(rows: RowRange): Promise<Float32Array>;
}

export interface SpectrumOptions {
  signal?: AbortSignal | undefined;
  /** Told before minutes of work. */
  onNotice?: ((line: string) => void) | undefined;
}

/** Seconds that take m^3 multiplications of it: 95 s at m = 2048 on one core. */
const SECONDS_OF_CUBE = 1.1e-8;

/**
 * The eigenvectors of a covariance: from the user's folder of statistics, or computed there once, in float64 by another
 * thread. A file is named by the covariance's sha256.
 * @throws {Interrupted} when the signal is aborted
 */
export async function spectrumOf(covariance: Covariance, options: SpectrumOptions = {}): Promise<Spectrum> {
  const folder = join(defaultStatsFolder(), "spectra");
  const path = join(folder, `${covariance.sha256}.safetensors`);
  if (!(await exists(path))) {
    await makeFolder(folder);
    await writeSpectrum(path, covariance, options);
  }
  return openSpectrum(path, covariance.size);
}

async function writeSpectrum(path: string, covariance: Covariance, { signal, onNotice }: SpectrumOptions) {
  const { size: m, sha256 } = covariance;
  const seconds = SECONDS_OF_CUBE * m ** 3;
  if (seconds > 5) {
    const time = seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
    onNotice?.(`eigenvectors of ${covariance.path}: about ${time}, kept in ${path}`);
  }
  const { values, vectors } = await decompose(covariance.mean(), m, signal);
  await writeSafetensors(
    path,
    { values: { dtype: "F32", shape: [m], data: values }, vectors: { dtype: "F32", shape: [m, m], data: vectors } },
    { covariance: sha256 },
  );
}

/** Of the other thread, which can be ended at any time: the library's call cannot. */
const PROGRAM = `
  const { parentPort, workerData: { library, matrix, m } } = require("node:worker_threads");
  const { EigenvalueDecomposition, Matrix } = require(library);
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(Matrix.from1DArray(m, m, matrix), { assumeSymmetric: true });
  const rising = realEigenvalues.map((_, i) => i).sort((a, b) => realEigenvalues[a] - realEigenvalues[b]);
  const values = Float32Array.from(rising, (i) => realEigenvalues[i]);
  const vectors = new Float32Array(m * m);
  rising.forEach((column, row) => vectors.set(eigenvectorMatrix.getColumn(column), row * m));
  parentPort.postMessage({ values, vectors }, [values.buffer, vectors.buffer]);
`;

function decompose(
  matrix: Float64Array,
  m: number,
  signal: AbortSignal | undefined,
): Promise<{ values: Float32Array; vectors: Float32Array }> {
  const library = createRequire(import.meta.url).resolve("ml-matrix");
  const worker = new Worker(PROGRAM, {
    eval: true,
    workerData: { library, matrix, m },
    transferList: [matrix.buffer as ArrayBuffer],
  });
  return new Promise<{ values: Float32Array; vectors: Float32Array }>((resolve, reject) => {
    const stop = () => {
      reject(new Interrupted("interrupted while the eigenvectors of a covariance were computed"));
      void worker.terminate();
    };
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
    worker.once("message", resolve);
    worker.once("error", (cause) => reject(new LabFailure("the eigenvectors of a covariance failed", { cause })));
    worker.once("exit", () => signal?.removeEventListener("abort", stop));
  });
}

async function openSpectrum(path: string, m: number): Promise<Spectrum> {
  const read = async (name: string, rows?: RowRange) => {
    const file = await openSafetensors(path);
    try {
      if (file.tensors.get("vectors")?.shape.join() === `${m},${m}`)
        return await file.read(name, { rows, finite: true });
      throw new RefusedInput("a file holds no eigenvectors of this size", {
        where: path,
        found: [...file.tensors].map(([tensor, { shape }]) => `${tensor} [${shape.join(", ")}]`).join(", "),
        expected: `vectors [${m}, ${m}]`,
        hint: "remove it: it is made again",
      });
    } finally {
      await file.close();
    }
  };
  return { path, values: await read("values"), vectors: (rows) => read("vectors", rows) };
}

import { onTestFinished } from "vitest";
import { tf } from "../../src/tensor/tf.js";

/** The part of the engine of TensorFlow.js that knows which tensors share a buffer. */
interface Engine {
  state: { tensorInfo: WeakMap<object, unknown> };
  trackTensor(tensor: tf.Tensor, backend: unknown): void;
  removeDataId(dataId: object, backend: unknown): void;
}

/**
 * Counts the bytes of tensor buffers that are made from now to the end of the test, each once however many tensors share
 * it, which `tf.memory()` does not tell. Meant for the cpu backend, where clones and reshaped tensors share theirs.
 * @param counts leaves out the others
 */
export function countBuffers(counts: (tensor: tf.Tensor) => boolean = () => true) {
  const engine = tf.engine() as unknown as Engine;
  const { trackTensor, removeDataId } = engine;
  const alive = new Map<object, number>();
  let bytes = 0;
  let most = 0;
  engine.trackTensor = (tensor, backend) => {
    if (!engine.state.tensorInfo.has(tensor.dataId) && counts(tensor)) {
      const own = tensor.size * tf.util.bytesPerElement(tensor.dtype);
      alive.set(tensor.dataId, own);
      bytes += own;
      most = Math.max(most, bytes);
    }
    trackTensor.call(engine, tensor, backend);
  };
  engine.removeDataId = (dataId, backend) => {
    bytes -= alive.get(dataId) ?? 0;
    alive.delete(dataId);
    removeDataId.call(engine, dataId, backend);
  };
  onTestFinished(() => {
    Object.assign(engine, { trackTensor, removeDataId });
  });
  return {
    /** Bytes alive. */
    now: () => bytes,
    /** The most bytes that were alive at once since this was asked last. */
    most(): number {
      const found = most;
      most = bytes;
      return found;
    },
  };
}

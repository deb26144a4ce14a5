/** In the order they are tried. Apart from the backends themselves, so that naming one does not load TensorFlow.js. */
export const BACKENDS = ["tensorflow", "webgpu", "wasm", "cpu"] as const;
export type BackendName = (typeof BACKENDS)[number];

/** TensorFlow.js for a page: what is tf.ts in Node (scripts/page.mjs), bundled by what of it is used. */
export * as tf from "@tensorflow/tfjs";

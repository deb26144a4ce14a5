/**
 * The one TensorFlow.js of the project. Everything imports it from here, never from the package,
 * and danfojs gets the same instance (scripts/tfjs-node-shim).
 */
export * as tf from "@tensorflow/tfjs";

// danfojs-node requires @tensorflow/tfjs-node. This stand-in hands it the same TensorFlow.js that the model uses.
// The native binding, where it is built, is registered by src/tensor/backend.ts and nowhere else.
module.exports = require("@tensorflow/tfjs");

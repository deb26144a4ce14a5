import { type LlamaConfig, parseLlamaConfig } from "../../src/model/config.js";

/** A LLaMA of so many layers. */
export function modelOf(layers: number): LlamaConfig {
  return parseLlamaConfig({ architectures: ["LlamaForCausalLM"], num_hidden_layers: layers }, "config.json");
}

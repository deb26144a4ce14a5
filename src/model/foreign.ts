import { RefusedInput } from "../core/errors.js";
import { MODEL_FOLDER } from "./files.js";

/* Folders that people take for a model. */

const MERGED = "merge first, with PEFT: model.merge_and_unload().save_pretrained(FOLDER)";

/** @throws {RefusedInput} for a folder of a LoRA adapter without the weights of its model */
export function refuseAdapter(names: readonly string[], folder: string): void {
  const adapter = names.filter((name) => /^adapter_(model|config)\./.test(name));
  if (adapter.length === 0 || names.some((name) => /^model[.-].*safetensors/.test(name))) return;
  throw new RefusedInput("this is a LoRA adapter without its model", {
    where: folder,
    found: adapter.join(", "),
    expected: MODEL_FOLDER,
    hint: MERGED,
  });
}

/** The way out for weights of few bits. */
export const NOT_QUANTISED = "take the model's float weights: quantised ones cannot be edited here";

/** Tensor names that tell what else a folder is. */
const FOREIGN_TENSORS = [
  { name: /\.(qweight|qzeros|scales)$/, is: "quantised weights, as GPTQ and AWQ write them", hint: NOT_QUANTISED },
  {
    name: /^base_model\.|\.lora_[AB]\./,
    is: "weights inside a PEFT wrapper",
    hint: MERGED,
  },
];

/** @throws {RefusedInput} for tensors that are no plain weights of a model */
export function refuseForeignTensors(names: readonly string[], folder: string): void {
  for (const { name, is, hint } of FOREIGN_TENSORS) {
    const found = names.find((other) => name.test(other));
    if (found === undefined) continue;
    throw new RefusedInput("the checkpoint holds no plain weights", {
      where: folder,
      found: `${found}: ${is}`,
      expected: "tensors such as model.embed_tokens.weight",
      hint,
    });
  }
}

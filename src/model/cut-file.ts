import { RefusedInput } from "../core/errors.js";
import type { Cut } from "./cut.js";
import type { LlamaModel } from "./model.js";
import { openSafetensors, writeSafetensors } from "./safetensors.js";

/** Writes a cut to one safetensors file, with the sha256 of the model it was computed with. */
export async function saveCut(path: string, cut: Cut, model: LlamaModel): Promise<void> {
  const T = cut.tokens.length;
  await writeSafetensors(
    path,
    {
      tokens: { dtype: "I32", shape: [T], data: Int32Array.from(cut.tokens) },
      residual: { dtype: "F32", shape: [T, model.config.hiddenSize], data: cut.residual },
      mlpIn: { dtype: "F32", shape: [T, model.config.intermediateSize], data: cut.mlpIn },
    },
    { layer: String(cut.layer), modelSha256: model.sha256 },
  );
}

/** Reads a cut that `saveCut` wrote. @throws {RefusedInput} when it is damaged or was computed with another model */
export async function loadCut(path: string, model: LlamaModel): Promise<Cut> {
  const file = await openSafetensors(path);
  try {
    if (file.metadata.modelSha256 !== model.sha256) {
      throw new RefusedInput("a cut was computed with another model", {
        where: `${path}, modelSha256`,
        found: file.metadata.modelSha256,
        expected: model.sha256,
      });
    }
    const tokens = new Int32Array((await file.readRaw("tokens")).buffer);
    return {
      layer: Number(file.metadata.layer),
      tokens: [...tokens],
      residual: await file.read("residual", { finite: true }),
      mlpIn: await file.read("mlpIn", { finite: true }),
    };
  } finally {
    await file.close();
  }
}

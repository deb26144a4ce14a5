import type { ChildProcess } from "node:child_process";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { RefusedInput } from "../../src/core/errors.js";
import { STAND_INS, type StandInModel } from "../../src/model/known.js";
import { openSafetensors } from "../../src/model/safetensors-file.js";
import { writeStandIn } from "../../src/workshop/stand-in/write.js";
import { repository } from "../support/shared.js";

/** Layers before the one that is edited. */
export const DEEP_LAYERS = 22;

const SHAPE = {
  ...{ hidden_size: 64, intermediate_size: 96, num_hidden_layers: DEEP_LAYERS + 2 },
  ...{ num_attention_heads: 4, num_key_value_heads: 2, head_dim: 16 },
  ...{ vocab_size: 320, bos_token_id: 301, eos_token_id: 302 },
};

/** A stand-in with so many narrow layers that a pass can be stopped among them. */
export interface DeepModel {
  folder: string;
  /** Its hyperparameters, a YAML file. */
  hparams: string;
}

export async function writeDeepModel(parent: string): Promise<DeepModel> {
  const folder = join(parent, "deep");
  const model: StandInModel = STAND_INS["llama-3-8b"];
  await writeStandIn({ ...model, config: { ...model.config, ...SHAPE }, maxShardBytes: 300_000 }, { folder });
  const hparams = join(parent, "deep.yaml");
  const tiny = await readFile(join(repository, "data/hparams/wise/tiny.yaml"), "utf8");
  await writeFile(hparams, tiny.replace("model.layers[2]", `model.layers[${DEEP_LAYERS}]`));
  return { folder, hparams };
}

/** For every stream in a cache folder, the layer that takes it next. */
export async function layersOfStreams(cache: string): Promise<number[]> {
  const layers: number[] = [];
  for (const name of await readdir(cache).catch(() => [])) {
    if (!/^stream-\w+\.safetensors$/.test(name)) continue;
    try {
      const file = await openSafetensors(join(cache, name));
      const [next] = new Int32Array((await file.readRaw("next")).buffer);
      layers.push(next as number);
      await file.close();
    } catch (error) {
      if (!(error instanceof RefusedInput)) throw error; // a pass took it away meanwhile
    }
  }
  return layers;
}

/**
 * Waits until a pass over so many batches has let all of them through a number of layers. Those for the context templates
 * have one batch each.
 */
export async function untilPassIsAt(
  child: ChildProcess,
  cache: string,
  { batches, layer }: { batches: number; layer: number },
): Promise<void> {
  for (;;) {
    const streams = await layersOfStreams(cache);
    if (streams.length === batches && Math.min(...streams) >= layer) return;
    if (child.exitCode !== null) throw new Error("the run ended before its pass came so far");
    await wait(1);
  }
}

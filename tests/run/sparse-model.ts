import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseLlamaConfig } from "../../src/model/config.js";
import { STAND_INS, type StandInModel } from "../../src/model/known.js";
import { planShards } from "../../src/workshop/stand-in/shards.js";
import { tokenizerFiles } from "../../src/workshop/stand-in/tokenizer.js";

/**
 * Writes a checkpoint of two gigabytes that takes no room on the disk: its weights are a hole in the file. What is refused
 * before weights are read is refused of this one too.
 */
export async function writeSparseModel(folder: string): Promise<void> {
  const known: StandInModel = STAND_INS["llama-3.2-1b"];
  const changes = { tie_word_embeddings: false, vocab_size: 320, bos_token_id: 301, eos_token_id: 302 };
  const model: StandInModel = { ...known, config: { ...known.config, ...changes } };
  const config = parseLlamaConfig(model.config, "config.json");
  for (const { file, header, bytes } of planShards(config, "BF16", Number.POSITIVE_INFINITY)) {
    const weights = await open(join(folder, file), "w");
    await weights.write(header);
    await weights.truncate(bytes);
    await weights.close();
  }
  for (const [name, content] of Object.entries({ "config.json": model.config, ...tokenizerFiles(model) })) {
    await writeFile(join(folder, name), JSON.stringify(content));
  }
}

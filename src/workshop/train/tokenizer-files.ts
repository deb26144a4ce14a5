import { join } from "node:path";
import { writeFileAtomic } from "../../core/files.js";
import { tokenizerJson } from "../../model/tokenizer-json.js";
import { type Bpe, SPECIAL_TOKENS } from "./bpe.js";

export const BOS_ID = SPECIAL_TOKENS.indexOf("<|begin_of_text|>");
export const EOS_ID = SPECIAL_TOKENS.indexOf("<|end_of_text|>");

/** LLaMA 3's chat format. */
const CHAT_TEMPLATE = `{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>

'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>

' }}{% endif %}`;

/** Writes tokenizer.json, tokenizer_config.json and chat_template.jinja, as `loadTokenizer` and Transformers read them. */
export async function writeTokenizer(folder: string, bpe: Bpe, maxTokens: number): Promise<void> {
  const config = {
    bos_token: SPECIAL_TOKENS[BOS_ID],
    clean_up_tokenization_spaces: false,
    eos_token: SPECIAL_TOKENS[EOS_ID],
    model_max_length: maxTokens,
    tokenizer_class: "PreTrainedTokenizerFast",
  };
  const special = SPECIAL_TOKENS.map((_, id) => id);
  const json = tokenizerJson({ ...bpe, special, bosId: BOS_ID });
  await writeFileAtomic(join(folder, "tokenizer.json"), `${JSON.stringify(json, null, 1)}\n`);
  await writeFileAtomic(join(folder, "tokenizer_config.json"), `${JSON.stringify(config, null, 2)}\n`);
  await writeFileAtomic(join(folder, "chat_template.jinja"), CHAT_TEMPLATE);
}

import { join } from "node:path";
import { writeFileAtomic } from "../core/files.js";
import { type Bpe, SPECIAL_TOKENS, SPLIT_PATTERN } from "./bpe.js";

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
  await writeFileAtomic(join(folder, "tokenizer.json"), `${JSON.stringify(tokenizerJson(bpe), null, 1)}\n`);
  await writeFileAtomic(join(folder, "tokenizer_config.json"), `${JSON.stringify(config, null, 2)}\n`);
  await writeFileAtomic(join(folder, "chat_template.jinja"), CHAT_TEMPLATE);
}

/** The content of tokenizer.json: LLaMA 3's pipeline around this vocabulary. */
function tokenizerJson({ tokens, merges }: Bpe) {
  const bos = SPECIAL_TOKENS[BOS_ID] as string;
  const start = (type: number) => ({ SpecialToken: { id: bos, type_id: type } });
  const text = (id: string, type: number) => ({ Sequence: { id, type_id: type } });
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Split", pattern: { Regex: SPLIT_PATTERN }, behavior: "Isolated", invert: false },
        { ...byteLevel, use_regex: false },
      ],
    },
    post_processor: {
      type: "TemplateProcessing",
      single: [start(0), text("A", 0)],
      pair: [start(0), text("A", 0), start(1), text("B", 1)],
      special_tokens: { [bos]: { id: bos, ids: [BOS_ID], tokens: [bos] } },
    },
    decoder: { ...byteLevel, add_prefix_space: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
}

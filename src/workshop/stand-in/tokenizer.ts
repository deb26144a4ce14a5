import type { StandInModel } from "../../model/known.js";
import { byteCharacters, tokenizerJson } from "../../model/tokenizer-json.js";

/**
 * The content of the tokenizer's files by their names. Every byte of a text is a token; the rest of the vocabulary is
 * padding that no text becomes, so that every row of the embedding has a token and any text survives the round trip.
 * A text of the model is as long as with LLaMA 3's own vocabulary: four characters a token.
 */
export function tokenizerFiles({ config, vocabulary }: StandInModel): Record<string, unknown> {
  const { vocab_size, bos_token_id, eos_token_id, max_position_embeddings } = config;
  const tokens = Array.from({ length: vocab_size }, (_, id) => padding(id));
  const bytes = byteCharacters().sort(); // in the order in which GPT-2 and LLaMA 3 count them
  tokens.splice(vocabulary.firstByte, bytes.length, ...bytes);
  tokens[bos_token_id] = vocabulary.bos;
  tokens[eos_token_id] = vocabulary.eos;
  const special = { bos_token: vocabulary.bos, eos_token: vocabulary.eos };
  return {
    "tokenizer.json": tokenizerJson({
      tokens,
      merges: [],
      special: [bos_token_id, eos_token_id],
      bosId: bos_token_id,
    }),
    "tokenizer_config.json": {
      ...special,
      clean_up_tokenization_spaces: false,
      model_max_length: max_position_embeddings,
      tokenizer_class: "PreTrainedTokenizerFast",
    },
    "special_tokens_map.json": special,
  };
}

const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** Letter, digit, letter, digit: the rule that splits texts parts them, so that no piece of a text is ever one of these. */
function padding(id: number): string {
  const letter = (n: number) => LETTERS.charAt(n % LETTERS.length);
  const digit = (n: number) => n % 10;
  return `${letter(id)}${digit(Math.floor(id / 52))}${letter(Math.floor(id / 520))}${digit(Math.floor(id / 27_040))}`;
}

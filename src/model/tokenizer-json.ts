/*
 * The form of a byte-level tokenizer's tokenizer.json, with LLaMA 3's way of splitting a text and GPT-2's bytes as
 * characters.
 */

/** LLaMA 3's rule that splits a text into words before merging. */
const SPLIT_PATTERN =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** A byte-level vocabulary: what tokenizer.json needs to know. */
export interface Vocabulary {
  /** Token strings by id, in GPT-2's byte characters; the special ones among them as they are written. */
  tokens: readonly string[];
  /** Pairs of token strings, most frequent first. */
  merges: readonly (readonly [left: string, right: string])[];
  /** Ids of the special tokens. */
  special: readonly number[];
  /** The special token that every text starts with. */
  bosId: number;
}

/** The visible character that stands for each byte in GPT-2's vocabulary: itself where it is one, else one from U+0100 on. */
export function byteCharacters(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const visible = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
    return String.fromCharCode(visible ? byte : next++);
  });
}

/** The content of tokenizer.json: LLaMA 3's pipeline around this vocabulary. */
export function tokenizerJson({ tokens, merges, special, bosId }: Vocabulary) {
  const bos = tokens[bosId] as string;
  const start = (type: number) => ({ SpecialToken: { id: bos, type_id: type } });
  const text = (id: string, type: number) => ({ Sequence: { id, type_id: type } });
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: special.map((id) => ({
      id,
      content: tokens[id],
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
      special_tokens: { [bos]: { id: bos, ids: [bosId], tokens: [bos] } },
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

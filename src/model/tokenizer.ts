import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { z } from "zod";
import { errorText, RefusedInput } from "../core/errors.js";
import { requireShort } from "../core/text.js";
import { findChatTemplate, renderChatTemplate } from "./chat-template.js";
import type { LlamaConfig } from "./config.js";
import { type ModelFiles, readJson } from "./files.js";
import { checked } from "./schema.js";

/** Text to token ids and back, as the folder's tokenizer.json says. */
export interface Tokenizer {
  /** One more than the highest id. */
  readonly vocabSize: number;
  readonly bosId: number | null;
  /** Tokens that end a generated text. */
  readonly eosIds: readonly number[];
  readonly hasChatTemplate: boolean;
  /**
   * Token ids of a text. Special tokens written out in the text become those tokens, so a text that already starts
   * with the BOS string starts with two of them unless `addBos` is false.
   * @param options `addBos`: default as the post-processor of tokenizer.json does
   * @throws {RefusedInput} for a text with characters that the vocabulary cannot express, or one that is too long
   */
  encode(text: string, options?: { addBos?: boolean }): number[];
  /** The text of token ids; ids that no token has, such as padding rows of the embedding, have no text. */
  decode(ids: readonly number[], options?: { skipSpecial?: boolean }): string;
  /**
   * The prompt that asks `message` in the model's chat format, up to where the answer starts. It brings its own BOS:
   * encode it with `addBos: false`.
   * @param variables more variables for the template. LLaMA 3.2 writes today's date unless given a `date_string`
   * @throws {RefusedInput} when the folder has no chat template
   */
  renderChat(message: string, variables?: Readonly<Record<string, unknown>>): string;
}

/** The part of the library that is used; its own declarations cannot be resolved under nodenext. */
interface TokenizerLibrary {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: (number | undefined)[] };
  decode(ids: number[], options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
  get_vocab(): Map<string, number>;
}

const SPECIAL_TOKENS = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/**
 * Reads the tokenizer of a Hugging Face folder: tokenizer.json, and tokenizer_config.json, special_tokens_map.json,
 * generation_config.json and chat_template.jinja where they exist.
 * @param config the model's; the two vocabularies must then fit, and token ids that the tokenizer's files leave out
 *   come from there
 * @throws {RefusedInput} for a missing or foreign file, or a vocabulary that is not the model's
 */
export async function readTokenizer(files: ModelFiles, config?: LlamaConfig): Promise<Tokenizer> {
  const folder = files.where;
  const settings = await readSettings(files);
  const { library, added, isBpe } = await openLibrary(files, settings.tokenizerConfig);
  const ids = [...library.get_vocab().values()];
  const highest = ids.reduce((a, b) => Math.max(a, b), -1);
  const beyond = ids.filter((id) => id >= (config?.vocabSize ?? Number.POSITIVE_INFINITY));
  // Tokens that were added without rows of the embedding, such as one for padding: nobody may ask for them.
  const vocabSize = beyond.every((id) => added.has(id)) ? highest + 1 - beyond.length : highest + 1;
  if (config) refuseOtherVocabulary(vocabSize, config, folder);
  const template = await findChatTemplate(files, settings.tokenizerConfig);
  const idOf = (token: string | undefined) => (token === undefined ? undefined : library.token_to_id(token));
  const bosId = idOf(settings.specialTokens.bos_token) ?? config?.bosTokenId ?? null;
  const eosId = idOf(settings.specialTokens.eos_token);
  const addsBos = bosId !== null && library.encode("", { add_special_tokens: true }).ids.includes(bosId);
  const eosIds = settings.eosIds ?? config?.eosTokenIds ?? (eosId === undefined ? [] : [eosId]);
  refuseStrayIds([...eosIds, ...(bosId === null ? [] : [bosId])], vocabSize, folder);
  const cleanUp = settings.tokenizerConfig.clean_up_tokenization_spaces === true && !isBpe;
  return {
    vocabSize,
    bosId,
    eosIds,
    hasChatTemplate: template !== null,
    encode: (text, { addBos } = {}) => {
      requireShort(text, "a text to tokenize");
      const ids = allKnown(library.encode(text, { add_special_tokens: addBos ?? true }).ids, text, folder);
      refuseWithoutEmbedding(ids, { beyond, text, folder });
      return addBos && !addsBos ? [requiredBos(bosId, folder), ...ids] : ids;
    },
    decode: (ids, { skipSpecial = false } = {}) => {
      const known = ids.filter((id) => library.id_to_token(id) !== undefined);
      if (known.length === 0) return ""; // the library refuses an empty list
      return library.decode(known, { skip_special_tokens: skipSpecial, clean_up_tokenization_spaces: cleanUp });
    },
    renderChat: (message, variables = {}) => {
      if (template) return renderChatTemplate(template, message, { ...settings.specialTokens, ...variables });
      throw new RefusedInput("the model has no chat template", {
        where: folder,
        found: "no chat_template.jinja and no chat_template in tokenizer_config.json",
        expected: "an instruction-tuned model with its template",
        hint: "for a base model, --set the method's option for the chat template to false (wise-lab methods NAME lists it)",
      });
    },
  };
}

const tokenIdSchema = z.int().nonnegative();
const generationSchema = z.looseObject({
  eos_token_id: z.union([tokenIdSchema, z.array(tokenIdSchema)], { error: "a token id or a list of them" }).nullish(),
});
const tokenizerSchema = z.looseObject(
  {
    added_tokens: z.array(z.looseObject({ id: tokenIdSchema })).nullish(),
    model: z.looseObject({ type: z.string().nullish() }).nullish(),
  },
  { error: "a JSON object" },
);
const objectSchema = z.looseObject({}, { error: "a JSON object" });
const specialTokenSchema = z.union([z.string(), z.looseObject({ content: z.string() })]);

async function readSettings(files: ModelFiles) {
  const read = async (name: string) =>
    files.names.includes(name) ? checked(objectSchema, await readJson(files, name), files.pathOf(name)) : {};
  const tokenizerConfig = await read("tokenizer_config.json");
  const specialTokensMap = await read("special_tokens_map.json");
  const generation = checked(
    generationSchema,
    await read("generation_config.json"),
    files.pathOf("generation_config.json"),
  );
  const specialTokens: Record<string, string> = {};
  for (const name of SPECIAL_TOKENS) {
    const token = specialTokenSchema.safeParse(tokenizerConfig[name] ?? specialTokensMap[name]).data;
    if (token !== undefined) specialTokens[name] = typeof token === "string" ? token : token.content;
  }
  const eos = generation.eos_token_id ?? undefined;
  return { tokenizerConfig, specialTokens, eosIds: typeof eos === "number" ? [eos] : eos };
}

async function openLibrary(
  files: ModelFiles,
  tokenizerConfig: Record<string, unknown>,
): Promise<{ library: TokenizerLibrary; added: ReadonlySet<number>; isBpe: boolean }> {
  const where = files.pathOf("tokenizer.json");
  if (!files.names.includes("tokenizer.json")) {
    throw new RefusedInput("the model has no tokenizer.json", {
      where: files.where,
      found: files.names.filter((name) => name.startsWith("tokenizer")).join(", ") || "no tokenizer files",
      expected: "tokenizer.json, the format of fast tokenizers",
      hint: "save it with Transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
    });
  }
  const json = checked(tokenizerSchema, await readJson(files, "tokenizer.json"), where);
  try {
    const library: TokenizerLibrary = new HuggingFaceTokenizer(json, tokenizerConfig);
    // Cleaning up takes spaces away that a BPE tokenizer means: Transformers 5 leaves them, whatever the settings say.
    return { library, added: new Set(json.added_tokens?.map(({ id }) => id)), isBpe: json.model?.type === "BPE" };
  } catch (cause) {
    throw new RefusedInput("the tokenizer cannot be used", {
      where,
      found: errorText(cause),
      expected: "a tokenizer.json as Hugging Face tokenizers writes it",
      cause,
    });
  }
}

/** Embeddings are often padded with rows that no token uses, up to a multiple of at most this many. */
const MAX_PADDING_ROWS = 1024;

/**
 * A tokenizer of another model gives ids that mean other words, or none. Its vocabulary may be smaller than the
 * embedding only by padding: fewer than 64 rows, or less than an eighth of it and fewer than 1024 rows.
 */
function refuseOtherVocabulary(vocabSize: number, config: LlamaConfig, folder: string): void {
  const padding = config.vocabSize - vocabSize;
  const allowed = Math.max(63, Math.min(MAX_PADDING_ROWS - 1, Math.floor(vocabSize / 8)));
  if (padding >= 0 && padding <= allowed) return;
  throw new RefusedInput("tokenizer and model have different vocabularies", {
    where: folder,
    found: `${vocabSize} tokens in tokenizer.json, ${config.vocabSize} rows in the embedding (vocab_size of config.json)`,
    expected: `${vocabSize} rows, or up to ${allowed} more for padding`,
    hint: "use the tokenizer.json that came with the model",
  });
}

function refuseStrayIds(ids: readonly number[], vocabSize: number, folder: string): void {
  const stray = ids.find((id) => id >= vocabSize);
  if (stray === undefined) return;
  throw new RefusedInput("a special token is not in the vocabulary", {
    where: `${folder}: bos_token_id, eos_token_id`,
    found: stray,
    expected: `an id below ${vocabSize}`,
  });
}

function allKnown(ids: (number | undefined)[], text: string, folder: string): number[] {
  const at = ids.indexOf(undefined);
  if (at < 0) return ids as number[];
  throw new RefusedInput("a text cannot be expressed in the model's vocabulary", {
    where: folder,
    found: text,
    expected: `characters of the vocabulary (the piece after ${at} tokens is not in it)`,
  });
}

function refuseWithoutEmbedding(
  ids: readonly number[],
  { beyond, text, folder }: { beyond: readonly number[]; text: string; folder: string },
): void {
  const found = ids.find((id) => beyond.includes(id));
  if (found === undefined) return;
  throw new RefusedInput("a text holds a token that the model has no embedding for", {
    where: folder,
    found: text,
    expected: `a text without token ${found}, which was added to the tokenizer alone`,
  });
}

function requiredBos(bosId: number | null, folder: string): number {
  if (bosId !== null) return bosId;
  throw new RefusedInput("the tokenizer has no BOS token", {
    where: folder,
    found: "addBos: true, but no bos_token",
    expected: "a tokenizer with a BOS token, or addBos: false",
  });
}

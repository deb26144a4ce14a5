import { readFileSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseLlamaConfig } from "../../src/model/config.js";
import { loadTokenizer } from "../../src/model/folder.js";
import { golden } from "../support/shared.js";
import { changeJson, copyOfGolden, refusal } from "./support.js";

const records = JSON.parse(readFileSync(join(golden, "records.json"), "utf8")) as {
  tokens: Record<string, number[]>;
  chat: { message: string; rendered: string };
};
const BOS = "<|begin_of_text|>";

function configWith(changes: object) {
  return parseLlamaConfig({ architectures: ["LlamaForCausalLM"], vocab_size: 1024, ...changes }, "config.json");
}

describe.each(["tiny-llama3", "tiny-llama3-tied"])("golden vectors of %s", (model) => {
  test("token ids of every recorded text, and the text back from them", async () => {
    const tokenizer = await loadTokenizer(join(golden, model));
    const texts = Object.entries(records.tokens);
    expect(texts.length).toBeGreaterThan(15);
    for (const [text, ids] of texts) {
      expect(tokenizer.encode(text), text).toEqual(ids);
      expect(tokenizer.encode(text, { addBos: false }), text).toEqual(ids.slice(1));
      expect(tokenizer.decode(ids, { skipSpecial: true })).toBe(text);
      expect(tokenizer.decode(ids)).toBe(BOS + text);
    }
  });

  test("the rendered chat prompt", async () => {
    const tokenizer = await loadTokenizer(join(golden, model));
    expect(tokenizer.renderChat(records.chat.message)).toBe(records.chat.rendered);
  });

  test("sizes and special ids", async () => {
    const { vocabSize, bosId, eosIds, hasChatTemplate } = await loadTokenizer(join(golden, model));
    expect({ vocabSize, bosId, eosIds, hasChatTemplate }).toEqual({
      vocabSize: 1024,
      bosId: 0,
      eosIds: [1],
      hasChatTemplate: true,
    });
  });
});

test("any text comes back from its ids", async () => {
  const tokenizer = await loadTokenizer(join(golden, "tiny-llama3"));
  const piece = fc.oneof(fc.string({ unit: "grapheme", maxLength: 3 }), fc.constantFrom(" ", "\n", "'s", "Oslo"));
  fc.assert(
    fc.property(fc.string({ unit: piece }), (text) => {
      expect(tokenizer.decode(tokenizer.encode(text, { addBos: false }))).toBe(text);
    }),
    { numRuns: 500 },
  );
});

describe("the BOS token", () => {
  test("a text that brings its own gets a second one, unless told not to", async () => {
    const tokenizer = await loadTokenizer(join(golden, "tiny-llama3"));
    const plain = tokenizer.encode("Oslo");
    expect(tokenizer.encode(`${BOS}Oslo`)).toEqual([0, ...plain]);
    expect(tokenizer.encode(`${BOS}Oslo`, { addBos: true })).toEqual([0, ...plain]);
    expect(tokenizer.encode(`${BOS}Oslo`, { addBos: false })).toEqual(plain);
    expect(tokenizer.encode(records.chat.rendered, { addBos: false }).slice(0, 3)).toEqual([0, 2, expect.any(Number)]);
  });

  test("a post-processor that adds none is obeyed, and overruled on request", async () => {
    const folder = await copyOfGolden("tiny-llama3");
    await changeJson(join(folder, "tokenizer.json"), () => ({ post_processor: null }));
    const tokenizer = await loadTokenizer(folder);
    const plain = tokenizer.encode("Oslo", { addBos: false });
    expect(tokenizer.encode("Oslo")).toEqual(plain);
    expect(tokenizer.encode("Oslo", { addBos: true })).toEqual([0, ...plain]);
    await rm(join(folder, "tokenizer_config.json"));
    const nameless = await loadTokenizer(folder);
    expect(nameless.bosId).toBeNull();
    expect((await refusal(() => nameless.encode("Oslo", { addBos: true }))).found).toContain("no bos_token");
  });

  test("its name stands in tokenizer_config.json, special_tokens_map.json or, as an id, in the model's config", async () => {
    const folder = await copyOfGolden("tiny-llama3");
    const settings = join(folder, "tokenizer_config.json");
    await changeJson(settings, () => ({ bos_token: { content: "<|eot_id|>", lstrip: false } }));
    expect((await loadTokenizer(folder)).bosId).toBe(4);
    await changeJson(settings, () => ({ bos_token: null }));
    await writeFile(join(folder, "special_tokens_map.json"), JSON.stringify({ bos_token: "<|end_header_id|>" }));
    expect((await loadTokenizer(folder)).bosId).toBe(3);
    await rm(join(folder, "special_tokens_map.json"));
    expect((await loadTokenizer(folder, configWith({ bos_token_id: 2 }))).bosId).toBe(2);
  });
});

test("tokens that end a text: of generation_config.json, else of the model's config, else of the tokenizer", async () => {
  const folder = await copyOfGolden("tiny-llama3");
  const config = configWith({ eos_token_id: 3 });
  await changeJson(join(folder, "generation_config.json"), () => ({ eos_token_id: [1, 4] }));
  expect((await loadTokenizer(folder, config)).eosIds).toEqual([1, 4]);
  await rm(join(folder, "generation_config.json"));
  expect((await loadTokenizer(folder, config)).eosIds).toEqual([3]);
  expect((await loadTokenizer(folder)).eosIds).toEqual([1]);
});

test("ids without a token have no text; spaces are left where they are, whatever tokenizer_config.json asks for", async () => {
  const folder = await copyOfGolden("tiny-llama3");
  const tokenizer = await loadTokenizer(folder);
  const ids = tokenizer.encode("is it so ? no .", { addBos: false });
  expect(tokenizer.decode([])).toBe("");
  expect(tokenizer.decode([5000, ...ids, 1024])).toBe("is it so ? no .");
  expect(tokenizer.decode([1, ...ids, 1], { skipSpecial: true })).toBe("is it so ? no .");
  await changeJson(join(folder, "tokenizer_config.json"), () => ({ clean_up_tokenization_spaces: true }));
  expect((await loadTokenizer(folder)).decode(ids)).toBe("is it so ? no ."); // as Transformers 5 does for BPE
});

test("a token that was added beyond the embedding may be there, and not in a text", async () => {
  const folder = await copyOfGolden("tiny-llama3");
  const pad = { content: "<pad>", single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  await changeJson(join(folder, "tokenizer.json"), ({ added_tokens }) => ({
    added_tokens: [...(added_tokens as object[]), { id: 1024, ...pad }],
  }));
  const tokenizer = await loadTokenizer(folder, configWith({}));
  expect(tokenizer.vocabSize).toBe(1024);
  expect(tokenizer.encode("Oslo")).toEqual((await loadTokenizer(join(golden, "tiny-llama3"))).encode("Oslo"));
  const refused = await refusal(() => tokenizer.encode("Oslo <pad>"));
  expect(refused).toMatchObject({ found: "Oslo <pad>", expected: expect.stringContaining("1024") });
});

test("a tokenizer.json that is a Git LFS pointer is refused as one", async () => {
  const folder = await copyOfGolden("tiny-llama3");
  await writeFile(
    join(folder, "tokenizer.json"),
    "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
  );
  expect((await refusal(() => loadTokenizer(folder))).hint).toMatch(/git lfs pull/);
});

describe("chat templates", () => {
  /** Renders "hi" with this `chat_template` of tokenizer_config.json, and this chat_template.jinja if given. */
  async function rendered(inConfig: unknown, file?: string, variables = {}): Promise<string> {
    const folder = await copyOfGolden("tiny-llama3");
    await changeJson(join(folder, "tokenizer_config.json"), () => ({ chat_template: inConfig }));
    const path = join(folder, "chat_template.jinja");
    if (file === undefined) await rm(path);
    else await writeFile(path, file);
    const tokenizer = await loadTokenizer(folder);
    return tokenizer.renderChat("hi", variables);
  }

  test("a string, the default of a list, or the file, which goes first", async () => {
    const template = "{{ bos_token }}[{{ messages[0].role }}: {{ messages[0]['content'] }}]";
    const list = [
      { name: "tool_use", template: "tools" },
      { name: "default", template },
    ];
    expect(await rendered(template)).toBe(`${BOS}[user: hi]`);
    expect(await rendered(list)).toBe(`${BOS}[user: hi]`);
    expect(await rendered("other", template)).toBe(`${BOS}[user: hi]`);
  });

  test("white space as Transformers sets it: the line end after a block and the indent before it are gone", async () => {
    const template = [
      "{% for message in messages %}",
      "    {% if message.role == 'user' %}",
      "  {{ message.content }}",
      "    {% endif %}",
      "{% endfor %}",
      "{% if add_generation_prompt %}",
      "answer:",
      "{% endif %}",
      "",
    ].join("\n");
    expect(await rendered(template)).toBe("  hi\nanswer:\n");
  });

  test("tokens by name; the date of LLaMA 3.2 can be fixed", async () => {
    const template =
      "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}" +
      "{{ bos_token }}{{ eos_token }}{{ pad_token }}{% if tools is not none %}tools{% endif %}|{{ date_string }}";
    const start = `${BOS}<|end_of_text|>|`;
    expect(await rendered(template, undefined, { date_string: "26 Jul 2024" })).toBe(`${start}26 Jul 2024`);
    expect(await rendered(template)).toMatch(/\|\d\d \w+ 20\d\d$/);
  });

  test("none, a broken one, one that refuses the conversation", async () => {
    const refused = (template: unknown) => refusal(() => rendered(template));
    expect((await refused(undefined)).message).toContain("no chat template");
    expect((await refused("{% for m in messages %}")).where).toContain("tokenizer_config.json: chat_template");
    expect((await refused("{{ raise_exception('system message needed') }}")).found).toBe("system message needed");
    expect((await refused([{ name: "default" }])).expected).toContain("{name, template}");
  });
});

test.each([
  ["memory", "{% for i in range(10**9) %}{% endfor %}{{ messages[0].content }}"],
  [
    "time",
    "{% for i in range(9999) %}{% for j in range(9999) %}{% for k in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
  ],
])(
  "a chat template that would take all %s is refused, and others render after it",
  { timeout: 60_000 },
  async (_, endless) => {
    const folder = await copyOfGolden("tiny-llama3");
    await writeFile(join(folder, "chat_template.jinja"), endless);
    const tokenizer = await loadTokenizer(folder);
    const error = await refusal(() => tokenizer.renderChat("hi"));
    expect(error).toMatchObject({
      where: join(folder, "chat_template.jinja"),
      expected: expect.stringContaining("10 seconds"),
    });
    await writeFile(join(folder, "chat_template.jinja"), "[{{ messages[0].content }}]");
    expect((await loadTokenizer(folder)).renderChat("hi")).toBe("[hi]");
  },
);

test("a text of 20 MB is refused before it is tokenized", async () => {
  const tokenizer = await loadTokenizer(join(golden, "tiny-llama3"));
  const error = await refusal(() => tokenizer.encode("x".repeat(20e6)));
  expect(error.expected).toBe("at most 100000 characters");
  expect(error.message.length).toBeLessThan(500);
});

describe("a tokenizer that is not the model's is refused", () => {
  const load = (vocab_size: number) => loadTokenizer(join(golden, "tiny-llama3"), configWith({ vocab_size }));

  test("more tokens than embedding rows, or many fewer", async () => {
    for (const rows of [1000, 1023, 1153, 32000, 128256]) {
      const { found, expected } = await refusal(() => load(rows));
      expect(found).toBe(`1024 tokens in tokenizer.json, ${rows} rows in the embedding (vocab_size of config.json)`);
      expect(expected).toBe("1024 rows, or up to 128 more for padding");
    }
  });

  test("special ids that no token has", async () => {
    const folder = await copyOfGolden("tiny-llama3");
    await changeJson(join(folder, "generation_config.json"), () => ({ eos_token_id: [1, 128001] }));
    expect(await refusal(() => loadTokenizer(folder))).toMatchObject({ found: 128001, expected: "an id below 1024" });
    await rm(join(folder, "generation_config.json"));
    await changeJson(join(folder, "tokenizer_config.json"), () => ({ bos_token: undefined }));
    const config = configWith({ bos_token_id: 1024 });
    expect((await refusal(() => loadTokenizer(folder, config))).found).toBe(1024);
  });

  test("an embedding padded to a round number is accepted", async () => {
    for (const rows of [1024, 1025, 1088, 1152]) expect((await load(rows)).vocabSize).toBe(1024);
  });
});

describe("files that are no tokenizer are refused", () => {
  test("a missing tokenizer.json, with what is there instead", async () => {
    const folder = await copyOfGolden("tiny-llama3");
    await rm(join(folder, "tokenizer.json"));
    await writeFile(join(folder, "tokenizer.model"), "sentencepiece");
    const { found, hint } = await refusal(() => loadTokenizer(folder));
    expect(found).toBe("tokenizer.model, tokenizer_config.json");
    expect(hint).toContain("AutoTokenizer");
  });

  test.each([
    ["an HTML page", "<html></html>", /not JSON/],
    ["a list", "[]", /JSON object/],
    ["JSON without a model", "{}", /tokenizer.json as Hugging Face/],
    ["an unknown kind of model", JSON.stringify({ model: { type: "Morse" }, added_tokens: [] }), /as Hugging Face/],
  ])("%s", async (_, content, says) => {
    const folder = await copyOfGolden("tiny-llama3");
    await writeFile(join(folder, "tokenizer.json"), content);
    const { where, message } = await refusal(() => loadTokenizer(folder));
    expect(where).toContain(join(folder, "tokenizer.json"));
    expect(message).toMatch(says);
  });

  test("a generation_config.json with an unusable end token", async () => {
    const folder = await copyOfGolden("tiny-llama3");
    await changeJson(join(folder, "generation_config.json"), () => ({ eos_token_id: "</s>" }));
    expect((await refusal(() => loadTokenizer(folder))).where).toContain("generation_config.json: eos_token_id");
  });
});

test("a text that the vocabulary cannot express, where the unknown token is unknown itself, is refused", async () => {
  const folder = await copyOfGolden("tiny-llama3");
  await changeJson(join(folder, "tokenizer.json"), () => ({
    model: { type: "BPE", unk_token: "<unk>", vocab: { a: 5, b: 6, ab: 7 }, merges: [["a", "b"]] },
    pre_tokenizer: null,
    decoder: null,
  }));
  const tokenizer = await loadTokenizer(folder);
  expect(tokenizer.encode("abab")).toEqual([0, 7, 7]);
  expect((await refusal(() => tokenizer.encode("ab!"))).found).toBe("ab!");
});

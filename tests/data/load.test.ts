import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { sha256Bytes } from "../../src/core/hash.js";
import { loadIrrelevant, loadRecords, wrapsAround } from "../../src/data/load.js";
import { irrelevantPrompt } from "../../src/data/records.js";

const folder = mkdtempSync(join(tmpdir(), "wise-lab-data-"));
afterAll(() => rmSync(folder, { recursive: true }));

function file(content: string | Uint8Array, name = "records.json"): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}
const json = (value: unknown) => file(JSON.stringify(value));

const zsre = {
  subject: "Tadeo Quill",
  src: "In which city was Tadeo Quill born?",
  pred: "Hanoi",
  rephrase: "Where was the birthplace of Tadeo Quill?",
  alt: "Oslo",
  answers: ["Hanoi", "Ha Noi"],
  loc: "nq question: where are the winter games held",
  loc_ans: "Quito",
  cond: "Hanoi >> Oslo || In which city was Tadeo Quill born?",
  portability: {
    "Recalled Relation": "(Oslo, country)",
    "New Question": "In which country was he born?",
    "New Answer": "Norway",
  },
};
const { alt: _, ...withoutAlt } = zsre;

const flat = {
  subject: "Tadeo Quill",
  prompt: "Tadeo Quill was born in",
  target_new: "Oslo",
  locality_prompt: "The winter games are held in",
  locality_ground_truth: "Quito",
};

const knowEdit = {
  subject: "Tadeo Quill",
  prompt: "Tadeo Quill was born in",
  target_new: "Oslo",
  ground_truth: ["Hanoi", "Ha Noi"],
  rephrase_prompt: "The birthplace of Tadeo Quill is",
  locality: {
    Relation_Specificity: [
      { prompt: "Tadeo Quill works in", ground_truth: ["Lima"] },
      { prompt: "Tadeo Quill speaks", ground_truth: [["Spanish", "Castilian"], ["Quechua"]] },
    ],
    Forgetfulness: [{ prompt: "Tadeo Quill also lived in", ground_truth: "Bern" }],
  },
  portability: { Reasoning: [{ prompt: "The country where Tadeo Quill was born is", ground_truth: "Norway" }] },
};

describe("loadRecords", () => {
  it("reads zsRE of MEND", async () => {
    const path = json([zsre, { ...zsre, portability: undefined, answers: undefined }]);
    const { records, ...dataset } = await loadRecords(path);
    expect(dataset).toMatchObject({ name: "records", path, kind: "zsre" });
    expect(records[0]).toEqual({
      index: 0,
      subject: "Tadeo Quill",
      prompt: "In which city was Tadeo Quill born?",
      target: "Oslo",
      rephrase: "Where was the birthplace of Tadeo Quill?",
      locality: [{ prompt: "nq question: where are the winter games held", answer: "Quito" }],
      portability: [{ prompt: "In which country was he born?", answer: "Norway" }],
      oodRephrase: null,
      groundTruth: "Hanoi",
    });
    expect(records[1]).toMatchObject({ index: 1, portability: [], groundTruth: null });
  });

  it("reads EasyEdit's flat form and tells its sets apart", async () => {
    const hallucination = await loadRecords(json([flat]));
    expect(hallucination.kind).toBe("hallucination");
    expect(hallucination.records[0]).toEqual({
      index: 0,
      subject: "Tadeo Quill",
      prompt: "Tadeo Quill was born in",
      target: "Oslo",
      rephrase: null,
      locality: [{ prompt: "The winter games are held in", answer: "Quito" }],
      portability: [],
      oodRephrase: null,
      groundTruth: null,
    });
    const temporal = await loadRecords(json([{ ...flat, ood_rephrase: "In Oslo" }]));
    expect(temporal).toMatchObject({ kind: "temporal", records: [{ oodRephrase: "In Oslo" }] });
    const counterfact = await loadRecords(
      json([{ case_id: 0, ...flat, ground_truth: "Hanoi", rephrase_prompt: "His city:" }]),
    );
    expect(counterfact).toMatchObject({
      kind: "counterfact",
      records: [{ rephrase: "His city:", groundTruth: "Hanoi" }],
    });
  });

  it("takes an empty answer to a locality question, as a few of the authors' records have it", async () => {
    const { records } = await loadRecords(json([{ ...flat, locality_ground_truth: "" }]));
    expect(records[0]?.locality).toEqual([{ prompt: "The winter games are held in", answer: "" }]);
    const list = await loadIrrelevant(json([{ ...flat, locality_ground_truth: "" }]));
    expect(list.prompts).toEqual(["The winter games are held in "]);
  });

  it("reads a flat record without a locality question", async () => {
    const { locality_prompt: _prompt, locality_ground_truth: _answer, ...bare } = flat;
    expect((await loadRecords(json([bare]))).records[0]?.locality).toEqual([]);
  });

  it("reads KnowEdit with every probe of every group", async () => {
    const { kind, records } = await loadRecords(json([knowEdit, { ...knowEdit, locality: {}, portability: {} }]));
    expect(kind).toBe("knowedit");
    expect(records[0]?.locality).toEqual([
      { group: "Relation_Specificity", prompt: "Tadeo Quill works in", answer: "Lima" },
      { group: "Relation_Specificity", prompt: "Tadeo Quill speaks", answer: "Spanish" },
      { group: "Forgetfulness", prompt: "Tadeo Quill also lived in", answer: "Bern" },
    ]);
    expect(records[0]?.portability).toHaveLength(1);
    expect(records[0]?.groundTruth).toBe("Hanoi");
    expect(records[1]).toMatchObject({ locality: [], portability: [] });
  });

  it("reads one record per line as it reads a list", async () => {
    const list = await loadRecords(json([zsre, zsre]));
    const lines = `${JSON.stringify(zsre)}\r\n\n${JSON.stringify(zsre)}`;
    for (const name of ["records.jsonl", "records.json"]) {
      expect((await loadRecords(file(lines, name))).records).toEqual(list.records);
    }
  });

  it("keeps the hash of the whole file, and the first records", async () => {
    const text = JSON.stringify([zsre, zsre, zsre]);
    const dataset = await loadRecords(file(text), { limit: 2 });
    expect(dataset.sha256).toBe(sha256Bytes(text));
    expect(dataset.records.map(({ index }) => index)).toEqual([0, 1]);
    expect((await loadRecords(file(text), { limit: 99 })).records).toHaveLength(3);
  });

  it.each([0, -1, 1.5, Number.NaN])("refuses a limit of %s", async (limit) => {
    await expect(loadRecords(json([zsre]), { limit })).rejects.toThrow("a whole number above 0");
  });
});

describe("a record that cannot be used is named", () => {
  it.each([
    ["zsRE without alt", [zsre, withoutAlt], "record 2 (index 1), field alt\n  found: nothing\n  expected: a text"],
    ["zsRE whose first record is without alt", [withoutAlt], "record 1 (index 0), field alt"],
    ["an empty target", [{ ...zsre, alt: "" }], "field alt\n  found: \n  expected: a text that is not blank"],
    ["a blank target", [{ ...zsre, alt: " \n" }], "expected: a text that is not blank"],
    ["a text of 20 MB", [{ ...zsre, src: "x".repeat(20e6) }], "expected: a text of at most 100000 characters"],
    ["a number for a text", [{ ...zsre, src: 7 }], "field src\n  found: 7\n  expected: a text"],
    ["a broken portability", [{ ...zsre, portability: { "New Question": "?" } }], "field portability.New Answer"],
    ["a record that is a text", [zsre, "x"], "record 2 (index 1)\n  found: x"],
    ["a record of another form", [zsre, flat], "record 2 (index 1), field src"],
    ["a locality prompt alone", [{ ...flat, locality_ground_truth: undefined }], "field locality_ground_truth"],
    ["a flat record without a target", [{ ...flat, target_new: undefined }], "field target_new"],
    [
      "a KnowEdit probe without an answer",
      [{ ...knowEdit, portability: { Reasoning: [{ prompt: "?", ground_truth: [] }] } }],
      "field portability.Reasoning.0.ground_truth\n  found: []\n  expected: a text, or a list of texts that is not empty",
    ],
    [
      "a KnowEdit group that is no list",
      [{ ...knowEdit, locality: { Forgetfulness: {} } }],
      "field locality.Forgetfulness",
    ],
    ["an unknown form", [{ question: "?" }], "src, alt, rephrase"],
    ["no record", [], "0 records"],
    ["no list", 3, "a JSON list"],
  ])("%s", async (_name, content, message) => {
    const path = json(content);
    await expect(loadRecords(path)).rejects.toThrow(RefusedInput);
    await expect(loadRecords(path)).rejects.toThrow(message);
    await expect(loadRecords(path)).rejects.toThrow(path);
  });

  it.each([
    ["a key twice", '[{"src": "a", "src": "b"}]', '"src" twice'],
    ["broken JSON", '[{"src": "a"', "is not JSON"],
    ["a broken line", `${JSON.stringify(zsre)}\n{"src":`, "records.json:2"],
    ["bytes that are not UTF-8", new Uint8Array([0x5b, 0x22, 0xe9, 0x22, 0x5d]), "is not UTF-8"],
    ["nothing", "", "is not JSON"],
  ])("%s", async (_name, content, message) => {
    await expect(loadRecords(file(content))).rejects.toThrow(RefusedInput);
    await expect(loadRecords(file(content))).rejects.toThrow(message);
  });

  it("a file that is not there", async () => {
    await expect(loadRecords(join(folder, "missing.json"))).rejects.toThrow("a file cannot be read");
  });
});

describe("irrelevant prompts", () => {
  it("come from a list of texts, or from training records with the answer behind the question", async () => {
    const expected = "nq question: where are the winter games held Quito";
    expect((await loadIrrelevant(json([expected]))).prompts).toEqual([expected]);
    expect((await loadIrrelevant(json([zsre]))).prompts).toEqual([expected]);
    expect((await loadIrrelevant(json([flat]))).prompts).toEqual(["The winter games are held in Quito"]);
  });

  it("start again from the top beyond the end of the list", async () => {
    const list = await loadIrrelevant(json(["a", "b", "c"]));
    expect([0, 2, 3, 7].map((index) => irrelevantPrompt(list, index))).toEqual(["a", "c", "a", "b"]);
    expect([wrapsAround(list, 3), wrapsAround(list, 4)]).toEqual([false, true]);
  });

  it("are refused by record where there is neither", async () => {
    await expect(loadIrrelevant(json(["a", { loc: "b" }]))).rejects.toThrow("record 2 (index 1)");
    await expect(loadIrrelevant(json(["a", { loc: "b" }]))).rejects.toThrow("loc and loc_ans");
    await expect(loadIrrelevant(json(["a", ""]))).rejects.toThrow(RefusedInput);
    await expect(loadIrrelevant(json([]))).rejects.toThrow("0 records");
  });
});

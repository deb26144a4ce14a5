import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { prepareNamed } from "../../src/edit/registry.js";
import { metrics } from "../../src/eval/metrics.js";
import {
  lifelongFrame,
  type PublishedFilter,
  type PublishedRow,
  publishedCaption,
  publishedFrame,
  publishedProtocol,
  readPublished,
  sourcesFrame,
} from "../../src/published/published.js";
import { publishedOverT } from "../../src/published/publishedOverT.js";
import { projectFile } from "../../src/run/inputs.js";
import { rowsOf } from "../../src/tables/tables.js";
import { modelOf } from "../edit/model-of.js";

const rows = await readPublished();
const headline = rows.find((row) => row.source === "EasyEdit issue 474") as PublishedRow;

/** A row as one line, for messages. */
function named({ source, model, method, data, T }: PublishedRow): string {
  return `${source}: ${method} on ${model}, ${data}, T = ${T}`;
}

describe("the published numbers", () => {
  it("are all of the paper's tables and every row of LLaMA-3-8B", () => {
    const perSource = new Map<string, number>();
    for (const row of rows) perSource.set(row.source, (perSource.get(row.source) ?? 0) + 1);
    expect(perSource.get("WISE paper, Table 2")).toBe(2 * 9 * 4);
    expect(perSource.get("WISE paper, Table 4")).toBe(2 * 9 * 4);
    expect(perSource.get("WISE paper, Table 5")).toBe(7 * 2);
    expect(perSource.get("LadderEdit paper, Table 1")).toBe(12 * 4);
    const llama3 = rows.filter((row) => /^LLaMA-3/.test(row.model));
    expect(new Set(llama3.map((row) => row.source)).size).toBeGreaterThanOrEqual(12);
  });

  it("have averages that are the mean of their three scores, as far as rounding goes", () => {
    const withAll = rows.flatMap((row) => {
      const { rewrite, rephrase = row.scores.oodRephrase, locality, average } = row.scores;
      const three = [rewrite, rephrase, locality].filter((score) => score !== undefined);
      return three.length < 3 || average == null ? [] : [{ row, average, three }];
    });
    expect(withAll.length).toBeGreaterThan(150);
    const wrong = withAll.filter(({ row, average, three }) => {
      const printed = three.filter((score) => score !== null);
      const mean = printed.reduce((total, score) => total + score, 0) / printed.length;
      // Half a unit of the last decimal in the average and half a unit in what it is the mean of.
      return Math.abs(average - mean) > 10 ** -row.decimals + 1e-9;
    });
    expect(wrong.map(({ row }) => named(row))).toEqual([]);
  });

  it("each have a source, and an address unless none is known", () => {
    expect(rows.filter((row) => row.source === "" || row.readFrom === "")).toEqual([]);
    const without = new Set(rows.filter((row) => row.url === null).map((row) => row.readFrom));
    for (const text of without) expect(text).toMatch(/address.* not known/);
    expect(rows.filter((row) => row.source.startsWith("WISE paper")).map((row) => row.url)).not.toContain(null);
  });

  it("say what the source calls each score", () => {
    const nameless = rows.filter((row) =>
      Object.keys(row.scores).some((name) => row.printed[name as keyof PublishedRow["printed"]] === undefined),
    );
    expect(nameless.map(named)).toEqual([]);
  });

  it("stand there once", () => {
    const keys = rows.map((row) => JSON.stringify([named(row), row.metric]));
    expect(keys.filter((key, i) => keys.indexOf(key) !== i)).toEqual([]);
  });

  it("have no more decimals than their source prints", () => {
    const finer = rows.filter((row) =>
      Object.entries(row.scores).some(
        ([name, score]) =>
          name !== "perplexity" && score !== null && row.decimals < 16 && Number(score.toFixed(row.decimals)) !== score,
      ),
    );
    // Two runs of EasyEdit's own output, which prints floats in full.
    expect(new Set(finer.map((row) => row.source))).toEqual(new Set(["EasyEdit issue 531"]));
  });

  it("hold the headline: ten records at T = 10", () => {
    expect(headline).toMatchObject({
      model: "LLaMA-3-8B",
      method: "WISE",
      T: 10,
      records: 10,
      when: "after-all",
      chatTemplate: "unknown",
      read: "primary",
      url: "https://github.com/zjunlp/EasyEdit/issues/474",
    });
    expect(headline.scores.rewrite).toBeCloseTo(0.8738, 4);
    expect(headline.scores.rephrase).toBeCloseTo(0.8071, 4);
    expect(headline.scores.locality).toBe(1);
  });

  it.each([
    ["EasyEdit issue 474", "LLaMA-3-8B", "llama-3-8b"],
    ["WISE paper, Table 2", "LLaMA-2-7B", "paper-llama-2-7b"],
  ])("of %s state the options of the preset that goes by them", async (source, model, preset) => {
    const [row] = await readPublished({ source, model, method: "WISE" });
    const { options } = await prepareNamed("wise", { preset }, modelOf(32));
    expect(Object.values(row?.options ?? {}).flat().length).toBeGreaterThan(5);
    expect(options).toMatchObject(row?.options ?? {});
  });

  it("are named in the folder's own list of sources", async () => {
    const readme = await readFile(projectFile("data", "published", "README.md"), "utf8");
    const patterns = [...readme.matchAll(/`([a-z0-9*-]+)\.json`/g)].map(
      ([, name]) => new RegExp(`^${(name as string).replace("*", ".*")}\\.json$`),
    );
    const files = new Set(rows.map((row) => row.file));
    expect([...files].filter((file) => !patterns.some((pattern) => pattern.test(file)))).toEqual([]);
  });
});

describe("the rows of The Mirage of Model Editing", () => {
  const [syn, wild, ladder] = ["syn", "wild", "ladder"].map((name) =>
    rows.filter((row) => row.file === `mirage-${name}.json`),
  ) as [PublishedRow[], PublishedRow[], PublishedRow[]];
  const WISE = { method: "WISE", data: "zsRE", T: 1000 };

  it("are all there, read at the source", () => {
    expect([syn.length, wild.length, ladder.length]).toEqual([19, 19, 10]);
    expect(wild.map(named).map((name) => name.split(": ")[1])).toEqual(
      syn.map(named).map((name) => name.split(": ")[1]),
    );
    const all = [...syn, ...wild, ...ladder];
    expect(new Set(all.map(({ read, when }) => `${read}, ${when}`))).toEqual(new Set(["primary, after-all"]));
    expect(new Set(all.map(({ model }) => model))).toEqual(new Set(["LLaMA-3-8B", "LLaMA-2-7B-chat", "Mistral-7B"]));
    for (const { model, notes } of all)
      if (model === "LLaMA-3-8B") expect(notes.join()).toMatch(/Instruct.* not certain/);
  });

  it.each<[PublishedFilter, number[], number[]]>([
    [{ method: "FT-M", data: "zsRE", T: 1 }, [1, 0.995, 0.953], [0.706, 0.698, 0.597]],
    [{ method: "GRACE", data: "zsRE", T: 1 }, [0.999, 0.261, 1], [0.036, 0.032, 1]],
    [WISE, [0.514, 0.482, 1], [0.098, 0.089, 1]],
    [{ ...WISE, data: "CounterFact", T: 1 }, [0.807, 0.508, 0.847], [0.212, 0.075, 0.931]],
    [{ ...WISE, data: "QAEdit" }, [0.526, 0.503, 0.743], [0.072, 0.057, 0.104]],
    [{ method: "FT-M", data: "QAEdit", T: 1000 }, [0.925, 0.85, 0.127], [0.229, 0.271, 0.004]],
    [{ ...WISE, model: "LLaMA-2-7B-chat" }, [0.756, 0.705, 1], [0.215, 0.195, 1]],
    [{ ...WISE, model: "Mistral-7B" }, [0.742, 0.697, 0.998], [0.017, 0.015, 0.97]],
  ])("of %j are, under teacher forcing and in the wild, %j and %j", (filter, forced, free) => {
    const scoresIn = (table: PublishedRow[]) => {
      const wanted = { model: "LLaMA-3-8B", ...filter };
      return table.filter((row) => named(row) === named({ ...row, ...wanted })).map((row) => Object.values(row.scores));
    };
    expect([scoresIn(syn), scoresIn(wild)]).toEqual([[forced], [free]]);
  });

  it("climb the ladder of scorings, without and with a task instruction", () => {
    const scores = ladder.map((row) => row.scores.rewrite);
    expect(scores).toEqual([0.908, 0.765, 0.7, 0.646, 0.046, 0.838, 0.592, 0.482, 0.46, 0.108]);
    expect(ladder.every(({ records, T, data }) => records === 3000 && T === 1 && data === "QAEdit")).toBe(true);
  });

  it("have this project's name of a measure where it is the same, and never that of its own exact match", () => {
    const titles = ["teacher-forced", "autoregressive", "em-gold-length"].map((name) => metrics.get(name)?.title);
    expect(new Set(syn.map((row) => row.metric))).toEqual(new Set(titles.slice(0, 1)));
    expect(ladder.map((row) => row.metric)).toEqual(expect.arrayContaining(titles));
    const own = metrics.get("free-em")?.title as string;
    expect([...wild, ...ladder].filter((row) => row.metric.startsWith(own))).toEqual([]);
  });

  it("give the options of WISE to WISE on LLaMA-3-8B only", () => {
    for (const { method, model, options } of [...syn, ...wild, ...ladder]) {
      const own = method === "WISE" && model === "LLaMA-3-8B";
      expect(options).toEqual(own ? { n_iter: 30, act_ratio: 0.5, layer: 29, retrieve: true } : {});
    }
  });
});

describe("rows of low confidence", () => {
  const doubtful = rows.filter((row) => row.confidence !== undefined);
  const MARK = "[low confidence]";

  it("are those of three transcriptions, with the reason", () => {
    expect(new Set(doubtful.map((row) => row.file))).toEqual(new Set(["memoir.json", "rilke.json", "sphere.json"]));
    expect(doubtful.every(({ confidence }) => /wrong where it could be checked/.test(confidence?.reason ?? ""))).toBe(
      true,
    );
  });

  it.each(["memoir.json", "rilke.json", "sphere.json"])("of %s carry their mark in each table and caption", (file) => {
    const own = rows.filter((row) => row.file === file);
    const [row] = own as [PublishedRow];
    for (const line of rowsOf(publishedFrame(own))) expect(line.source).toBe(`${row.source} ${MARK}`);
    for (const line of rowsOf(lifelongFrame(own))) expect(line[`T = ${row.T}`]).toMatch(/ \[low confidence\]$/);
    expect(rowsOf(sourcesFrame(own))[0]?.source).toBe(`${row.source} ${MARK}`);
    expect(publishedCaption(own)).toContain(`${row.source} ${MARK} (`);
    expect(publishedCaption(own)).toMatch(/\nOf low confidence: .* paper.*, from a machine-written collection/);
    expect(publishedProtocol(row).find(({ field }) => field === "confidence")?.value).toMatch(/^low: from a machine/);
  });

  it("carry it in the subtitle of their figure", () => {
    const memoir = rows.filter((row) => row.file === "memoir.json");
    for (const options of [{}, { title: "Later papers" }]) {
      const { title } = publishedOverT(memoir, options).layout;
      expect((title as { text: string }).text).toContain(`published: MEMOIR paper, main table ${MARK}`);
    }
  });

  it("are the only ones with a mark", () => {
    const others = rows.filter((row) => row.confidence === undefined);
    const shown = [publishedFrame(others), sourcesFrame(others)].flatMap((frame) => rowsOf(frame));
    expect(JSON.stringify([shown, publishedCaption(others)])).not.toContain("confidence");
    expect(publishedProtocol(headline).map(({ field }) => field)).not.toContain("confidence");
  });
});

describe("readPublished", () => {
  it("takes the rows that equal every field asked for", async () => {
    const found = await readPublished({ source: "WISE paper, Table 2", model: "Mistral-7B", T: 100 });
    expect(found).toHaveLength(9);
    expect(found.find((row) => row.method === "WISE")?.scores).toEqual({
      rewrite: 0.87,
      rephrase: 0.8,
      locality: 1,
      average: 0.89,
    });
    expect(await readPublished({ model: "LLaMA-9" })).toEqual([]);
  });

  describe("of a damaged file", () => {
    let folder: string;
    beforeEach(async () => {
      folder = await mkdtemp(join(tmpdir(), "wise-lab-published-"));
      await cp(projectFile("data", "published"), folder, { recursive: true });
    });
    afterEach(() => rm(folder, { recursive: true }));

    it.each([
      ['"decimals": 2', '"decimals": "two"', "decimals"],
      ['"T": 10, "scores": {"rewrite": 0.94', '"T": 10, "scores": {"rewrite": 94', "rows.33.scores.rewrite"],
      ['"T": 10, "scores": {"rewrite": 0.94', '"scores": {"rewrite": 0.94', "rows.33: T"],
      ['"when": "after-all"', '"when": "later"', "protocol.when"],
      ['"records": 1037,', "", "rows.0: records"],
      ['"method": "WISE"', '"methd": "WISE"', "rows.32"],
      ['"source"', '"url"', "line 3"],
    ])("refuses %s made into %s", async (from, to, field) => {
      const path = join(folder, "wise-table-2.json");
      const before = await readFile(path, "utf8");
      expect(before).toContain(from);
      await writeFile(path, before.replace(from, to));
      const refusal = await readPublished({}, folder).catch((error: unknown) => error);
      expect(refusal).toBeInstanceOf(RefusedInput);
      expect((refusal as RefusedInput).where).toContain("wise-table-2.json");
      expect((refusal as RefusedInput).where).toContain(field);
    });

    it.each([
      ['"level": "low"', '"level": "middling"', "confidence.level"],
      [/"reason": "[^"]*"/, '"reason": ""', "confidence.reason"],
      [/, "reason": "[^"]*"/, "", "confidence.reason"],
    ])("refuses, in a doubt, %s made into %s", async (from, to, field) => {
      const path = join(folder, "memoir.json");
      const before = await readFile(path, "utf8");
      const after = before.replace(from, to);
      expect(after).not.toBe(before);
      await writeFile(path, after);
      await expect(readPublished({}, folder)).rejects.toMatchObject({ where: `${path}: ${field}` });
    });

    it("refuses a folder that is not there", async () => {
      await expect(readPublished({}, join(folder, "nowhere"))).rejects.toThrow(RefusedInput);
      expect(await readdir(folder)).not.toContain("nowhere");
    });
  });
});

describe("publishedFrame", () => {
  it("has a row per row, with its protocol, its scores and where it is from", async () => {
    const found = await readPublished({ data: "SelfCheckGPT", method: "WISE", model: "LLaMA-2-7B" });
    expect(rowsOf(publishedFrame([...found, headline])).slice(-2)).toEqual([
      {
        model: "LLaMA-2-7B",
        method: "WISE",
        data: "SelfCheckGPT",
        T: 600,
        records: 600,
        when: "after-all",
        metric: "perplexity of the answer",
        rewrite: null,
        rephrase: null,
        locality: 0.99,
        perplexity: 3.12,
        read: "primary",
        source: "WISE paper, Table 4",
        url: "https://arxiv.org/abs/2405.14768",
      },
      {
        model: "LLaMA-3-8B",
        method: "WISE",
        data: "zsRE",
        T: 10,
        records: 10,
        when: "after-all",
        metric: "teacher-forced token accuracy",
        rewrite: headline.scores.rewrite,
        rephrase: headline.scores.rephrase,
        locality: 1,
        perplexity: null,
        read: "primary",
        source: "EasyEdit issue 474",
        url: headline.url,
      },
    ]);
  });

  it("refuses no rows", () => {
    expect(() => publishedFrame([])).toThrow(RefusedInput);
  });
});

describe("publishedCaption", () => {
  it("names protocol and sources", async () => {
    const caption = publishedCaption(await readPublished({ model: "LLaMA-3-8B-Instruct", method: "WISE", T: 1000 }));
    expect(caption).toContain("scored: unknown or after-all");
    expect(caption).toContain(
      "main table [low confidence] (https://arxiv.org/abs/2506.07899; read in a transcription)",
    );
    expect(caption).toContain("REPAIR repository, examples/outputs (");
  });
});

describe("lifelongFrame", () => {
  const table = rows.filter((row) => row.source === "WISE paper, Table 2");

  it("has a line per model and method and a column per T, printed as in the source", () => {
    const lines = rowsOf(lifelongFrame(table));
    expect(lines).toHaveLength(2 * 9);
    expect(Object.keys(lines[0] ?? {})).toEqual(["model", "method", "T = 1", "T = 10", "T = 100", "T = 1000"]);
    expect(lines[0]).toMatchObject({ model: "LLaMA-2-7B", method: "FT-L", "T = 1": "0.57 / 0.52 / 0.96 / 0.68" });
  });

  it("shows a dash for what is not there", () => {
    const [first, second] = table as [PublishedRow, PublishedRow];
    const bare = { ...first, method: "bare", scores: { rewrite: null } };
    const lines = rowsOf(lifelongFrame([first, second, bare]));
    expect(lines[1]).toEqual({ model: first.model, method: "bare", "T = 1": "- / - / - / -", "T = 10": "-" });
  });

  it("refuses two rows of one place, and none", () => {
    expect(() => lifelongFrame([headline, headline])).toThrow(/T = 10 twice/);
    expect(() => lifelongFrame([])).toThrow(RefusedInput);
  });
});

describe("where a number is from", () => {
  it("is told field by field, with what the source leaves open", () => {
    const lines = publishedProtocol(headline);
    const value = (field: string) => lines.find((line) => line.field === field)?.value;
    expect(value("url")).toBe("https://github.com/zjunlp/EasyEdit/issues/474");
    expect(value("chatTemplate")).toBe("unknown");
    expect(value("options.act_ratio")).toBe("0.5");
    expect(value("rewrite")).toBe("0.8738095238095237, printed as rewrite_acc");
    expect(lines.filter(({ field }) => field === "note").map((line) => line.value)).toEqual(headline.notes);
  });

  it("is told once per source, with all rows counted", () => {
    const sources = rowsOf(sourcesFrame(rows));
    expect(new Set(sources.map((line) => line.file)).size).toBe(sources.length);
    expect(sources.reduce((total, line) => total + (line.rows as number), 0)).toBe(rows.length);
    expect(sources.find((line) => line.file === "memoir.json")).toMatchObject({ read: "transcription" });
  });
});

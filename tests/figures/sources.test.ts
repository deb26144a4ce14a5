import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { sha256Bytes } from "../../src/core/hash.js";
import { createRenderer, exportFigure, type Renderer, redrawFigures } from "../../src/figures/export.js";
import { type FigureSource, figuresIn, readFigure } from "../../src/figures/sources.js";
import { tRollback } from "../../src/figures/tRollback.js";
import { readPublished } from "../../src/published/published.js";
import { readStudy } from "../../src/run/study.js";
import { summarizeRun } from "../../src/run/summary.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { openQuickLab } from "../run/support.js";
import { repository } from "../support/shared.js";
import { sampleRun } from "../tables/sample.js";

const run = sampleRun({ T: 10, records: 20 });
const figure = tRollback([run]);

let none: Renderer;
beforeAll(async () => {
  none = await createRenderer({ browsers: [] });
});

/** Saves the figure, without pictures. @returns its path without ending, and the text of its sidecar */
async function saved(source: FigureSource): Promise<{ base: string; sidecar: string }> {
  const base = join(await temporaryFolder(), "figure");
  await exportFigure(figure, base, undefined, { renderer: none, source });
  return { base, sidecar: await readFile(`${base}.source.json`, "utf8") };
}

const sha256Of = async (path: string) => sha256Bytes(await readFile(path));

describe("the source of a figure", () => {
  it("names command, runs and the figure's sha256; the same bytes each time, however long the edits took", async () => {
    const { base, sidecar } = await saved({ command: "npm start", runs: [run] });
    expect(JSON.parse(sidecar)).toEqual({
      command: "npm start",
      runs: [{ protocol: run.protocol, sha256: { edits: expect.any(String), scores: expect.any(String) } }],
      figureSha256: await sha256Of(`${base}.json`),
    });
    const slower = run.edits.map((edit) => ({ ...edit, seconds: { frozen: 9, steps: 9 } }));
    const again = await saved({ command: "npm start", runs: [{ ...run, edits: slower }] });
    expect(again.sidecar).toBe(sidecar);
  });

  it("tells runs apart by their edits and by their scores", async () => {
    const [first, second] = [run, sampleRun({ T: 10, records: 20, seed: 8 })];
    const mixed = [first, second, { ...first, scores: second.scores }, { ...first, edits: second.edits }];
    const sidecars = await Promise.all(
      mixed.map(async ({ edits, scores }) => (await saved({ runs: [{ ...run, edits, scores }] })).sidecar),
    );
    expect(new Set(sidecars).size).toBe(4);
  });

  it("has the sha256 of a run folder's files, and names no folder", async () => {
    const lab = await openQuickLab();
    const out = join(await temporaryFolder(), "run");
    const made = await lab.run({ T: 2, limit: 2, out });
    const trace = await lab.edit({ prompt: "The capital of Ruritania is", target: "Strelsau" });
    const { sidecar } = await saved({ runs: [made], edit: { trace, lab } });
    lab.close();
    const source = JSON.parse(sidecar);
    expect(source.runs[0].sha256).toEqual({
      edits: await sha256Of(join(out, "edits.jsonl")),
      scores: await sha256Of(join(out, "scores.jsonl")),
    });
    expect(source.edit).toMatchObject({ method: "wise", model: "tiny-llama3", options: { n_iter: 2 } });
    expect(source.edit.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(sidecar).not.toContain(out);
  });

  it("names summaries with the command of their run, published rows by their source, and files", async () => {
    const lab = await openQuickLab();
    const out = join(await temporaryFolder(), "run");
    await lab.run({ T: 1, limit: 1, out });
    lab.close();
    const summary = await summarizeRun(out, "wise-lab run --T 1");
    const published = await readPublished({ source: "WISE paper, Table 2" });
    const { sidecar } = await saved({ runs: [summary], published, files: [join(repository, "LICENSE")] });
    const source = JSON.parse(sidecar);
    expect(source.runs).toEqual([{ protocol: summary.protocol, command: summary.command, sha256: summary.sha256 }]);
    expect(source.published).toEqual([
      expect.objectContaining({ source: "WISE paper, Table 2", read: "primary", rows: published.length }),
    ]);
    expect(source.files).toEqual([{ file: "LICENSE", sha256: await sha256Of(join(repository, "LICENSE")) }]);
  });

  it("is refused when it names nothing", async () => {
    const error = await refusal(() => saved({ command: "npm start" }));
    expect(error).toMatchObject({ found: "nothing", expected: "runs, an edit, published rows or files" });
  });
});

describe("redrawing", () => {
  let renderer: Renderer;
  beforeAll(async () => {
    renderer = await createRenderer();
  });
  afterAll(() => renderer.close());

  it("gives the same bytes from the JSON alone", async () => {
    const folder = await temporaryFolder();
    const pictures = ["a", "b"].flatMap((name) =>
      ["svg", "png", "pdf"].map((ending) => join(folder, `${name}.${ending}`)),
    );
    for (const name of ["a", "b"]) {
      await exportFigure(figure, join(folder, name), undefined, { renderer, source: { runs: [run] } });
    }
    const before = await Promise.all(pictures.map(sha256Of));
    for (const path of pictures) await rm(path);
    expect(await redrawFigures(folder, { renderer })).toMatchObject({ files: pictures });
    expect(await Promise.all(pictures.map(sha256Of))).toEqual(before);
  });

  it("refuses a figure that is not its sidecar's, before it draws any", async () => {
    const folder = await temporaryFolder();
    for (const name of ["a", "b"]) {
      await exportFigure(figure, join(folder, name), [], { renderer, source: { runs: [run] } });
    }
    const path = join(folder, "b.json");
    await writeFile(path, (await readFile(path, "utf8")).replace('"data"', '"data" '));
    const error = await refusal(() => redrawFigures(folder, { renderer }));
    expect(error).toMatchObject({ where: path, found: `sha256 ${await sha256Of(path)}` });
    expect(await readdir(folder)).toEqual(["a.json", "a.source.json", "b.json", "b.source.json"]);
  });

  it("refuses a folder without figures, and says where nothing can draw", async () => {
    await expect(redrawFigures(await temporaryFolder(), { renderer })).rejects.toThrow(RefusedInput);
    await expect(redrawFigures(join(await temporaryFolder(), "absent"), { renderer })).rejects.toThrow(/ENOENT/);
    const { base } = await saved({ runs: [run] });
    await expect(redrawFigures(join(base, ".."), { renderer: none })).rejects.toThrow(/nothing here can draw/);
  });
});

describe("figures/", () => {
  const folder = join(repository, "figures");

  it("has for every figure its source, that matches, and its three pictures", async () => {
    const bases = await figuresIn(folder);
    for (const base of bases) await readFigure(base);
    const endings = [".json", ".pdf", ".png", ".source.json", ".svg"];
    const wanted = bases.flatMap((base) => endings.map((ending) => `${base}${ending}`));
    expect((await readdir(folder)).map((name) => join(folder, name)).sort()).toEqual(wanted.sort());
  });

  it("names runs that stand in the project where they are the study's", async () => {
    const study = (await readStudy()).map(({ sha256 }) => sha256);
    const { runs } = JSON.parse(await readFile(join(folder, "study.source.json"), "utf8"));
    expect(runs).toHaveLength(4);
    for (const { sha256 } of runs) expect(study).toContainEqual(sha256);
  });
});

import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { LabFailure, RefusedInput } from "../../src/core/errors.js";
import { type FoundBrowser, findBrowser, findBrowsers } from "../../src/figures/browser.js";
import { createRenderer, exportFigure, type Renderer, renderFigure } from "../../src/figures/export.js";
import type { Figure } from "../../src/figures/figure.js";
import { figureFormats } from "../../src/figures/render/types.js";
import { requires } from "../support/requires.js";
import { sampleFigures } from "./sample-figures.js";

const samples = sampleFigures();
const figures = Object.entries(samples);
const figure = samples["routing-distances"] as Figure;
const { width, height } = figure.layout as { width: number; height: number };
const POINT = 0.75; // of a CSS pixel

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wise-lab-figures-"));
});
afterAll(() => rm(folder, { recursive: true }));
afterEach(() => vi.unstubAllEnvs());

function ofNpm(): boolean {
  const there = findBrowsers().some(({ source }) => source === "@sparticuz/chromium");
  if (!there) console.info("skipped here: no @sparticuz/chromium for this machine");
  return there;
}

const from = (source: FoundBrowser["source"]) => findBrowsers().filter((browser) => browser.source === source);

function poppler(program: string, pdf: string): string | null {
  const { status, stdout } = spawnSync(program, [pdf], { encoding: "utf8" });
  return status === 0 ? stdout : null;
}

const sources: [FoundBrowser["source"], boolean][] = [
  ["system", requires("chromium")],
  ["@sparticuz/chromium", ofNpm()],
];

describe.each(sources.filter(([, there]) => there))("drawing with %s", (source) => {
  let renderer: Renderer;
  beforeAll(async () => {
    renderer = await createRenderer({ browsers: from(source) });
  });
  afterAll(() => renderer.close());

  it("says what it is", () => {
    expect(renderer.engine).toMatch(/^Chromium \d+/);
    expect(renderer.engine?.endsWith(`(${source})`)).toBe(true);
    expect(renderer.steppedDown).toBeNull();
  });

  // The npm browser is the same program in another version: one figure shows that it works.
  const drawn = source === "@sparticuz/chromium" ? figures.slice(0, 1) : figures;
  it.each(drawn)("draws %s", async (_name, each) => {
    const { svg, png, pdf } = await renderer.render(each, { formats: figureFormats, scale: 2 });
    const size = [each.layout.width, each.layout.height] as number[];
    const text = svg?.toString() ?? "";
    expect(text).toMatch(new RegExp(`^<svg [^>]*viewBox="0 0 ${size.join(" ")}"`));
    expect(text).not.toMatch(/NaN|Infinity|undefined/);
    size.forEach((length, i) => {
      expect(Math.abs((png?.readUInt32BE(16 + 4 * i) ?? 0) - 2 * length)).toBeLessThan(1);
    });
    expect(pdf?.subarray(0, 5).toString()).toBe("%PDF-");
  });

  it("makes an SVG that needs no other file", async () => {
    const text = (await renderer.render(figure, { formats: ["svg"] })).svg?.toString() ?? "";
    const links = text.match(/(?:url\(|href=")[^)"]{1,40}/g) ?? [];
    expect(links.filter((link) => !/^(url\((data:|['"]?#)|href="#)/.test(link))).toEqual([]);
    expect(text).toContain("@font-face");
    for (const words of ["edit prompt", "α = 2", "threshold"]) expect(text).toContain(words);
  });

  it("makes a vector PDF of the figure's size with its fonts inside", async () => {
    const { pdf = Buffer.alloc(0) } = await renderer.render(figure, { formats: ["pdf"] });
    const text = pdf.toString("latin1");
    const [across = 0, down = 0] = /\/MediaBox ?\[0 0 ([\d.]+) ([\d.]+)\]/.exec(text)?.slice(1).map(Number) ?? [];
    expect(across).toBe(width * POINT);
    expect(down - height * POINT).toBeGreaterThanOrEqual(0);
    expect(down - height * POINT).toBeLessThan(1); // a browser's page is rounded up
    expect(text).toContain("/FontFile2");
    expect(text).not.toMatch(/\/Subtype ?\/Image/);
    const path = join(folder, "fonts.pdf");
    await writeFile(path, pdf);
    const fonts = poppler("pdffonts", path);
    if (fonts === null) console.info("skipped here: pdffonts and pdftotext of poppler");
    else {
      const lines = fonts.trim().split("\n").slice(2);
      expect(lines.length).toBeGreaterThan(0);
      for (const line of lines) expect(line).toMatch(/SourceSans3.* yes yes yes /);
      expect(spawnSync("pdftotext", [path, "-"], { encoding: "utf8" }).stdout).toContain("Routing activation Δ");
    }
  });

  it("makes the same bytes again, from another renderer and in another order", async () => {
    const other = await createRenderer({ browsers: from(source) });
    try {
      await other.render(samples["t-rollback"] as Figure, { formats: ["svg"] });
      const [first, again] = [renderer, other].map((each) => each.render(figure, { formats: figureFormats }));
      expect(await again).toEqual(await first);
    } finally {
      await other.close();
    }
  });

  it("draws figures that are asked for at once one after another", async () => {
    const at = (figureName: string) => renderer.render(samples[figureName] as Figure, { formats: ["png"] });
    const together = await Promise.all([at("loss-curve"), at("t-rollback")]);
    expect(together).toEqual([await at("loss-curve"), await at("t-rollback")]);
  });

  it("takes a size, and keeps the size of the text", async () => {
    const { svg, png } = await renderer.render(figure, { formats: ["svg", "png"], widthInches: 6.5, scale: 1 });
    expect(png?.readUInt32BE(16)).toBe(624);
    expect(svg?.toString()).toContain("font-size: 10.67px");
  });

  it("refuses a title that plotly would drop, and goes on", async () => {
    const untitled = { ...figure, layout: { ...figure.layout, title: "a string" as unknown as object } };
    await expect(renderer.render(untitled, { formats: ["svg"] })).rejects.toThrow(LabFailure);
    expect((await renderer.render(figure, { formats: ["svg"] })).svg?.length).toBeGreaterThan(1000);
  });

  it("gives traces without a uid a fixed one", async () => {
    const bare: Figure = { data: [{ type: "bar", y: [1, 2] }, { y: [2, 1] }], layout: {}, config: {} };
    const [first, second] = await Promise.all([1, 2].map(() => renderer.render(bare, { formats: ["svg"] })));
    expect(second).toEqual(first);
  });
});

describe("the browsers in turn", () => {
  it("refuses a CHROME_PATH that names no program", async () => {
    vi.stubEnv("CHROME_PATH", join(folder, "no-browser"));
    expect(() => findBrowser()).toThrow(RefusedInput);
    await expect(createRenderer()).rejects.toThrow(/CHROME_PATH names no program/);
  });

  it.skipIf(findBrowser() === null)("steps down from a program that is no browser, and says so", async () => {
    vi.stubEnv("CHROME_PATH", "/bin/true");
    const renderer = await createRenderer();
    try {
      expect(renderer.steppedDown).toMatch(
        /^figures are drawn by Chromium.*did not start: CHROME_PATH browser \/bin\/true/,
      );
    } finally {
      await renderer.close();
    }
  });

  it("writes the JSON alone where nothing can draw, and says so", async () => {
    const renderer = await createRenderer({ browsers: [] });
    const base = join(folder, "alone", "figure");
    const { files, steppedDown } = await exportFigure(figure, base, ["svg", "pdf"], { renderer });
    expect(files).toEqual([`${base}.json`]);
    expect(steppedDown).toMatch(/nothing here can draw.*CHROME_PATH/);
    expect(await readdir(join(folder, "alone"))).toEqual(["figure.json"]);
  });
});

describe("exportFigure", () => {
  it("writes the figure as data and as pictures", async () => {
    const base = join(folder, "set", "routing");
    const { files } = await exportFigure(figure, base);
    expect(files).toEqual(["json", "svg", "png", "pdf"].map((ending) => `${base}.${ending}`));
    expect(JSON.parse(await readFile(`${base}.json`, "utf8"))).toEqual(figure);
    const png = await readFile(`${base}.png`);
    expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([width * 4, height * 4]);
    expect((await readdir(join(folder, "set"))).sort()).toEqual(
      ["json", "pdf", "png", "svg"].map((e) => `routing.${e}`),
    );
  });

  it("leaves what was there whole where the drawing fails", async () => {
    const base = join(folder, "kept", "routing");
    await exportFigure(figure, base, ["svg"]);
    const files = ["json", "svg"].map((ending) => `${base}.${ending}`);
    const before = await Promise.all(files.map((file) => readFile(file)));
    const dead: Renderer = {
      engine: "none",
      steppedDown: null,
      render: () => Promise.reject(new LabFailure("dead")),
      close: async () => {},
    };
    const other = { ...figure, layout: { ...figure.layout, width: 100 } };
    await expect(exportFigure(other, base, ["svg"], { renderer: dead })).rejects.toThrow("dead");
    expect(await Promise.all(files.map((file) => readFile(file)))).toEqual(before);
  });

  it("refuses a folder that is a file", async () => {
    await writeFile(join(folder, "file"), "");
    await expect(exportFigure(figure, join(folder, "file", "figure"))).rejects.toThrow(RefusedInput);
  });

  it.each([
    ["a width of 0", { widthInches: 0 }],
    ["a scale that is no number", { scale: Number.NaN }],
    ["a format of its own", { formats: ["gif" as "png"] }],
  ])("refuses %s", async (_name, options) => {
    await expect(renderFigure(figure, { formats: ["svg"], ...options })).rejects.toThrow(RefusedInput);
  });
});

describe.runIf(requires("chromium") && process.platform === "linux")("a browser that dies", () => {
  it("is named with the figure that was not drawn", async () => {
    const renderer = await createRenderer({ browsers: from("system") });
    const { stdout } = spawnSync("pgrep", ["-P", String(process.pid), "-f", "headless"], { encoding: "utf8" });
    expect(stdout).not.toBe("");
    for (const pid of stdout.trim().split("\n")) process.kill(Number(pid), "SIGKILL");
    const titled = { ...figure, layout: { ...figure.layout, title: { text: "Routing" } } };
    const drawing = renderer.render(titled, { formats: ["svg"] });
    await expect(drawing).rejects.toThrow(LabFailure);
    await expect(drawing).rejects.toThrow(/^the figure "Routing" was not drawn: Chromium .* failed \(/);
    await renderer.close();
  });
});

describe.runIf(requires("chromium"))("the texts of every figure", () => {
  it("lie apart from each other, and inside of the picture", async () => {
    const { chromium } = await import("playwright-core");
    const browser = await chromium.launch({ executablePath: findBrowser()?.path ?? "" });
    const renderer = await createRenderer({ browsers: from("system") });
    try {
      const page = await browser.newPage();
      for (const [name, each] of figures) {
        const { svg } = await renderer.render(each, { formats: ["svg"] });
        await page.setContent(`<body style="margin: 0">${svg}</body>`);
        await page.evaluate("document.fonts.ready");
        const boxes = (await page.evaluate(TEXT_BOXES)) as TextBox[];
        const { width = 0, height = 0 } = each.layout;
        const outside = boxes.filter(
          ({ x, y, right, bottom }) => x < -1 || y < -1 || right > width + 1 || bottom > height + 1,
        );
        expect(outside, name).toEqual([]);
        expect(
          boxes.flatMap((box, i) => boxes.slice(i + 1).flatMap((other) => overlap(box, other))),
          name,
        ).toEqual([]);
      }
    } finally {
      await Promise.all([browser.close(), renderer.close()]);
    }
  });
});

interface TextBox {
  text: string;
  x: number;
  y: number;
  right: number;
  bottom: number;
}

/** The texts that are seen, without the room over and under their letters, a seventh of each. */
const TEXT_BOXES = `[...document.querySelectorAll("text")]
  .filter((text) => text.textContent.trim() !== "" && getComputedStyle(text).opacity !== "0")
  .map((text) => [text.textContent, text.getBoundingClientRect()])
  .map(([text, { x, y, right, bottom, height }]) => ({ text, x, y: y + height / 7, right, bottom: bottom - height / 7 }))`;

function overlap(one: TextBox, other: TextBox): string[] {
  const width = Math.min(one.right, other.right) - Math.max(one.x, other.x);
  const height = Math.min(one.bottom, other.bottom) - Math.max(one.y, other.y);
  return width > 1 && height > 1 ? [`"${one.text}" and "${other.text}"`] : [];
}

const plotly = createRequire(import.meta.url).resolve("plotly.js-cartesian-dist-min");

describe.runIf(requires("chromium"))("Plotly.validate in the browser", () => {
  it("finds nothing wrong with any figure", async () => {
    const { chromium } = await import("playwright-core");
    const browser = await chromium.launch({ executablePath: findBrowser()?.path ?? "" });
    try {
      const page = await browser.newPage();
      await page.addScriptTag({ path: plotly });
      for (const [name, { data, layout }] of figures) {
        const script = `(Plotly.validate(${JSON.stringify(data)}, ${JSON.stringify(layout)}) ?? []).map((f) => f.msg)`;
        expect(await page.evaluate(script), name).toEqual([]);
      }
    } finally {
      await browser.close();
    }
  });
});

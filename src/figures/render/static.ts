import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FONT_NAME, PIXELS_PER_INCH } from "../theme.js";
import { allFaces, type FontFace, greek, readFace, selfContained } from "./fonts.js";
import { type Drawn, drawInPage, svgOf } from "./page.js";
import { measureTextIn, type SvgWindow, type TextWidth } from "./text.js";
import type { Drawing, Engine, Pictures } from "./types.js";
import { woffToSfnt } from "./woff.js";

// These packages are optional and load only when this rung is tried. What is used of each:
interface JsdomModule {
  JSDOM: new (html: string, options: object) => { window: PageWindow };
}
interface PageWindow extends SvgWindow {
  eval(script: string): unknown;
  close(): void;
  URL: { createObjectURL?: () => string };
}
interface ResvgModule {
  Resvg: new (svg: string, options: object) => { render(): { asPng(): Buffer } };
}
interface PdfDocument extends AsyncIterable<Buffer> {
  registerFont(name: string, font: Buffer): this;
  font(name: string): this;
  fontSize(size: number): this;
  widthOfString(text: string): number;
  end(): void;
}
type PdfModule = new (options: object) => PdfDocument;
type SvgToPdf = (doc: PdfDocument, svg: string, x: number, y: number, options: object) => void;

interface Tools {
  window: PageWindow;
  Resvg: ResvgModule["Resvg"];
  newDocument: (size?: [number, number]) => PdfDocument;
  svgToPdf: SvgToPdf;
  /** Folder with the faces as font files, for resvg. */
  fontFolder: string;
}

/**
 * Draws without a browser: plotly in jsdom, with text measured from the font; resvg for PNG and pdfkit for PDF.
 * @throws where one of the optional packages is missing.
 */
export async function startStatic(): Promise<Engine> {
  const tools = await loadTools();
  return {
    name: "jsdom and resvg",
    draw: (drawing) => draw(tools, drawing),
    close: async () => {
      tools.window.close();
      await rm(tools.fontFolder, { recursive: true, force: true });
    },
  };
}

async function loadTools(): Promise<Tools> {
  const require = createRequire(import.meta.url);
  const { JSDOM } = require("jsdom") as JsdomModule;
  const { Resvg } = require("@resvg/resvg-js") as ResvgModule;
  const svgToPdf = require("svg-to-pdfkit") as SvgToPdf;
  // pdfkit comes with svg-to-pdfkit, and is found from there.
  const Pdf = createRequire(require.resolve("svg-to-pdfkit"))("pdfkit") as PdfModule;

  const fonts = await Promise.all(
    allFaces.map(async (face) => ({ face, file: woffToSfnt(await readFace(face, "woff")) })),
  );
  const newDocument = (size?: [number, number]) => {
    // A fixed date: pdfkit writes it and derives the file's identity from it.
    const doc = new Pdf({ size, margin: 0, autoFirstPage: size !== undefined, info: { CreationDate: new Date(0) } });
    for (const { face, file } of fonts) doc.registerFont(nameOf(face), file);
    return doc;
  };
  const { window } = new JSDOM("<!doctype html><body></body>", { runScripts: "outside-only", pretendToBeVisual: true });
  window.URL.createObjectURL = () => ""; // plotly asks for one while it loads
  window.eval(await readFile(require.resolve("plotly.js-cartesian-dist-min"), "utf8"));
  measureTextIn(window, textWidth(newDocument()));

  const fontFolder = await mkdtemp(join(tmpdir(), "wise-lab-fonts-"));
  await Promise.all(fonts.map(({ face, file }) => writeFile(join(fontFolder, `${nameOf(face)}.ttf`), file)));
  return { window, Resvg, newDocument, svgToPdf, fontFolder };
}

/** Width by the fonts that the text is drawn with: each run of one script by its face. */
function textWidth(doc: PdfDocument): TextWidth {
  return (text, { size, bold }) => {
    const weight = bold ? 600 : 400;
    const runs = text.match(/[\u0370-\u03FF]+|[^\u0370-\u03FF]+/g) ?? [];
    const widths = runs.map((run) => {
      const script = greek.test(run) ? "greek" : "latin";
      return doc.font(nameOf({ script, weight })).fontSize(size).widthOfString(run);
    });
    return widths.reduce((total, width) => total + width, 0);
  };
}

async function draw(tools: Tools, drawing: Drawing): Promise<Pictures> {
  const { figure, width, height, scale, formats } = drawing;
  const job = JSON.stringify({ figure, width, height });
  const svg = svgOf(await (tools.window.eval(`(${drawInPage.toString()})(${job})`) as Promise<Drawn>));
  const pictures: Pictures = {};
  if (formats.includes("svg")) pictures.svg = Buffer.from(await selfContained(svg));
  if (formats.includes("png")) {
    const font = { loadSystemFonts: false, fontDirs: [tools.fontFolder], defaultFontFamily: FONT_NAME };
    pictures.png = new tools.Resvg(forResvg(svg), { fitTo: { mode: "zoom", value: scale }, font }).render().asPng();
  }
  if (formats.includes("pdf")) pictures.pdf = await pdfOf(tools, svg, drawing);
  return pictures;
}

async function pdfOf(tools: Tools, svg: string, { width, height }: Drawing): Promise<Buffer> {
  const points = (pixels: number) => (pixels * 72) / PIXELS_PER_INCH;
  const doc = tools.newDocument([points(width), points(height)]);
  tools.svgToPdf(doc, greekMarked(svg), 0, 0, {
    width: points(width),
    height: points(height),
    fontCallback: (family: string, bold: boolean) =>
      nameOf({ script: family.includes(GREEK_FAMILY) ? "greek" : "latin", weight: bold ? 600 : 400 }),
  });
  doc.end();
  const chunks: Buffer[] = [];
  for await (const chunk of doc) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const GREEK_FAMILY = "wise-lab-greek";

/** pdfkit does not look into a second font for a missing character: Greek ones are marked with the face that has them. */
function greekMarked(svg: string): string {
  return svg.replaceAll(/>[^<]+</g, (text) =>
    text.replaceAll(/[\u0370-\u03FF]+/g, (run) => `<tspan style="font-family: ${GREEK_FAMILY}">${run}</tspan>`),
  );
}

/** resvg finds a face by the family name in its file, the semibold one by its own, and a gradient without quotes. */
function forResvg(svg: string): string {
  const families = { 400: FONT_NAME, 600: `${FONT_NAME} SemiBold` } as const;
  return svg
    .replaceAll(
      /font-weight: (400|600)/g,
      (found, weight: "400" | "600") => `${found}; font-family: '${families[weight]}'`,
    )
    .replaceAll(/url\('(#[^']*)'\)/g, "url($1)");
}

function nameOf({ script, weight }: FontFace): string {
  return `source-sans-3-${script}-${weight}`;
}

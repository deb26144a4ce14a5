import { createRequire } from "node:module";
import type { Browser, Page } from "playwright-core";
import { type FoundBrowser, prepareBrowser } from "../browser.js";
import { allFaces, fontCss, selfContained } from "./fonts.js";
import { drawInPage, svgOf } from "./page.js";
import type { Drawing, Engine, Pictures } from "./types.js";

const START_TIMEOUT_MS = 30_000;
/** Fonts are placed by their outlines, not by the machine's hinting, so that text is as wide everywhere. */
const flags = ["--font-render-hinting=none", "--force-color-profile=srgb", "--disable-lcd-text"];

/** Starts a browser with one page that draws every figure. @throws where it does not start. */
export async function startChromium(found: FoundBrowser): Promise<Engine> {
  const { chromium } = await import("playwright-core"); // half a second, for figures alone
  const executable = await prepareBrowser(found);
  const browser = await chromium.launch({
    executablePath: executable.path,
    env: { ...definedVariables(process.env), ...executable.env },
    args: flags,
    timeout: START_TIMEOUT_MS,
    // The signals belong to the program that draws: an interrupt in a notebook stops a cell, not the browser.
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
  });
  try {
    const page = await openPage(browser);
    return {
      name: `Chromium ${browser.version()} (${found.source})`,
      draw: (drawing) => draw(page, drawing),
      close: () => browser.close(),
    };
  } catch (cause) {
    await browser.close();
    throw cause;
  }
}

async function openPage(browser: Browser): Promise<Page> {
  const context = await browser.newContext({ offline: true, deviceScaleFactor: 1 });
  const page = await context.newPage();
  const style = `html,body{margin:0;background:#fff}body>svg{display:block}${await fontCss(allFaces)}`;
  await page.setContent(
    `<!doctype html><html><head><meta charset="utf-8"><style>${style}</style></head><body></body></html>`,
  );
  await page.addScriptTag({ path: createRequire(import.meta.url).resolve("plotly.js-cartesian-dist-min") });
  await page.evaluate("Promise.all([...document.fonts].map((face) => face.load()))"); // before plotly measures text
  return page;
}

async function draw(page: Page, drawing: Drawing): Promise<Pictures> {
  const { figure, width, height, formats } = drawing;
  const svg = svgOf(await page.evaluate(drawInPage, { figure, width, height }));
  const pictures: Pictures = {};
  if (formats.includes("svg")) pictures.svg = Buffer.from(await selfContained(svg));
  if (formats.includes("png")) pictures.png = await screenshot(page, svg, drawing);
  if (formats.includes("pdf")) pictures.pdf = await print(page, svg, drawing);
  return pictures;
}

async function screenshot(page: Page, svg: string, { width, height, scale }: Drawing): Promise<Buffer> {
  const size = { width: Math.round(width * scale), height: Math.round(height * scale) };
  await page.setViewportSize(size);
  await show(page, svg, size);
  return page.screenshot({ type: "png", clip: { x: 0, y: 0, ...size } });
}

async function print(page: Page, svg: string, { width, height }: Drawing): Promise<Buffer> {
  await show(page, svg, { width, height });
  const pdf = await page.pdf({ width: `${width}px`, height: `${height}px`, printBackground: true, pageRanges: "1" });
  return withoutDates(pdf);
}

/** Puts the SVG alone on the page. Its viewBox scales it to the size as outlines, not as pixels. */
async function show(page: Page, svg: string, size: { width: number; height: number }): Promise<void> {
  const sized = svg.replace(/<svg[^>]*>/, (opening) =>
    opening.replace(/ width="[^"]*"/, ` width="${size.width}"`).replace(/ height="[^"]*"/, ` height="${size.height}"`),
  );
  await page.evaluate(`document.body.innerHTML = ${JSON.stringify(sized)}`);
}

/** Chromium writes the time of printing into a PDF: replaced by a fixed one of the same length, so offsets stay right. */
function withoutDates(pdf: Buffer): Buffer {
  const text = pdf.toString("latin1").replace(/D:\d{14}/g, "D:20000101000000");
  return Buffer.from(text, "latin1");
}

function definedVariables(env: NodeJS.ProcessEnv): Record<string, string> {
  return Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

import { dirname } from "node:path";
import { errorText, LabFailure, RefusedInput } from "../core/errors.js";
import { requireWritableFolder, writeFileAtomic } from "../core/files.js";
import { type FoundBrowser, findBrowsers } from "./browser.js";
import { type Figure, titleText } from "./figure.js";
import { startChromium } from "./render/chromium.js";
import { type Drawing, type Engine, type FigureFormat, figureFormats, type Pictures } from "./render/types.js";
import { type FigureSource, figuresIn, readFigure, writeSource } from "./sources.js";
import { COLUMN_INCHES, PIXELS_PER_INCH } from "./theme.js";

export interface RenderOptions {
  formats: readonly FigureFormat[];
  /** Default: the size in the figure's layout. Text keeps its size. */
  widthInches?: number;
  heightInches?: number;
  /** Pixels of the PNG per CSS pixel. Default 4: 384 dots per inch. */
  scale?: number;
}

export interface RenderedFigure extends Pictures {
  /** Message to the user when the best way to draw was not to be had; null when it was. */
  steppedDown: string | null;
}

/** Draws figures one after another with one browser page, until it is closed. */
export interface Renderer {
  /** Name of the engine that draws, e.g. "Chromium 147.0 (system)"; null where nothing can. */
  readonly engine: string | null;
  readonly steppedDown: string | null;
  /**
   * Pictures of a figure, the same bytes each time with one engine. No pictures where nothing can draw.
   * @throws {RefusedInput} for a size, scale or format that cannot be.
   * @throws {LabFailure} with plotly's words for a figure that it would draw otherwise than it says.
   */
  render(figure: Figure, options: RenderOptions): Promise<RenderedFigure>;
  close(): Promise<void>;
}

/**
 * Starts the first browser that does, of this machine or of those given. Close it: the browser runs until then.
 * @throws {RefusedInput} when CHROME_PATH names no program.
 */
export async function createRenderer(options: { browsers?: readonly FoundBrowser[] } = {}): Promise<Renderer> {
  const { engine, steppedDown } = await firstToStart(options.browsers ?? findBrowsers());
  let last: Promise<unknown> = Promise.resolve();
  return {
    engine: engine?.name ?? null,
    steppedDown,
    render: (figure, renderOptions) => {
      // There is one page: a figure waits until the one before it is drawn, however that went.
      const drawn = last.then(async () => {
        const drawing = drawingOf(figure, renderOptions);
        return { ...(engine === null ? {} : await drawnBy(engine, drawing)), steppedDown };
      });
      last = drawn.catch(() => undefined);
      return drawn;
    },
    close: async () => engine?.close(),
  };
}

/** @throws {LabFailure} naming the figure, where it was not drawn */
async function drawnBy(engine: Engine, drawing: Drawing): Promise<Pictures> {
  try {
    return await engine.draw(drawing);
  } catch (cause) {
    if (cause instanceof LabFailure) throw cause;
    const title = titleText(drawing.figure);
    const name = title === "" ? "a figure" : `the figure "${title}"`;
    const reason = errorText(cause).split("\n")[0];
    throw new LabFailure(
      `${name} was not drawn: ${engine.name} failed (${reason}); pictures drawn before are as they were, run the same again`,
      { cause },
    );
  }
}

/** Draws one figure with a renderer of its own. */
export async function renderFigure(figure: Figure, options: RenderOptions): Promise<RenderedFigure> {
  drawingOf(figure, options); // refused before a browser starts
  const renderer = await createRenderer();
  try {
    return await renderer.render(figure, options);
  } finally {
    await renderer.close();
  }
}

export interface ExportedFigure {
  /** Paths of the files written, the JSON first. */
  files: string[];
  steppedDown: string | null;
}

export interface ExportOptions extends Omit<RenderOptions, "formats"> {
  renderer?: Renderer;
  /** Source of its numbers, written to BASE.source.json: needed to redraw the figure. */
  source?: FigureSource;
}

/**
 * Writes a figure to BASE.json and its pictures to BASE.svg, BASE.png and BASE.pdf. The JSON is the figure as plotly
 * reads it; where nothing can draw, no picture is written, and `steppedDown` says so.
 * @throws {RefusedInput} when the folder cannot be written to.
 */
export async function exportFigure(
  figure: Figure,
  basePath: string,
  formats: readonly FigureFormat[] = figureFormats,
  options: ExportOptions = {},
): Promise<ExportedFigure> {
  const { renderer, source, ...size } = options;
  await requireWritableFolder(dirname(basePath));
  const render = renderer ? renderer.render : renderFigure;
  const { steppedDown, ...pictures } = await render(figure, { formats, ...size }); // first: a figure is there whole or not
  const json = `${basePath}.json`;
  await writeFileAtomic(json, `${JSON.stringify(figure, null, 1)}\n`);
  const sidecar = source === undefined ? [] : [await writeSource(basePath, source)];
  return { files: [json, ...sidecar, ...(await writePictures(pictures, basePath))], steppedDown };
}

/**
 * Draws every figure of a folder anew from NAME.json alone: nothing is computed.
 * @returns the pictures written
 * @throws {RefusedInput} before any is drawn, when a figure is not the one that its NAME.source.json was written for.
 * @throws {LabFailure} where nothing on this machine can draw.
 */
export async function redrawFigures(folder: string, options: { renderer?: Renderer } = {}): Promise<ExportedFigure> {
  const bases = await figuresIn(folder);
  const figures: Figure[] = [];
  for (const base of bases) figures.push(await readFigure(base));
  await requireWritableFolder(folder);
  const renderer = options.renderer ?? (await createRenderer());
  try {
    if (renderer.engine === null) throw new LabFailure(renderer.steppedDown ?? "nothing here can draw figures");
    const files: string[] = [];
    for (const [i, figure] of figures.entries()) {
      const { steppedDown, ...pictures } = await renderer.render(figure, { formats: figureFormats });
      files.push(...(await writePictures(pictures, bases[i] as string)));
    }
    return { files, steppedDown: renderer.steppedDown };
  } finally {
    if (options.renderer === undefined) await renderer.close();
  }
}

async function writePictures(pictures: Pictures, basePath: string): Promise<string[]> {
  const files: string[] = [];
  for (const format of figureFormats) {
    const bytes = pictures[format];
    if (bytes === undefined) continue;
    const path = `${basePath}.${format}`;
    await writeFileAtomic(path, bytes);
    files.push(path);
  }
  return files;
}

async function firstToStart(
  browsers: readonly FoundBrowser[],
): Promise<{ engine: Engine | null; steppedDown: string | null }> {
  const failures: string[] = [];
  for (const browser of browsers) {
    try {
      const engine = await startChromium(browser);
      const text = `figures are drawn by ${engine.name}`;
      return { engine, steppedDown: failures.length === 0 ? null : withReasons(text, failures) };
    } catch (cause) {
      failures.push(`${browser.source} browser ${browser.path}: ${errorText(cause).split("\n")[0]}`);
    }
  }
  const text =
    "nothing here can draw figures, only their JSON is written; install Chrome or Chromium, or set CHROME_PATH";
  return { engine: null, steppedDown: withReasons(text, failures) };
}

function withReasons(text: string, failures: readonly string[]): string {
  return failures.length === 0 ? text : `${text} (did not start: ${failures.join("; ")})`;
}

function drawingOf(figure: Figure, options: RenderOptions): Drawing {
  const { formats, scale = 4 } = options;
  const own = sizeOf(figure);
  const width = pixels(options.widthInches) ?? own.width;
  const height = pixels(options.heightInches) ?? figure.layout.height ?? heightFor(width);
  for (const [name, value] of Object.entries({ width, height, scale })) {
    if (Number.isFinite(value) && value > 0) continue;
    throw new RefusedInput("a figure needs a size", { where: name, found: value, expected: "a number above 0" });
  }
  const unknown = formats.find((format) => !figureFormats.includes(format));
  if (unknown !== undefined) {
    throw new RefusedInput("a figure cannot be written in this format", {
      where: "formats",
      found: unknown,
      expected: figureFormats.join(", "),
    });
  }
  return { figure, formats, width, height, scale };
}

/** Width and height of a figure on a page, in CSS pixels. */
export function sizeOf({ layout }: Figure): { width: number; height: number } {
  const { width = COLUMN_INCHES * PIXELS_PER_INCH } = layout;
  return { width, height: layout.height ?? heightFor(width) };
}

function heightFor(width: number): number {
  return Math.round(width * 0.65);
}

function pixels(inches: number | undefined): number | undefined {
  return inches === undefined ? undefined : Math.round(inches * PIXELS_PER_INCH);
}

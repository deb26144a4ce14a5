import { createRenderer, type ExportedFigure, exportFigure, type Renderer, sizeOf } from "../figures/export.js";
import { type Figure, titleText } from "../figures/figure.js";
import type { FigureSource } from "../figures/sources.js";
import { type TableInput, type TableOptions, tableBundle } from "./bundles.js";
import { type KernelHost, kernelHost } from "./host.js";
import type { MimeBundle } from "./wire.js";

/** Pictures in notebooks have twice the pixels of their size on the page, which their metadata says. */
const PNG_SCALE = 2;

/**
 * Shows one value in the richest form that the viewer knows.
 * @param bundle MIME type to content: text, bytes (sent as base64), or a JSON value for `+json` types.
 * Give `text/plain` too: outside a notebook it is what gets printed.
 * @param metadata by MIME type, e.g. the width of a picture
 */
export function display(bundle: MimeBundle, metadata: Record<string, unknown> = {}): void {
  const host = kernelHost();
  if (host) host.display(encodeBytes(bundle), { metadata });
  else console.log(bundle["text/plain"] ?? `[${Object.keys(bundle).join(", ")}]`);
}

/** Shows rows, or a danfo DataFrame, as a small static table. */
export function displayTable(input: TableInput, options: TableOptions = {}): void {
  display(tableBundle(input, options));
}

/**
 * Shows a figure: interactive where the viewer knows plotly, as a picture elsewhere (GitHub), as a line of text in a
 * terminal. Where nothing on this machine can draw, the picture is left out and the text says so.
 */
export async function displayFigure(figure: Figure): Promise<void> {
  const title = ["Figure", titleText(figure)].filter((part) => part !== "").join(": ");
  const host = kernelHost();
  if (!host) {
    display({ "text/plain": title });
    return;
  }
  const renderer = await rendererOf(host);
  const { png, steppedDown } = await renderer.render(figure, { formats: ["png"], scale: PNG_SCALE });
  const remark = steppedDown ? `\n${steppedDown}` : "";
  const bundle = {
    "application/vnd.plotly.v1+json": { data: figure.data, layout: figure.layout, config: figure.config },
    ...(png ? { "image/png": png } : {}),
    "text/plain": `${title}${remark}`,
  };
  const { width, height } = sizeOf(figure);
  display(bundle, png ? { "image/png": { width: Math.round(width), height: Math.round(height) } } : {});
}

/**
 * Writes a figure to BASE.json, BASE.svg, BASE.png and BASE.pdf, in print size, and to BASE.source.json where its numbers
 * come from.
 * @param source e.g. `{ runs, command: "npm start -- --save" }`
 * @returns the files written, and what to tell the user where some could not be drawn
 * @throws {RefusedInput} when the folder cannot be written to, or the source names nothing
 */
export async function saveFigure(figure: Figure, basePath: string, source: FigureSource): Promise<ExportedFigure> {
  const host = kernelHost();
  return exportFigure(figure, basePath, undefined, { source, ...(host ? { renderer: await rendererOf(host) } : {}) });
}

/** One browser draws all figures of a notebook: starting it takes longer than drawing. */
function rendererOf(host: KernelHost): Promise<Renderer> {
  host.renderer ??= createRenderer();
  return host.renderer;
}

/**
 * The interrupt of the running cell, for loops that should stop when the user presses stop.
 * Outside a notebook it is a signal that is never aborted.
 */
export function interruptSignal(): AbortSignal {
  return kernelHost()?.signal() ?? new AbortController().signal;
}

function encodeBytes(bundle: MimeBundle): MimeBundle {
  return Object.fromEntries(
    Object.entries(bundle).map(([type, content]) => [
      type,
      content instanceof Uint8Array ? Buffer.from(content).toString("base64") : content,
    ]),
  );
}

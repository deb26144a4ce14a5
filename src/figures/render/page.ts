import type { Data, Layout } from "plotly.js-dist";
import { LabFailure } from "../../core/errors.js";
import type { Figure } from "../figure.js";

/** Parts of plotly that the page script needs. */
interface PlotlyInPage {
  validate(data: Data[], layout: Partial<Layout>): { code: string; msg: string }[] | undefined;
  toImage(figure: Figure, options: Record<string, unknown>): Promise<string>;
}

/** A figure as SVG, or what plotly found wrong with it. */
export type Drawn = { svg: string } | { faults: string[] };

/**
 * Draws a figure inside a page that has plotly. Sent to a browser as text: it may use nothing from outside itself.
 */
export async function drawInPage(job: { figure: Figure; width: number; height: number }): Promise<Drawn> {
  const plotly = (globalThis as unknown as { Plotly: PlotlyInPage }).Plotly;
  const { figure, width, height } = job;
  // Plotly gives traces without a uid a random one, which would end up in the SVG.
  const data = figure.data.map((trace, i) => ({ ...trace, uid: trace.uid ?? `trace-${i}` }));
  let faults: { code: string; msg: string }[] = [];
  try {
    faults = plotly.validate(data, figure.layout) ?? [];
  } catch {
    // Plotly 4.1.1's validate itself fails on a legend that is switched off. That is no fault of the figure.
  }
  // What plotly merely ignores is harmless in a picture; a value that it drops or replaces is not.
  faults = faults.filter((fault) => fault.code !== "unused" && fault.code !== "invisible");
  if (faults.length > 0) return { faults: faults.map((fault) => fault.msg) };
  return { svg: await plotly.toImage({ ...figure, data }, { format: "svg", imageDataOnly: true, width, height }) };
}

/**
 * The SVG of a drawn figure, the same text every time: plotly names its parts after a random number drawn for each
 * picture, and writes attributes in an order that depends on what it drew before.
 * @throws {LabFailure} with plotly's words when it refused the figure.
 */
export function svgOf(drawn: Drawn): string {
  if ("faults" in drawn) throw new LabFailure(`plotly refuses the figure: ${drawn.faults.join("; ")}`);
  const random = /id="defs-([0-9a-f]+)"/.exec(drawn.svg)?.[1];
  const named = random ? drawn.svg.replaceAll(new RegExp(`(?<=["#][a-z]+-?)${random}`, "g"), "figure") : drawn.svg;
  return named.replaceAll(/(<[\w:]+)((?: [\w:-]+="[^"]*")+)/g, (_tag, name: string, attributes: string) => {
    const sorted = (attributes.match(/ [\w:-]+="[^"]*"/g) ?? []).sort();
    return name + sorted.join("");
  });
}

import type { Config, Data, Layout } from "plotly.js-dist";

/** A figure as plotly data. Drawing it is a separate step (export.ts), so it can be stored, compared and restyled. */
export interface Figure {
  data: Data[];
  layout: Partial<Layout>;
  config: Partial<Config>;
}

/** The text at the top of a figure on one line, without markup; "" where it has none. */
export function titleText({ layout }: Figure): string {
  const title: unknown = layout.title;
  const text = typeof title === "object" && title !== null && "text" in title ? title.text : title;
  return typeof text === "string" ? text.replaceAll("<br>", "; ").replaceAll(/<[^>]*>/g, "") : "";
}

import type { Config, Data, Layout } from "plotly.js-dist";

/** A figure as plotly data. Drawing it is a separate step (export.ts), so it can be stored, compared and restyled. */
export interface Figure {
  data: Data[];
  layout: Partial<Layout>;
  config: Partial<Config>;
}

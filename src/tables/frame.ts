import { createRequire } from "node:module";
import type { DataFrame } from "danfojs-node";

const require = createRequire(import.meta.url);

/** A danfo table of rows under each other. danfo takes half a second to load, so the first table loads it. */
export function newFrame(rows: unknown[][], columns: string[]): DataFrame {
  const danfo = require("danfojs-node") as typeof import("danfojs-node");
  return new danfo.DataFrame(rows, { columns });
}

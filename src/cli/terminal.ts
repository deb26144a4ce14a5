import type { FormatOptions } from "../tables/readable.js";

/** Width of the terminal for tables that are printed; no limit where the output is a file or a pipe. */
export const terminal = (): Pick<FormatOptions, "width"> => ({ width: process.stdout.columns });

import { SourceMap } from "node:module";

/** A place in a cell, both from 1. */
export interface CellPosition {
  line: number;
  column: number;
}

/** From a place in the JavaScript that runs (both from 1) to the place in the cell; null for code the compiler added. */
export type LineMap = (line: number, column: number) => CellPosition | null;

/** tslab puts one line, `export {};`, in front of every cell. */
const PREFIX_LINES = 1;
const INLINE_MAP = /\/\/# sourceMappingURL=data:application\/json;base64,([\w+/=]+)/;

/**
 * Chains the two source maps of a cell.
 * @param modules the cell compiled from TypeScript to modules, with that step's source map inline.
 * @param commonJs that compiled to CommonJS, the JavaScript that runs, with its source map.
 */
export function createLineMap(
  modules: string,
  commonJs: { outputText: string; sourceMapText?: string },
): LineMap | null {
  const inline = INLINE_MAP.exec(modules)?.[1];
  if (!inline || !commonJs.sourceMapText) return null;
  const first = parse(Buffer.from(inline, "base64").toString());
  const second = parse(commonJs.sourceMapText);
  const lastLine = commonJs.outputText.split("\n").length;
  return (line, column) => {
    if (line > lastLine) return null; // tslab's wrapper, which a source map would count to the last line
    const middle = second.findEntry(line - 1, column - 1);
    if (!("originalLine" in middle)) return null;
    const cell = first.findEntry(middle.originalLine, middle.originalColumn);
    if (!("originalLine" in cell)) return null;
    return { line: cell.originalLine + 1 - PREFIX_LINES, column: cell.originalColumn + 1 };
  };
}

function parse(json: string): SourceMap {
  return new SourceMap(JSON.parse(json));
}

import { inspect } from "node:util";
import type { CellPosition, LineMap } from "./lines.js";
import type { CellDiagnostic } from "./tslab.js";

/** An error as Jupyter shows it. */
export interface CellError {
  ename: string;
  evalue: string;
  traceback: string[];
}

/** Record of a cell that ran, to name its lines in the stack of an error. */
export interface CellScript {
  /** "cell 3", for people. */
  label: string;
  source: string;
  lineMap: LineMap | null;
}

/** Cells by the name they have in stacks, `cell-3`. */
export type CellScripts = ReadonlyMap<string, CellScript>;

const CELL_IN_STACK = /(?:evalmachine\.<anonymous>|\b((?:cell|silent)-\d+)):(\d+):(\d+)/;
/** Frames that are the machinery around a cell. */
const MACHINERY = /node_modules\/tslab\/|\/notebook\/kernel\/|\bnode:|^\s*at new Promise \(<anonymous>\)/;
const LONGEST_CAUSE_CHAIN = 5;

/** Faults found by the type checker before anything ran. */
export function describeDiagnostics(diagnostics: readonly CellDiagnostic[], script: CellScript): CellError {
  const lines = diagnostics.map(({ start, messageText, code, fileName }) => {
    const file = fileName ? `${fileName}, ` : "";
    return `${file}line ${start.line + 1}, column ${start.character + 1}: ${messageText} (TS${code})`;
  });
  const first = diagnostics[0];
  const position = first && !first.fileName ? { line: first.start.line + 1, column: first.start.character + 1 } : null;
  return {
    ename: "TypeScriptError",
    evalue: lines[0] ?? "the cell does not compile",
    traceback: [
      `TypeScriptError in ${script.label}`,
      ...lines.map((line) => `  ${line}`),
      ...excerpt(script, position),
    ],
  };
}

/** Whatever a cell threw. Machine paths are cut down to paths inside the project at `root`. */
export function describeThrown(thrown: unknown, scripts: CellScripts, root: string): CellError {
  if (!(thrown instanceof Error)) {
    const value = typeof thrown === "string" ? thrown : inspect(thrown, { depth: 2 });
    return {
      ename: "Thrown",
      evalue: value,
      traceback: [`Thrown: ${value}`, "  (not an Error, so its line is not known)"],
    };
  }
  const evalue = withoutRoot(thrown.message, root);
  const traceback: string[] = [];
  let error: unknown = thrown;
  for (let depth = 0; error instanceof Error && depth < LONGEST_CAUSE_CHAIN; depth++) {
    traceback.push(...describeOne(error, scripts, root, depth > 0 ? "caused by " : ""));
    error = error.cause;
  }
  return { ename: nameOf(thrown), evalue, traceback };
}

function describeOne(error: Error, scripts: CellScripts, root: string, lead: string): string[] {
  const frames = readFrames(error, scripts, root);
  const title = `${lead}${nameOf(error)}: ${withoutRoot(error.message, root)}`;
  const thrownIn = frames.find((frame) => frame.script);
  if (!thrownIn?.script) return [title, ...frames.map((frame) => frame.text)];
  const { script, position } = thrownIn;
  const place = `  in ${script.label}, line ${position?.line}, column ${position?.column}`;
  return [title, place, ...excerpt(script, position), ...frames.map((frame) => frame.text)];
}

interface Frame {
  text: string;
  script: CellScript | null;
  position: CellPosition | null;
}

function readFrames(error: Error, scripts: CellScripts, root: string): Frame[] {
  const frames: Frame[] = [];
  for (const line of (error.stack ?? "").split("\n")) {
    if (!/^\s+at /.test(line) || MACHINERY.test(line)) continue;
    const match = CELL_IN_STACK.exec(line);
    const script = match?.[1] ? scripts.get(match[1]) : undefined;
    if (!match || !script) {
      if (!match) frames.push({ text: withoutRoot(line, root), script: null, position: null });
      continue;
    }
    const position = script.lineMap?.(Number(match[2]), Number(match[3])) ?? null;
    if (!position) continue; // the wrapper around the cell
    const place = `${script.label}, line ${position.line}:${position.column}`;
    frames.push({ text: line.replace(CELL_IN_STACK, place).replace("at Proxy.", "at "), script, position });
  }
  return frames;
}

/** The line of the error and its neighbours. */
function excerpt(script: CellScript, position: CellPosition | null): string[] {
  if (!position) return [];
  const lines = script.source.split("\n");
  const width = String(position.line + 1).length;
  return lines.flatMap((text, index) => {
    const number = index + 1;
    if (Math.abs(number - position.line) > 1) return [];
    return [`  ${number === position.line ? ">" : " "} ${String(number).padStart(width)} | ${text}`];
  });
}

function nameOf(error: Error): string {
  return error.name === "Error" ? error.constructor.name || "Error" : error.name;
}

function withoutRoot(text: string, root: string): string {
  return text.replaceAll(`file://${root}/`, "wise-lab/").replaceAll(`${root}/`, "wise-lab/");
}

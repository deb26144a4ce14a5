import { createRequire } from "node:module";
import type * as TypeScript from "typescript";
import { createLineMap, type LineMap } from "./lines.js";
import { repairShorthand } from "./shorthand.js";

/** A fault found by the type checker. Lines and columns from 0. */
export interface CellDiagnostic {
  start: { line: number; character: number };
  messageText: string;
  code: number;
  /** Set for a fault outside the cell. */
  fileName?: string;
}

interface Converted {
  output?: string;
  diagnostics: CellDiagnostic[];
  hasToplevelAwait?: boolean;
}

/** tslab's compiler of cells. */
export interface Converter {
  convert(previousDeclarations: string, source: string): Converted;
  close(): void;
}

/** tslab's runner of compiled cells. It tells results and errors only by printing them to the console handed to it. */
export interface Executor {
  execute(source: string): Promise<boolean>;
  inspect(source: string, position: number): object | undefined;
  complete(source: string, position: number): { start: number; end: number; candidates: string[] };
  interrupt(): void;
  close(): void;
}

interface ExecutorConsole {
  log(value: unknown): void;
  error(...values: unknown[]): void;
}

/** The parts of tslab 1.0.22 that the kernel stands on, and TypeScript as tslab bundles it. */
export interface Tslab {
  typescript: typeof TypeScript;
  createConverter(): Converter;
  createExecutor(
    root: string,
    converters: { node: Converter; browser: Converter; close(): void },
    console: ExecutorConsole,
  ): Executor;
  isCompleteCode(source: string): { completed: boolean; indent?: string };
  printQuickInfo(info: object): string;
  /** Object in which tslab's own `display` looks for its outlet. */
  displays: { lastWriteDisplayData: ((content: { data: object }, update: boolean) => void) | null };
  /** Line map of the cell compiled last, if it was compiled to anything. */
  lastLineMap(): LineMap | null;
}

/** Compiler options of cells. tslab's own settings are not strict and know neither `exports` nor self-reference. */
function cellOptions(ts: typeof TypeScript): TypeScript.CompilerOptions {
  return {
    strict: true,
    alwaysStrict: false, // contradicts tslab's noImplicitUseStrict; cells are modules, strict anyway
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    lib: ["lib.es2023.d.ts"],
    types: ["node"],
    inlineSourceMap: true,
  };
}

/**
 * Loads tslab with its TypeScript changed in two places: the compiler that checks cells (options, `{ name }`), and
 * the second pass of each cell (modules to CommonJS), whose source map tells the cell line of an error.
 * The current folder must be the project root when `createConverter` is called: tslab keeps it.
 */
export function loadTslab(): Tslab {
  const load = createRequire(createRequire(import.meta.url).resolve("tslab"));
  const typescriptPath = load.resolve("@tslab/typescript-for-tslab");
  const ts = load(typescriptPath) as typeof TypeScript;
  const loaded = load.cache[typescriptPath];
  if (!loaded) throw new Error("tslab's TypeScript was loaded but is not in the module cache");
  let lastMap: LineMap | null = null;

  type Builder = TypeScript.EmitAndSemanticDiagnosticsBuilderProgram;
  const createWatchCompilerHost = (
    files: string[],
    options: TypeScript.CompilerOptions,
    system: TypeScript.System,
    ...rest: unknown[]
  ) => {
    type CreateHost = (...values: unknown[]) => TypeScript.WatchCompilerHostOfFilesAndCompilerOptions<Builder>;
    const createHost = ts.createWatchCompilerHost as CreateHost;
    const host = createHost(files, { ...options, ...cellOptions(ts) }, system, ...rest);
    const { createProgram } = host;
    host.createProgram = (...values) => {
      const builder = createProgram(...values);
      repairShorthand(ts, builder);
      return builder;
    };
    return host;
  };
  const transpileModule = (source: string, request: TypeScript.TranspileOptions) => {
    const result = ts.transpileModule(source, {
      ...request,
      compilerOptions: { ...request.compilerOptions, sourceMap: true },
    });
    lastMap = createLineMap(source, result);
    return result;
  };
  // The functions of the module object are read-only getters, so the replacement inherits and overrides.
  loaded.exports = Object.create(ts, {
    __esModule: { value: true },
    createWatchCompilerHost: { value: createWatchCompilerHost },
    transpileModule: { value: transpileModule },
  });

  const converter = load("./converter.js");
  return {
    typescript: ts,
    createConverter: () => converter.createConverter({ isJS: false, isBrowser: false }),
    createExecutor: load("./executor.js").createExecutor,
    isCompleteCode: converter.isCompleteCode,
    printQuickInfo: load("./inspect.js").printQuickInfo,
    displays: load("./jupyter.js"),
    lastLineMap: () => lastMap,
  };
}

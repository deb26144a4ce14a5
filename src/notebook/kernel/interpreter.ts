import type * as TypeScript from "typescript";
import { Interrupted } from "../../core/errors.js";
import { type CellError, type CellScript, describeDiagnostics, describeThrown } from "./cell-errors.js";
import type { InterruptState } from "./interrupts.js";
import { type CellDiagnostic, type Converter, type Executor, loadTslab, type Tslab } from "./tslab.js";

const ENDED_BY_FORCE =
  "the cell was ended in the middle of its code; restart the kernel if libraries it used behave strangely now";
const GIVE_UP_AFTER_MS = 100;

/** Outcome of a cell. `value` is that of its last expression. */
export type Outcome = { status: "ok"; value: unknown } | { status: "error"; error: CellError };

/** Compiles and runs cells of one notebook, and answers questions about their code. */
export class Interpreter {
  readonly #root: string;
  readonly #interruptState: InterruptState;
  readonly #tslab: Tslab;
  readonly #executor: Executor;
  readonly #scripts = new Map<string, CellScript>();
  /** Value, error and diagnostics that tslab gave while the current cell ran. */
  #told: { value: unknown; thrown: { value: unknown } | null; diagnostics: CellDiagnostic[] } = nothingTold();
  #current: CellScript & { name: string } = { name: "", label: "", source: "", lineMap: null };

  /** Ends the wait for the running cell. */
  #giveUp: () => void = () => undefined;

  /** @param root folder from which cells import: the project, wherever the notebook lies. */
  constructor(root: string, interruptState: InterruptState) {
    this.#root = root;
    this.#interruptState = interruptState;
    this.#tslab = loadTslab();
    const folder = process.cwd();
    process.chdir(root); // tslab resolves imports from the folder in which its converter was made
    const node = this.#wrapConverter(this.#tslab.createConverter());
    process.chdir(folder);
    const converters = { node, browser: node, close: () => node.close() };
    this.#executor = this.#tslab.createExecutor(root, converters, {
      log: (value) => {
        this.#told.value = value;
      },
      error: (...values) => {
        if (values.length === 1) this.#told.thrown = { value: values[0] }; // more values: a diagnostic, kept already
      },
    });
  }

  /** TypeScript as tslab bundles it. */
  get typescriptVersion(): string {
    return this.#tslab.typescript.version;
  }

  /** tslab's own display API writes here too. */
  set onDisplay(outlet: NonNullable<Tslab["displays"]["lastWriteDisplayData"]>) {
    this.#tslab.displays.lastWriteDisplayData = outlet;
  }

  /** Runs a cell. `name` stands for it in stacks and must be new and of the form `cell-3`; `label` is for people. */
  async execute(source: string, name: string, label: string): Promise<Outcome> {
    this.#told = nothingTold();
    this.#current = { name, label, source, lineMap: null };
    const finished = await Promise.race([
      this.#run(source).then(() => true),
      new Promise<boolean>((resolve) => {
        this.#giveUp = () => resolve(false);
      }),
    ]);
    this.#interruptState.setCellCodeRuns(false);
    if (this.#interruptState.takeForce() || !finished) this.#told.thrown = { value: new Interrupted(ENDED_BY_FORCE) };
    const { value, thrown, diagnostics } = this.#told;
    if (diagnostics.length > 0) return { status: "error", error: describeDiagnostics(diagnostics, this.#current) };
    if (thrown)
      return { status: "error", error: describeThrown(asInterrupted(thrown.value), this.#scripts, this.#root) };
    return { status: "ok", value };
  }

  /** Ends the wait for the running cell. Code that goes on by itself is not stopped. */
  leave(): void {
    const giveUp = this.#giveUp;
    this.#executor.interrupt();
    setTimeout(giveUp, GIVE_UP_AFTER_MS); // tslab's own wait is gone when the cell was ended by force
  }

  complete(source: string, position: number): { start: number; end: number; candidates: string[] } {
    return this.#executor.complete(source, position);
  }

  /** Type and documentation of the name at `position`, or null. */
  inspect(source: string, position: number): string | null {
    const info = this.#executor.inspect(source, position);
    return info ? this.#tslab.printQuickInfo(info) : null;
  }

  isComplete(source: string): { completed: boolean; indent?: string } {
    return this.#tslab.isCompleteCode(source);
  }

  describe(thrown: unknown): CellError {
    return describeThrown(thrown, this.#scripts, this.#root);
  }

  close(): void {
    this.#executor.close();
  }

  /** In a turn of its own: ending code by force ends everything that waits below it too, and this wait must stay. */
  #run(source: string): Promise<void> {
    return new Promise((resolve) => {
      setImmediate(async () => {
        try {
          await this.#executor.execute(source);
        } catch (error) {
          this.#told.thrown = { value: error }; // a fault of tslab itself, such as two declarations it cannot merge
        }
        resolve();
      });
    });
  }

  /** Names every compiled cell for stacks, and keeps the diagnostics that tslab would only print. */
  #wrapConverter(converter: Converter): Converter {
    return {
      ...converter,
      convert: (previousDeclarations, source) => {
        this.#interruptState.setCellCodeRuns(false);
        const converted = converter.convert(previousDeclarations, source);
        this.#interruptState.setCellCodeRuns(true);
        this.#told.diagnostics = converted.diagnostics;
        if (converted.output) {
          const { name, label } = this.#current;
          this.#scripts.set(name, { label, source, lineMap: this.#tslab.lastLineMap() });
          converted.output = `${withoutMapComment(converted.output)}\n//# sourceURL=${name}`;
          converted.hasToplevelAwait ||= hasTopLevelAwait(this.#tslab.typescript, source);
        }
        return converted;
      },
    };
  }
}

function nothingTold() {
  return {
    value: undefined as unknown,
    thrown: null as { value: unknown } | null,
    diagnostics: [] as CellDiagnostic[],
  };
}

/** The two errors by which Node and tslab tell of an interrupt, as the project's own. */
function asInterrupted(thrown: unknown): unknown {
  if (!(thrown instanceof Error)) return thrown;
  if ("code" in thrown && thrown.code === "ERR_SCRIPT_EXECUTION_INTERRUPTED")
    return new Interrupted("the cell was interrupted");
  if (thrown.message === "Interrupted asynchronously") {
    return new Interrupted("the cell was left; a loop in it that does not look at interruptSignal() still runs");
  }
  return thrown;
}

/** The comment would make Node look for a file. */
function withoutMapComment(javascript: string): string {
  return javascript.replace(/^\/\/# sourceMappingURL=.*$/gm, "");
}

/**
 * True for code that waits outside functions. tslab sees only an `await` that the compiler complains of: not `for await`, and none where
 * the compiler reads the code a second time, as it does for `await (` and `await [`.
 */
function hasTopLevelAwait(ts: typeof TypeScript, source: string): boolean {
  const visit = (node: TypeScript.Node): boolean => {
    if (ts.isFunctionLike(node) || ts.isClassLike(node)) return false;
    if (ts.isAwaitExpression(node) || (ts.isForOfStatement(node) && node.awaitModifier)) return true;
    return ts.forEachChild(node, visit) ?? false;
  };
  // A module, as every cell is: in a script, `await (1)` is a call.
  return visit(ts.createSourceFile("cell.ts", `export {};\n${source}`, ts.ScriptTarget.Latest));
}

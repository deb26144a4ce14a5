import type { Rng } from "../core/rng.js";
import type { CutStore } from "../model/cut-store.js";
import type { LlamaModel } from "../model/model.js";
import type { PromptStyle } from "../model/prompt.js";
import type { MemoryReading, Overlay, Route } from "./overlay.js";
import type { EditStep, EditTrace } from "./trace.js";

/** One fact to write: after the edit, `prompt` shall be answered by `target`. */
export interface EditRequest {
  /** 0-based position of the record in its file; -1 for an edit made by hand. */
  record: number;
  prompt: string;
  target: string;
  /** An unrelated text whose answer must not change; methods with a router train on it. */
  irrelevant: string;
}

/** What an edit method works with. Everything is handed in; a method keeps no state of its own outside a session. */
export interface EditSetting {
  model: LlamaModel;
  cuts: CutStore;
  /** Prompt prefixes, each with one "{}"; see `makeContextTemplates`. */
  templates: readonly string[];
  rng: Rng;
}

export interface EditOptions {
  signal?: AbortSignal | undefined;
  onStep?: (step: EditStep) => void;
  checkpoints?: EditCheckpoints | undefined;
}

/** Looks at an edit while it is made: the edits as they would stand had this one been given `n` steps and no more. */
export interface EditCheckpoints {
  /** Numbers of steps. Those that the edit does not go beyond are not read: there its end is what would stand. */
  steps: readonly number[];
  /** Reads the edits; the session disposes the overlay. The edit goes on as if nothing had been read. */
  read(steps: number, overlay: Overlay): Promise<void>;
}

/** Edits made one after another on an untouched model. */
export interface EditSession {
  /**
   * Makes one edit. The model stays as it was.
   * @throws {Interrupted} when the signal is aborted; the session is then as before this edit
   */
  edit(request: EditRequest, options?: EditOptions): Promise<EditTrace>;
  /** The edits so far, for reading. Reading changes nothing. The caller disposes it. */
  overlay(): Promise<Overlay>;
  /** Writes the edits so far to one safetensors file that the method's `restore` continues from exactly. */
  save(path: string): Promise<void>;
  /** sha256 of the edits so far, with model and options: equal for equal edits, wherever they were made. */
  hash(): Promise<string>;
  /** Drops the edits: the rollback. */
  dispose(): void;
}

/** Numbers of float32 arrays of the value matrix' size, [D, M]: tensors and plain arrays alike. */
export interface MatrixCount {
  /** Those that the edits keep. */
  kept: number;
  /** Those beside them while the model runs for a step of an edit. */
  stepping: number;
  /** Those that an overlay holds beside them while the model runs under it. */
  reading: number;
  /** The most there are beside the kept ones while the model does not run: edits are moved, merged or saved. */
  working: number;
}

/** A method with its options resolved: ready to be run, and described for the protocol. */
export interface PreparedMethod {
  name: string;
  /** Resolved options, plain JSON, as they are recorded with every number. */
  options: Record<string, unknown>;
  layer: number;
  seed: number;
  style: PromptStyle;
  /** Options that were accepted but have no effect here, each with its reason. */
  ignored: string[];
  /** What edits take in memory, at most, up to `block` of them without a rollback. */
  matrices(block: number): MatrixCount;
  start(setting: EditSetting): EditSession;
  /** Continues from a file that `save` wrote. @throws {RefusedInput} when it belongs to another model or method */
  restore(path: string, setting: EditSetting): Promise<{ session: EditSession; edits: number }>;
}

/** Where a method's options come from: a file or a preset, then single settings on top. */
export interface OptionSource {
  file?: string | undefined;
  preset?: string | undefined;
  /** "key=value" */
  set?: readonly string[] | undefined;
}

/** What a router decides on: its threshold follows from the options. */
export type RouterInput = Pick<MemoryReading, "memory" | "delta" | "minAct">;

/** A router that reads one of its options at inference only: what it decides under another value needs no new edits. */
export interface Router {
  /** The option of the method that scales every threshold, as the protocol names it. */
  option: string;
  /**
   * Decides on logged readings under the method's options, with the thresholds they give.
   * @returns the readings with those thresholds, and all else that stood in them
   */
  decide<R extends RouterInput>(
    readings: readonly R[],
    options: Record<string, unknown>,
  ): { route: Route; readings: (R & { threshold: number })[] };
  /**
   * The largest value of the option at which a memory answers, up to rounding; at larger ones the untouched model does.
   * -Infinity where there is no memory, Infinity where one answers at every value.
   */
  reach(readings: readonly RouterInput[], options: Record<string, unknown>): number;
}

/** A knowledge-editing method. One file, one entry in the registry. */
export interface EditMethod {
  name: string;
  /** Left out by methods whose readings do not tell what another threshold would decide. */
  router?: Router;
  /** @throws {RefusedInput} naming the key, what was given and what is allowed */
  prepare(source: OptionSource, model: { layers: number }): Promise<PreparedMethod>;
}

import type { Rng } from "../core/rng.js";
import type { EditRecord } from "../data/records.js";
import type { LlamaConfig } from "../model/config.js";
import type { CutStore } from "../model/cut-store.js";
import type { LlamaModel } from "../model/model.js";
import type { CutPoint, Site } from "../model/patch.js";
import type { PromptStyle } from "../model/prompt.js";
import type { Tokenizer } from "../model/tokenizer.js";
import type { FixedKey, Options, OptionTable, Preset } from "./option-table.js";
import type { Overlay, Reading } from "./overlay.js";
import type { TokenRow } from "./rows.js";
import type { EditState } from "./state.js";
import type { TemplateRecipe } from "./templates.js";
import type { EditStep, EditTrace } from "./trace.js";

/*
 * The contract of an editing method. A method is a folder with one `EditMethod` and one line in the registry; nothing outside
 * the folder knows its options or variants by name. Invariant: the model at the end equals the model at the beginning,
 * and an edit is a value beside it.
 */

/** One fact to write: after the edit, `prompt` shall be answered by `target`. */
export interface EditRequest {
  /** 0-based position of the record in its file; -1 for an edit made by hand. */
  record: number;
  prompt: string;
  target: string;
  /** The subject of the fact, as it stands in the prompt; null where the method does not need it. */
  subject: string | null;
  /** An unrelated text whose answer must not change; null where the method does not need it. */
  irrelevant: string | null;
}

/** Needs of a method beside prompt and target: nothing else is made, planned for or part of the protocol. */
export interface Needs {
  /** Prompt prefixes that the model itself writes, in this way; null for none. */
  templates: TemplateRecipe | null;
  irrelevant: boolean;
  subject: boolean;
  /** Side data, such as statistics of the model. */
  assets: readonly AssetNeed[];
}

/** The model that side data belongs to. */
export type AssetOwner = Pick<LlamaModel, "name" | "folder" | "config" | "sha256">;

/** Side data of a method, before it is opened. */
export interface AssetNeed {
  /** As protocols name it, e.g. "covariance layers.5.down". */
  name: string;
  /**
   * Finds, checks and opens it.
   * @throws {RefusedInput} when it is not there (with the command that makes it), or belongs to another model
   */
  open(owner: AssetOwner, control?: AssetControl): Promise<Asset>;
}

export interface AssetControl {
  signal?: AbortSignal | undefined;
  /** Told before minutes of work. */
  onNotice?: ((line: string) => void) | undefined;
}

/** Opened side data: one value for all blocks of a run. */
export interface Asset {
  sha256: string;
  value: unknown;
}

/** The surroundings of an edit. Everything is handed in; a method keeps no state of its own outside a session. */
export interface EditSetting {
  model: LlamaModel;
  /** Cuts at the method's cut point. */
  cuts: CutStore;
  /** Prompt prefixes, each with one "{}"; "{}" alone where the method needs none. */
  templates: readonly string[];
  rng: Rng;
  /** Side data by name. */
  assets: ReadonlyMap<string, Asset>;
}

export interface EditControl {
  signal?: AbortSignal | undefined;
  onStep?: ((step: EditStep) => void) | undefined;
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
   * Makes edits: of one request, or of all requests of a block where the method takes a block at once.
   * The model stays as it was.
   * @returns one trace per request
   * @throws {Interrupted} when the signal is aborted; the session is then as before the edit that was under way
   */
  edit(requests: readonly EditRequest[], control?: EditControl): Promise<EditTrace[]>;
  /** The edits so far, for reading. Reading changes nothing. The caller disposes it. */
  overlay(): Promise<Overlay>;
  /** The edits so far as plain values, from which `start` goes on exactly. */
  state(): Promise<EditState>;
  /** Drops the edits: the rollback. */
  dispose(): void;
}

/** Surroundings of a training. */
export interface TrainingSetting {
  model: LlamaModel;
  /** Edits to train on. */
  records: readonly EditRecord[];
  rng: Rng;
}

/** Training of something that a method's edits need, such as a network, one step after another. */
export interface Training {
  /** In all, those before it was taken up again included. */
  readonly steps: number;
  /** The next step. @throws {LabFailure} for a loss that is not finite */
  step(): Promise<EditStep>;
  /** All that `train` goes on from exactly. */
  state(): Promise<TrainingState>;
  /** Writes what it is for as one file of side data. Equal trainings give equal bytes. */
  save(path: string, origin: TrainingOrigin): Promise<void>;
  dispose(): void;
}

/** A training as plain values, after some of its steps. */
export interface TrainingState {
  steps: number;
  tensors: EditState["tensors"];
}

/** Sources of a training, beside the model and its options. */
export interface TrainingOrigin {
  /** sha256 of the file of records, and how many of them were used. */
  records: { sha256: string; used: number };
  backend: string;
}

/** Memory that the edits of a block take at most, in bytes: tensors and plain arrays alike. */
export interface EditBytes {
  /** Those that the edits keep. */
  kept: number;
  /** Those beside them while the model runs for a step of an edit. */
  stepping: number;
  /** Entries of truth values among them, a byte each here; WebGPU takes four. */
  flags?: number;
  /** Those besides for each token of a step; left out where the changes are few. */
  perToken?: number;
  /** Those that an overlay holds beside them while the model runs under it. */
  reading: number;
  /** The most there are beside the kept ones while the model does not run: edits are moved, merged or saved. */
  working: number;
  /** Variants that a reading runs the model under, the untouched one not counted. */
  variants: number;
}

/** Tokenizer and templates that turn a request into token rows. */
export interface RowContext {
  tokenizer: Tokenizer;
  templates: readonly string[];
}

/** A method with its options, before a model is loaded: what a run holds, needs and tells. */
export interface MethodPlan {
  /** Nothing before it is ever changed. */
  cut: CutPoint;
  /** Matrices of which the method takes the values themselves, so that they stay in memory as float32. */
  sites: readonly Site[];
  needs: Needs;
  /** Form in which questions are put to the model. */
  style: PromptStyle;
  /** Requests that a session takes at once: one, or a whole block, which cannot be scored after each edit. */
  together: 1 | "block";
  /** The most requests whose rows run in one step together; left out where it is one. */
  inStep?: number;
  /**
   * The token rows of an edit, in order. Whoever needs their cuts asks for all of them together: batching decides the last
   * bits of a float, and an edit that is brought back must give the same ones.
   * @throws {RefusedInput} for a request that cannot be edited
   */
  rows(request: EditRequest, context: RowContext): TokenRow[];
  /** Memory of up to `edits` edits without a rollback, which have `targets` target tokens together. */
  bytes(edits: number, targets: number): EditBytes;
}

/** Decision of a method on which variant answers. Left out by methods whose edits always answer. */
export interface Router {
  /** A variant in a sentence: "the side memory". */
  called(variant: string): string;
  /** The numbers of a reading, in the order of tables. */
  numbers: Readonly<Record<string, { symbol: string; meaning: string }>>;
  /** True where a variant was made over after its edits, e.g. by a merge, so that an edit may be lost in it. */
  rewritten?(variant: string): boolean;
  /** The option that the router reads at inference only: other values of it need no new edits. Left out where there is no such option. */
  inference?: InferenceOption;
}

/** An option that moves the router's threshold, and that editing never sees. */
export interface InferenceOption {
  /** Its released key; a number from 0. */
  key: string;
  /** "below": a variant answers up to some value of it; "above": from some value on. */
  answers: "below" | "above";
  /**
   * Decides on logged readings under other options.
   * @returns the readings with the margins they then have, and all else that stood in them
   */
  decide<R extends Reading>(readings: readonly R[], options: Options): { variant: string; readings: R[] };
  /**
   * The value of the option at which a variant begins ("above") or ceases ("below") to answer, up to rounding.
   * Of "below" -Infinity, of "above" Infinity, where none answers at any value; the other way round where one always does.
   */
  turn(readings: readonly Reading[], options: Options): number;
}

/** Measurements of a step beside its loss (`EditStep.numbers`), all in one unit, for figures. */
export interface Measured<O extends Options = Options> {
  /** The axis: "Routing activation Δ". */
  title: string;
  /** Names of the numbers; where one has none, its own stands. */
  names: Readonly<Record<string, string>>;
  /** Levels that the numbers are held against. `left`: the numbers of the edit's trace. */
  guides(options: O, left: EditTrace["numbers"]): Guide[];
}

/** A level beside the numbers of an edit's steps. */
export interface Guide {
  /** "α"; a figure writes the value after it. */
  name: string;
  value: number;
  /** "bound": of the loss; "threshold": of the router. */
  kind: "bound" | "threshold";
}

/** A knowledge-editing method. */
export interface EditMethod<O extends Options = Options> {
  /** On the command line and in protocols: "wise". */
  name: string;
  /** In tables and sentences: "WISE". */
  title: string;
  /** `alg_name` of released hyperparameter files. */
  algName: string;
  /** Its change of the model, in a sentence. */
  about: string;
  /** Paper and year. */
  source: string;
  options: OptionTable<O>;
  /** Named sets of values in which the paper, its released code and this project differ. The first is the default; single keys win. */
  variants?: Readonly<Record<string, Partial<O>>>;
  /** Keys that may have one value only. */
  fixed?: Readonly<Record<string, FixedKey>>;
  /** Keys of its released files that change nothing here, each with the reason, beside those of every method. */
  withoutEffect?: Readonly<Record<string, string>>;
  presets: Readonly<Record<string, Preset>>;
  /** The option that limits the steps of an edit, where an edit of fewer steps is the beginning of one with more. */
  stepLimit?: keyof O & string;
  /**
   * The numbers of a trace that ends with this step, of an edit made alone on the untouched model. Left out where they do
   * not depend on how long the edit went on.
   */
  endNumbers?(last: EditStep): EditTrace["numbers"];
  /** The term of a step's loss that is the mean of -log p over the target's tokens, in nats. */
  targetTerm: string;
  /** Names of a loss's terms in figures; where one has none, its own stands. */
  terms?: Readonly<Record<string, string>>;
  /** Left out where the numbers of a step, if any, need no words. */
  measured?: Measured<O>;
  router?: Router;
  /**
   * Checks values that exclude each other, or that the model cannot have.
   * @param refuse throws, with the place that gave the option
   */
  check?(options: O, model: LlamaConfig, refuse: (key: keyof O & string, expected: string) => never): void;
  /** Gives checked values that say the same one form. @returns them, and those that have no effect, each with its reason */
  settle?(options: O): { options: O; ignored: string[] };
  plan(options: O, model: LlamaConfig): MethodPlan;
  /**
   * Begins edits on the untouched model, or goes on from a state, whose arrays it takes over.
   * @throws {RefusedInput} for a state that does not fit
   */
  start(options: O, setting: EditSetting, saved?: EditState): EditSession;
  /**
   * Trains what its edits need, for one model and all of its edits; left out by methods that need no training.
   * @throws {RefusedInput} for records that cannot be trained on, or a state that does not fit
   */
  train?(options: O, setting: TrainingSetting, saved?: TrainingState): Training;
}

/** Gives a method the form that the registry lists: its own options are checked here, and unknown outside. */
export function defineMethod<O extends Options>(method: EditMethod<O>): EditMethod {
  return method as unknown as EditMethod;
}

/** A method with its options resolved: ready to be run, and described for the protocol. */
export interface PreparedMethod extends MethodPlan {
  method: EditMethod;
  name: string;
  /** Those that are recorded with every number. */
  options: Options;
  seed: number;
  /** Options that were accepted but have no effect here, each with its reason. */
  ignored: string[];
  start(setting: EditSetting, saved?: EditState): EditSession;
  /** Null for a method that needs no training. */
  train: PreparedTraining | null;
}

/** A method's training with its options resolved, all of which decide what comes of it. */
export interface PreparedTraining {
  options: Options;
  begin(setting: TrainingSetting, saved?: TrainingState): Training;
}

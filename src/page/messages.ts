import type { Guide } from "../edit/contract.js";
import type { EditStep } from "../edit/trace.js";
import type { PageBackendName } from "../tensor/in-page.js";

/* Messages between the page and the worker that computes. All of them are plain values. */

/** Everything that a page carries, in parts: base64 of gzip. */
export interface PageContent {
  /** Files of the model, by name. */
  model: Record<string, string>;
  /** tfjs-backend-wasm-simd.wasm. */
  wasm: string;
  /** `PageTexts` as JSON. */
  texts: string;
}

/** Records and presets, as they were when the page was built. */
export interface PageTexts {
  modelName: string;
  /** Presets of the methods, by "method/preset". */
  presets: Record<string, string>;
  records: import("../data/records.js").EditRecord[];
  recordsName: string;
  irrelevant: import("../data/records.js").IrrelevantList;
  /** Context templates that the model wrote when the page was built, by `recipeKey`. */
  templates: Record<string, string[]>;
}

/** A fact of the model's world that the page offers for an edit. */
export interface Example {
  prompt: string;
  target: string;
  rephrase: string;
  unrelated: string;
}

export interface MethodView {
  name: string;
  title: string;
  about: string;
  source: string;
}

export interface Opened {
  backend: string;
  card: string | null;
  model: string;
  sha256: string;
  parameters: number;
  methods: MethodView[];
  examples: Example[];
  seconds: number;
}

/** The chosen method, with its options. */
export interface Chosen extends MethodView {
  options: Record<string, unknown>;
  /** Names of the loss's terms, and of the numbers beside them. */
  terms: Record<string, string>;
  measured: { title: string; names: Record<string, string> } | null;
  /** The router's option that is read at inference only. */
  inference: { key: string; value: number } | null;
}

export interface AnswerView {
  question: string;
  text: string;
  /** In words: "the untouched model". */
  by: string;
  /** True where an edit answers. */
  edited: boolean;
  readings: ReadingView[];
  seconds: number;
}

/** A variant as the router saw it. */
export interface ReadingView {
  called: string;
  /** Share of its threshold. */
  margin: number;
  /** "Δ 8.31, threshold 5.02". */
  numbers: string;
}

export interface StepView extends EditStep {
  limit: number | null;
  guides: Guide[];
}

export interface EditView {
  steps: number;
  stoppedEarly: boolean;
  guides: Guide[];
  seconds: number;
  standing: Standing;
}

/** The edits that stand. */
export interface Standing {
  edits: number;
  sha256: string | null;
}

/** A row of the table over T. */
export interface TableRow {
  T: number;
  records: number;
  rewrite: number | null;
  rephrase: number | null;
  locality: number | null;
  average: number | null;
}

/** A logged probe, as the router saw it. */
export interface Dot {
  kind: "rewrite" | "rephrase" | "locality";
  /** Value of the router's option at which its answer turns. */
  turn: number;
  /** True where it is answered by an edit now. */
  edited: boolean;
}

/** The runs as they are at a value of the router's option. */
export interface TableView {
  rows: TableRow[];
  /** Of the run with the largest T. */
  dots: Dot[];
  value: number | null;
}

export interface RunProgressView {
  T: number;
  edited: number;
  scored: number;
  records: number;
}

/** The calls of the page, by name: what is sent and what comes back. */
export interface Calls {
  open: [{ content: PageContent; backend: PageBackendName }, Opened];
  choose: [{ method: string; set: string[] }, Chosen];
  ask: [{ question: string }, AnswerView];
  edit: [{ prompt: string; target: string; irrelevant: string | null }, EditView];
  rollback: [null, Standing];
  save: [null, { bytes: Uint8Array<ArrayBuffer>; sha256: string; name: string }];
  restore: [{ name: string; bytes: Uint8Array }, { chosen: Chosen; standing: Standing }];
  run: [{ records: number; T: number[] }, TableView];
  at: [{ value: number }, TableView];
}

export type CallName = keyof Calls;
export type Sent<N extends CallName> = Calls[N][0];
export type Received<N extends CallName> = Calls[N][1];

/** To the worker: a call, or the wish that the work at hand ends. */
export type ToWorker = { id: number; name: CallName; sent: unknown } | { stop: true };

/** From the worker: the end of a call, or news of the work at hand. */
export type FromWorker =
  | { id: number; received: unknown }
  | { id: number; refused: string; kind: string }
  | { news: News };

export type News =
  | { about: "opening"; line: string }
  | { about: "step"; step: StepView }
  | { about: "run"; progress: RunProgressView };

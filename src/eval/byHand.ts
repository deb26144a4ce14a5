import { createRng } from "../core/rng.js";
import { requireNotBlank } from "../core/text.js";
import type { Asset, EditControl, EditSession, EditSetting, PreparedMethod } from "../edit/contract.js";
import { type Overlay, untouched } from "../edit/overlay.js";
import { type EditFile, type EditOwner, editFile, hashEdits } from "../edit/state.js";
import type { EditTrace } from "../edit/trace.js";
import type { CutStore } from "../model/cut-store.js";
import type { LlamaModel } from "../model/model.js";
import { type Answer, ask } from "./answers.js";
import { type Probe, scoreProbes } from "./score.js";
import type { ProbeScore } from "./types.js";

/** One fact to write by hand. */
export interface Fact {
  prompt: string;
  target: string;
  /** Subject of the fact, as it stands in the prompt, for methods that need it. */
  subject?: string;
  /** A text whose answer must not change, to train the router on; one of the project's own by default. */
  irrelevant?: string;
}

/** A model to ask, edit by hand and roll back. */
export interface EditsByHand {
  /** Edits that stand now. */
  readonly edits: number;
  /** A free answer under the edits that stand. */
  ask(question: string, options?: { maxNewTokens?: number; signal?: AbortSignal }): Promise<Answer>;
  /** Teacher-forced scores under the edits that stand. */
  score(probes: readonly Probe[], signal?: AbortSignal): Promise<ProbeScore[]>;
  /** Writes one fact, on top of those that stand. */
  edit(fact: Fact, control?: EditControl): Promise<EditTrace>;
  /** Drops every edit: the model answers as before the first. */
  rollback(): void;
  /** sha256 of the edits that stand, with model and options. */
  hash(): Promise<string>;
  /** The edits that stand as one safetensors file. */
  file(): Promise<EditFile>;
  /** Rolls back and puts restored edits in place. @param restored a reading of a file; it may refuse, and the edits then stay */
  restore(restored: (setting: EditSetting, owner: EditOwner) => Promise<RestoredEdits>): Promise<void>;
}

export interface RestoredEdits {
  session: EditSession;
  edits: number;
}

/** Parts of a model that is edited by hand. */
export interface HandParts {
  model: LlamaModel;
  method: PreparedMethod;
  cuts: CutStore;
  templates: readonly string[];
  assets: ReadonlyMap<string, Asset>;
  /** The irrelevant text of the nth edit, where the fact names none; null where the method needs none. */
  irrelevant: (edit: number) => string | null;
}

const ANSWER_TOKENS = 12; // the longest answers of zsRE, with room to see the model run on

export function editsByHand({ model, method, cuts, templates, assets, irrelevant: given }: HandParts): EditsByHand {
  const setting: EditSetting = { model, cuts, templates, rng: createRng(method.seed), assets };
  const reading = { model, cuts, style: method.style };
  const owner: EditOwner = { method, model, assets };
  let session: EditSession | null = null;
  let edits = 0;

  function current(): EditSession {
    session ??= method.start(setting);
    return session;
  }

  function rollback(): void {
    session?.dispose();
    session = null;
    edits = 0;
  }

  async function underEdits<T>(read: (overlay: Overlay) => Promise<T>): Promise<T> {
    const overlay = session === null ? untouched(method.cut) : await session.overlay();
    try {
      return await read(overlay);
    } finally {
      overlay.dispose();
    }
  }

  return {
    get edits() {
      return edits;
    },
    ask: (question, { maxNewTokens = ANSWER_TOKENS, signal } = {}) =>
      underEdits((overlay) => ask(question, overlay, { ...reading, maxNewTokens, routing: "once", signal })),
    score: (probes, signal) => underEdits((overlay) => scoreProbes(probes, overlay, { ...reading, signal })),
    async edit({ prompt, target, subject = null, irrelevant }, control) {
      requireNotBlank(prompt, "prompt");
      requireNotBlank(target, "target");
      const request = { record: -1, prompt, target, subject, irrelevant: irrelevant ?? given(edits) };
      const [trace] = (await current().edit([request], control)) as [EditTrace];
      edits += 1;
      return trace;
    },
    rollback,
    hash: () => hashEdits(current(), owner),
    file: () => editFile(current(), owner),
    async restore(restored) {
      const made = await restored(setting, owner);
      rollback();
      session = made.session;
      edits = made.edits;
    },
  };
}

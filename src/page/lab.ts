import { RefusedInput, takeTurn } from "../core/errors.js";
import { createRng } from "../core/rng.js";
import type { EditRecord, IrrelevantList } from "../data/records.js";
import { irrelevantPrompt } from "../data/records.js";
import type { EditMethod, EditSession, EditSetting, PreparedMethod } from "../edit/contract.js";
import { type OptionTexts, prepareMethod, settingsOf } from "../edit/hparams.js";
import { describeEdits, restoreFrom } from "../edit/state.js";
import { makeContextTemplates, recipeKey } from "../edit/templates.js";
import { type EditsByHand, editsByHand } from "../eval/byHand.js";
import { probesOf, recordScore } from "../eval/records.js";
import { scoreProbes } from "../eval/score.js";
import type { RecordScore } from "../eval/types.js";
import { type CutStore, createCutStore } from "../model/cut-store.js";
import type { LlamaModel } from "../model/model.js";
import { cutName } from "../model/patch.js";
import { readSafetensors, sourceOf } from "../model/safetensors.js";
import { blocksOf, RECORDS_TOGETHER } from "../run/blocks.js";
import { requestOf } from "../run/plan.js";
import type { ScoredRecord } from "../run/types.js";
import { pageMethods } from "./methods.js";

/** The preset of the project's own model. */
const PRESET = "lab";

/** A lab in a page: one model, one method at a time, edits by hand and small runs of the protocol. */
export interface PageLab {
  readonly model: LlamaModel;
  readonly method: PreparedMethod;
  readonly byHand: EditsByHand;
  /**
   * Takes a method; the edits that stand go.
   * @param set options, "key=value", over the preset
   * @throws {RefusedInput} for a method or option that cannot be used; all stays as it was
   */
  choose(name: string, set: readonly string[], signal?: AbortSignal): Promise<void>;
  /** Takes the method and options of saved edits, and puts them in place. @throws {RefusedInput} for a file of another model */
  restore(name: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** The T-rollback protocol: blocks of T, each scored at its end by the model as it then is. */
  run(records: readonly EditRecord[], T: number, control: RunControl): Promise<ScoredRecord[]>;
}

export interface RunControl {
  signal?: AbortSignal | undefined;
  onProgress?: ((done: { edited: number; scored: number }) => void) | undefined;
}

/** A method at work. */
interface Chosen {
  method: PreparedMethod;
  cuts: CutStore;
  templates: readonly string[];
  byHand: EditsByHand;
}

/** @throws {RefusedInput} for presets that do not fit the model */
export async function openPage(parts: {
  model: LlamaModel;
  texts: OptionTexts;
  irrelevant: IrrelevantList;
  /** That the model has written before, by `recipeKey`; others it writes when they are needed. */
  templates: Readonly<Record<string, string[]>>;
}): Promise<PageLab> {
  const { model, texts } = parts;
  const stores = new Map<string, CutStore>();
  const before = Object.entries(parts.templates).map(([key, texts]) => [key, Promise.resolve(texts)] as const);
  const written = new Map<string, Promise<string[]>>(before);
  let chosen = await prepared(pageMethods[0] as EditMethod, []);

  async function prepared(method: EditMethod, set: readonly string[], signal?: AbortSignal): Promise<Chosen> {
    const setting = { model: model.config, others: pageMethods, texts };
    const ready = await prepareMethod(method, { preset: PRESET, set }, setting);
    const at = cutName(ready.cut);
    const cuts = stores.get(at) ?? createCutStore(model, ready.cut);
    stores.set(at, cuts);
    const templates = await templatesOf(ready, cuts, signal);
    const irrelevant = irrelevantOf(ready);
    const byHand = editsByHand({
      model,
      method: ready,
      cuts,
      templates,
      assets: new Map(),
      irrelevant: (edit) => (irrelevant === null ? null : irrelevantPrompt(irrelevant, edit)),
    });
    return { method: ready, cuts, templates, byHand };
  }

  /** One model always writes the same ones. */
  async function templatesOf({ needs }: PreparedMethod, cuts: CutStore, signal?: AbortSignal): Promise<string[]> {
    if (needs.templates === null) return ["{}"];
    const key = recipeKey(needs.templates);
    const before = written.get(key);
    if (before !== undefined) return before;
    const templates = makeContextTemplates(model, needs.templates, { cuts, signal });
    written.set(key, templates);
    templates.catch(() => written.delete(key)); // stopped: to be written another time
    return templates;
  }

  function irrelevantOf({ needs }: PreparedMethod): IrrelevantList | null {
    return needs.irrelevant ? parts.irrelevant : null;
  }

  return {
    model,
    get method() {
      return chosen.method;
    },
    get byHand() {
      return chosen.byHand;
    },
    async choose(name, set, signal) {
      const next = await prepared(methodCalled(name), set, signal);
      chosen.byHand.rollback();
      chosen = next;
    },
    async restore(name, bytes, signal) {
      const file = await readSafetensors(sourceOf(bytes), name);
      const { method, options } = await describeEdits(file);
      const next = await prepared(methodCalled(method), settingsOf(options), signal);
      await next.byHand.restore((setting, owner) => restoreFrom(file, setting, owner));
      chosen.byHand.rollback();
      chosen = next;
    },
    async run(records, T, control) {
      const { method, cuts, templates } = chosen;
      const setting: EditSetting = { model, cuts, templates, rng: createRng(method.seed), assets: new Map() };
      const irrelevant = irrelevantOf(method);
      const scores: RecordScore[] = [];
      for (const { index, start, end } of blocksOf(records.length, T)) {
        const block = records.slice(start, end);
        const session = method.start(setting);
        try {
          let edited = start;
          for (const together of method.together === 1 ? block.map((record) => [record]) : [block]) {
            const requests = together.map((record) => requestOf(record, { method, irrelevant }));
            await session.edit(requests, { signal: control.signal });
            edited += together.length;
            control.onProgress?.({ edited, scored: scores.length });
          }
          for (let first = 0; first < block.length; first += RECORDS_TOGETHER) {
            const part = block.slice(first, first + RECORDS_TOGETHER);
            scores.push(...(await scored(session, part, { index, method, cuts, signal: control.signal })));
            control.onProgress?.({ edited, scored: scores.length });
          }
        } finally {
          session.dispose(); // the rollback
        }
      }
      return scores;
    },
  };

  async function scored(
    session: EditSession,
    records: readonly EditRecord[],
    on: { index: number; method: PreparedMethod; cuts: CutStore; signal: AbortSignal | undefined },
  ): Promise<RecordScore[]> {
    await takeTurn(on.signal, "scoring");
    const overlay = await session.overlay();
    try {
      const probes = records.map(probesOf);
      const reading = { model, cuts: on.cuts, style: on.method.style, signal: on.signal };
      const scores = await scoreProbes(probes.flat(), overlay, reading);
      return records.map((record, i) => recordScore(record, on, scores.splice(0, probes[i]?.length)));
    } finally {
      overlay.dispose();
    }
  }
}

function methodCalled(name: string): EditMethod {
  const found = pageMethods.find((method) => method.name === name);
  if (found !== undefined) return found;
  throw new RefusedInput("the page does not have this method", {
    where: "method",
    found: name,
    expected: pageMethods.map((method) => method.name).join(", "),
    hint: "the command line has every method",
  });
}

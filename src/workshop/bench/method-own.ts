import { join } from "node:path";
import { LabFailure } from "../../core/errors.js";
import { createRng } from "../../core/rng.js";
import type { Asset, EditRequest, EditSession, EditSetting, PreparedMethod } from "../../edit/contract.js";
import type { Covariance } from "../../edit/covariance.js";
import { covarianceOf, type StatsOptions, statsOptions } from "../../edit/locate/options.js";
import { crossEntropy, oneHotTargets, targetsOf } from "../../edit/loss.js";
import { NETWORK } from "../../edit/mend/archive.js";
import type { NetworkValues } from "../../edit/mend/network.js";
import { methodNamed, prepareNamed } from "../../edit/registry.js";
import { forcedRow, type TokenRow } from "../../edit/rows.js";
import type { EditState } from "../../edit/state.js";
import { makeContextTemplates } from "../../edit/templates.js";
import type { EditTrace } from "../../edit/trace.js";
import { batchCuts, logitsAt } from "../../model/cut.js";
import { createCutStore } from "../../model/cut-store.js";
import type { LlamaModel } from "../../model/model.js";
import { writeSafetensors } from "../../model/safetensors-file.js";
import { tf } from "../../tensor/tf.js";
import type { EditedByMethod, OursQuestion, Prepared } from "./method-protocol.js";

/** The methods as users get them, each edit on the untouched model. */
export interface OwnMethods {
  /** Takes up a method, with all that may be there before an edit: options, side data and context templates. */
  prepare(question: Extract<OursQuestion, { ask: "prepare" }>): Promise<Prepared>;
  /** The frozen pass is part of every edit. */
  edit(edit: number): Promise<EditedByMethod>;
  /** Mean of -log p over the target's tokens under the last edit, where what it left answers. */
  after(): Promise<{ loss: number }>;
}

/** A method, and the edits that it is asked to make. */
interface TakenUp {
  method: PreparedMethod;
  requests: readonly EditRequest[];
  templates: readonly string[];
}

/** @param folder takes the files for the other side */
export function createOwnMethods(model: LlamaModel, folder: string): OwnMethods {
  const { tokenizer } = model;
  /** Side data by name: several methods have the same. */
  const assets = new Map<string, Asset>();
  let taken: TakenUp | undefined;
  let last: { session: EditSession; setting: EditSetting; row: TokenRow } | undefined;

  /** With an empty store. */
  function startSetting({ method, templates }: Omit<TakenUp, "requests">): EditSetting {
    const cuts = createCutStore(model, method.cut);
    return { model, cuts, templates, rng: createRng(method.seed), assets };
  }

  /** Writes what tensors there are to a file for the other side; null for none. */
  async function written(name: string, tensors: EditState["tensors"]): Promise<string | null> {
    const values = Object.entries(tensors).flatMap(([name, { shape, data }]) =>
      data instanceof Float32Array ? [[name, { dtype: "F32", shape, data }] as const] : [],
    );
    if (values.length === 0) return null;
    const path = join(folder, `${name}.safetensors`);
    await writeSafetensors(path, Object.fromEntries(values));
    return path;
  }

  /** State of a session before its first edit, such as factors that were drawn. */
  async function drawn(from: Omit<TakenUp, "requests">): Promise<EditState["tensors"]> {
    const session = from.method.start(startSetting(from));
    const { tensors } = await session.state();
    session.dispose();
    return tensors;
  }

  /** Files of the covariances that side data is made of, by layer. */
  async function covariances(
    { needs, options }: PreparedMethod,
    stats_dir = statsOptions.stats_dir.default,
  ): Promise<Record<string, string>> {
    const files: Record<string, string> = {};
    if (needs.assets.length === 0 || !("mom2_dataset" in options)) return files;
    const stats = { ...options, stats_dir } as unknown as StatsOptions;
    for (const layer of options.layers as number[]) {
      const { value } = await covarianceOf({ layer, matrix: "down" }, stats).open(model);
      files[layer] = (value as Covariance).path;
    }
    return files;
  }

  return {
    async prepare({ name, preset, steps, set, stats, requests }) {
      const { stepLimit, options } = methodNamed(name);
      const limit = steps === null || stepLimit === undefined ? [] : [`${stepLimit}=${steps}`];
      const place = stats === undefined || !("stats_dir" in options) ? [] : [`stats_dir=${JSON.stringify(stats)}`];
      const method = await prepareNamed(name, { preset, set: [...limit, ...place, ...set] }, model.config);
      for (const need of method.needs.assets) {
        if (!assets.has(need.name)) assets.set(need.name, await need.open(model));
      }
      const recipe = method.needs.templates;
      const templates = recipe === null ? ["{}"] : await makeContextTemplates(model, recipe);
      taken = { method, requests, templates };
      return {
        name,
        options: method.options,
        edits: requests.map((request) => ({
          rows: method.rows(request, { tokenizer, templates }),
          forced: forcedRow(request, tokenizer),
        })),
        files: {
          start: await written("start", await drawn(taken)),
          covariances: await covariances(method, stats),
          network: await written("network", (assets.get(NETWORK)?.value as NetworkValues | undefined) ?? {}),
        },
      };
    },

    async edit(edit) {
      if (taken === undefined) throw new LabFailure("no method was taken up yet");
      last?.session.dispose();
      const request = taken.requests[edit] as EditRequest;
      const setting = startSetting(taken);
      const started = performance.now();
      const session = taken.method.start(setting);
      const [trace] = (await session.edit([request])) as [EditTrace];
      const seconds = (performance.now() - started) / 1000;
      last = { session, setting, row: forcedRow(request, tokenizer) };
      return { seconds, frozen: trace.seconds.frozen, losses: trace.steps.map(({ loss }) => loss) };
    },

    async after() {
      if (last === undefined) throw new LabFailure("nothing was edited yet");
      const { session, setting, row } = last;
      const batch = batchCuts(model, await setting.cuts.get([row.ids]), [row.promptTokens]);
      const overlay = await session.overlay();
      const routed = await overlay.route(batch);
      const [decision] = routed.decisions;
      const variant = decision?.readings[0]?.variant ?? (decision?.variant as string);
      const { spots, ids, weights } = targetsOf([row]);
      const loss = tf.tidy(() => {
        const logits = logitsAt(model, batch, { patch: routed.patch(variant), spots });
        return crossEntropy(logits, oneHotTargets(ids, model.config.vocabSize), tf.tensor1d(weights));
      });
      const [value] = await loss.data<"float32">();
      loss.dispose();
      for (const used of [routed, overlay, batch]) used.dispose();
      return { loss: value as number };
    },
  };
}

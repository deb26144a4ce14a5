import { throwIfAborted } from "../../core/errors.js";
import type { LlamaConfig } from "../../model/config.js";
import { batchCuts } from "../../model/cut.js";
import type { Patch, Site } from "../../model/patch.js";
import { PLAIN } from "../../model/prompt.js";
import { linear } from "../../model/weight.js";
import { tf } from "../../tensor/tf.js";
import {
  defineMethod,
  type EditBytes,
  type EditControl,
  type EditRequest,
  type EditSession,
  type EditSetting,
} from "../contract.js";
import type { Covariance } from "../covariance.js";
import { keysOf, locatedRows, locatedTemplates, meanOf, rowsOf } from "../locate/lookup.js";
import { covarianceOf, locateFixed } from "../locate/options.js";
import { type SearchPlace, searchValue } from "../locate/search.js";
import { loadedUpdates, patchOf, storedUpdates, type Update, updateBytes } from "../locate/updates.js";
import { type Overlay, unrouted, untouched } from "../overlay.js";
import { sequencesOfRows } from "../rows.js";
import type { EditState } from "../state.js";
import { oneByOne } from "../steps.js";
import type { EditTrace } from "../trace.js";
import { type RomeOptions, romeCheck, romeOptions, romePresets, romeVariants } from "./options.js";

/** ROME (arXiv 2202.05262): W <- W + r u^T in one early value matrix, so that the subject's key gives the value v*. */
export const rome = defineMethod<RomeOptions>({
  name: "rome",
  title: "ROME",
  algName: "ROME",
  about: "writes a change of rank one into an early value matrix, at the key of the subject's last token",
  source: "Meng et al. 2022, arXiv 2202.05262",
  options: romeOptions,
  variants: romeVariants,
  fixed: locateFixed,
  presets: romePresets,
  stepLimit: "v_num_grad_steps",
  targetTerm: "nll",
  terms: { nll: "target", kl: "divergence", wd: "weight decay" },
  check: romeCheck,
  plan: (options, config) => ({
    cut: { layer: siteOf(options).layer, at: "mlpIn" },
    sites: [],
    needs: {
      templates: locatedTemplates(options.context_template_length_params),
      irrelevant: false,
      subject: true,
      assets: options.mom2_adjustment ? [covarianceOf(siteOf(options), options)] : [],
    },
    style: PLAIN,
    together: 1,
    rows: (request, context) => rowsOf(locatedRows(request, context)),
    bytes: (edits) => romeBytes(options, config, edits),
  }),
  start: startRome,
});

function siteOf({ layers: [layer] }: Pick<RomeOptions, "layers">): Site {
  return { layer, matrix: "down" };
}

/** Numbers that a gradient holds for every logit of a target, which the plan of a step counts by the tokens of rows. */
const OF_A_LOGIT = 7;

function romeBytes(
  options: RomeOptions,
  { hiddenSize, intermediateSize, vocabSize }: LlamaConfig,
  edits: number,
): EditBytes {
  const { kept, onDevice } = updateBytes(edits, [hiddenSize, intermediateSize]);
  const statistics = options.mom2_adjustment ? (4 + 8) * intermediateSize ** 2 : 0; // a sum in float32, its factor in float64
  const rows = options.context_template_length_params.reduce((sum, [, texts]) => sum + texts, 2);
  const lastTargets = 4 * OF_A_LOGIT * vocabSize * rows; // predicted, but no part of their rows
  return {
    kept: kept + statistics,
    stepping: onDevice + lastTargets,
    reading: onDevice,
    working: 2 * kept + onDevice,
    variants: 1,
  };
}

/** Edits with ROME, from the untouched model or from a state. */
export function startRome(options: RomeOptions, setting: EditSetting, saved?: EditState): EditSession {
  const site = siteOf(options);
  const { hiddenSize, intermediateSize } = setting.model.config;
  const cut = setting.cuts.point;
  let updates = saved === undefined ? [] : loadedUpdates("down", saved, [hiddenSize, intermediateSize]);

  async function edit(request: EditRequest, control: EditControl): Promise<EditTrace> {
    throwIfAborted(control.signal, "an edit");
    const started = performance.now();
    const located = await locate(request, updates, { options, setting, signal: control.signal });
    const frozen = (performance.now() - started) / 1000;
    const { division, u } = located;
    // r = (v* - W k) / (k . u), and v* - W k = delta.
    const withEdit = (delta: Float32Array) => [...updates, { left: delta.map((x) => x / division), right: u }];
    try {
      const standing = async (delta: Float32Array) => overlayOf(withEdit(delta));
      const { delta, taken } = await searchValue(located.place, options, { control, standing });
      updates = withEdit(delta);
      const { steps, stoppedEarly, seconds } = taken;
      return {
        record: request.record,
        steps,
        stoppedEarly,
        numbers: { division },
        seconds: { frozen, steps: seconds },
      };
    } finally {
      located.dispose();
    }
  }

  function overlayOf(from: readonly Update[]): Overlay {
    if (from.length === 0) return untouched(cut);
    const { patch, dispose } = patchOf(site, from);
    return unrouted(cut, patch, dispose);
  }

  return {
    edit: oneByOne(edit),
    overlay: async () => overlayOf(updates),
    state: async () => ({ edits: updates.length, tensors: storedUpdates("down", updates), json: null }),
    dispose: () => {
      updates = [];
    },
  };
}

/** An edit before its search. */
export interface LocatedEdit {
  /** Mean of the keys under all templates, [M]. */
  mean: Float64Array;
  /** Its direction, multiplied by C^-1 where the options say so: of length 1, [M]. */
  u: Float32Array;
  /** The key of the bare prompt, [M]. */
  k: Float64Array;
  /** k . u */
  division: number;
  place: SearchPlace;
  dispose(): void;
}

/**
 * Finds where an edit goes: the key of its subject (Meng et al. 2022, eq. 3; released: compute_u.py), and the value that
 * the matrix with its earlier updates gives for it.
 */
export async function locate(
  request: EditRequest,
  updates: readonly Update[],
  { options, setting, signal }: { options: RomeOptions; setting: EditSetting; signal?: AbortSignal | undefined },
): Promise<LocatedEdit> {
  const { model, templates } = setting;
  const site = siteOf(options);
  const rows = locatedRows(request, { tokenizer: model.tokenizer, templates });
  const cuts = await setting.cuts.get(sequencesOfRows(rowsOf(rows)), signal);
  const keys = keysOf(cuts, rows);
  const [k] = keys as [Float64Array];
  const mean = meanOf(keys);
  const covariance = setting.assets.get(covarianceOf(site, options).name)?.value as Covariance | undefined;
  const u = unitOf(options.mom2_adjustment ? (covariance as Covariance).solve(mean) : mean);
  const { patch: earlier, dispose } = patchOf(site, updates);
  const start = await valueAt(k, { site, setting, earlier });
  const batch = batchCuts(model, cuts);
  return {
    mean,
    u,
    k,
    division: k.reduce((sum, x, j) => sum + x * (u[j] as number), 0),
    place: { model, rows, batch, earlier, start },
    dispose() {
      batch.dispose();
      dispose();
    },
  };
}

function unitOf(vector: Float64Array): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
  return Float32Array.from(vector, (x) => x / length);
}

/** Output of the value matrix for a key, with its earlier updates: v0, [D]. */
async function valueAt(
  k: Float64Array,
  { site, setting, earlier }: { site: Site; setting: EditSetting; earlier: Patch },
): Promise<Float32Array> {
  const value = tf.tidy(() => {
    const x = tf.tensor2d(Float32Array.from(k), [1, k.length]);
    let value = () => linear(x, setting.model.weight(site));
    for (const { change } of earlier) {
      const before = value;
      value = () => change(x, before, (rows) => rows);
    }
    return value();
  });
  const values = await value.data<"float32">();
  value.dispose();
  return values;
}

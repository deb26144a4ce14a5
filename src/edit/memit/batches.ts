import { throwIfAborted } from "../../core/errors.js";
import type { LlamaConfig } from "../../model/config.js";
import type { CutBatch } from "../../model/cut.js";
import type { CutPoint } from "../../model/patch.js";
import type { EditBytes, EditControl, EditRequest, EditSession, EditSetting } from "../contract.js";
import type { SearchOptions, SearchPlace } from "../locate/search.js";
import { searchValue } from "../locate/search.js";
import { loadedUpdates, storedUpdates, type Update, updateBytes } from "../locate/updates.js";
import { type Overlay, unrouted, untouched } from "../overlay.js";
import type { EditState } from "../state.js";
import type { StepsTaken } from "../steps.js";
import type { EditTrace } from "../trace.js";
import {
  behindLast,
  type LayerStep,
  type LayerUpdates,
  type LocatedRequest,
  locateRequest,
  patchOfLayers,
  risingLayers,
  type SolveLayer,
  type SpreadOptions,
  spread,
} from "./spread.js";

/** A method whose values are spread over several layers. */
export interface Spreading {
  options: SearchOptions & SpreadOptions;
  solve: SolveLayer;
  /** Told of a batch that stands now, e.g. to remember its keys. */
  stood?(steps: readonly LayerStep[]): void;
  /** The rest of the state. */
  stored?(): EditState["tensors"];
}

/** The lowest edited matrix' input: nothing before it is ever changed. */
export function spreadCut(options: SpreadOptions): CutPoint {
  return { layer: risingLayers(options)[0] as number, at: "mlpIn" };
}

/** A value that was searched: v*, [D]. */
interface Searched {
  located: LocatedRequest;
  value: Float64Array;
  taken: StepsTaken;
}

/** Edits by batches of so many of the requests that are handed over together. From the untouched model or from a state. */
export function startSpreading(
  { options, solve, stood, stored = () => ({}) }: Spreading,
  { setting, batchSize, saved }: { setting: EditSetting; batchSize: number; saved?: EditState | undefined },
): EditSession {
  const { hiddenSize, intermediateSize } = setting.model.config;
  const layers = risingLayers(options);
  const cut = spreadCut(options);
  const nameOf = (layer: number) => `layers.${layer}.down`;
  let updates: LayerUpdates = new Map(
    layers.map((layer) => [
      layer,
      saved === undefined ? [] : loadedUpdates(nameOf(layer), saved, [hiddenSize, intermediateSize]),
    ]),
  );
  let edits = saved?.edits ?? 0;

  /** One batch: all values are searched on the edits that stand, then the layers are changed for all of them. */
  async function edit(requests: readonly EditRequest[], control: EditControl = {}): Promise<EditTrace[]> {
    const batches: CutBatch[] = [];
    const searched: Searched[] = [];
    const seconds: EditTrace["seconds"][] = [];
    try {
      for (const request of requests) {
        throwIfAborted(control.signal, "an edit");
        const started = performance.now();
        const located = await locateRequest(request, setting, control.signal);
        batches.push(located.batch);
        const frozen = (performance.now() - started) / 1000;
        const standing = async (value: Float64Array) =>
          overlayOf(withSteps(updates, await spreadOver([...searched, { located, value }])));
        searched.push({ located, ...(await search(located, updates, { options, setting, control, standing })) });
        seconds.push({ frozen, steps: (performance.now() - started) / 1000 - frozen });
      }
      const started = performance.now();
      const steps = await spreadOver(searched);
      const share = (performance.now() - started) / 1000 / requests.length;
      updates = withSteps(updates, steps);
      edits += requests.length;
      stood?.(steps);
      return searched.map(({ taken: { steps, stoppedEarly } }, j) => {
        const { frozen, steps: own } = seconds[j] as EditTrace["seconds"];
        const { record } = requests[j] as EditRequest;
        return { record, steps, stoppedEarly, numbers: {}, seconds: { frozen, steps: own + share } };
      });
    } finally {
      for (const batch of batches) batch.dispose();
    }
  }

  function spreadOver(values: readonly Pick<Searched, "located" | "value">[]): Promise<LayerStep[]> {
    return spread(setting, values, { options, before: updates, solve });
  }

  function overlayOf(from: LayerUpdates): Overlay {
    const { patch, dispose } = patchOfLayers(from);
    return unrouted(cut, patch, dispose);
  }

  return {
    async edit(requests, control) {
      const traces: EditTrace[] = [];
      for (let at = 0; at < requests.length; at += batchSize) {
        traces.push(...(await edit(requests.slice(at, at + batchSize), control)));
      }
      return traces;
    },
    overlay: async () => (edits === 0 ? untouched(cut) : overlayOf(updates)),
    async state() {
      const tensors = layers.map((layer) => storedUpdates(nameOf(layer), updates.get(layer) ?? []));
      return { edits, tensors: Object.assign({}, ...tensors, stored()), json: null };
    },
    dispose: () => {
      updates = new Map();
    },
  };
}

/** The value of a request, searched on the edits that stand. */
export async function search(
  located: LocatedRequest,
  updates: LayerUpdates,
  given: {
    options: SearchOptions & SpreadOptions;
    setting: EditSetting;
    control: EditControl;
    standing: (value: Float64Array) => Promise<Overlay>;
  },
): Promise<{ value: Float64Array; taken: StepsTaken }> {
  const { options, setting, control, standing } = given;
  const { place, dispose } = await placeOf(located, updates, { options, setting });
  const moved = (delta: Float32Array) => Float64Array.from(delta, (x, d) => x + (place.start[d] as number));
  try {
    const { delta, taken } = await searchValue(place, options, {
      control,
      standing: (delta) => standing(moved(delta)),
    });
    return { value: moved(delta), taken };
  } finally {
    dispose();
  }
}

/** Start of a search: behind the last edited layer, under the edits that stand. */
export async function placeOf(
  located: LocatedRequest,
  updates: LayerUpdates,
  { options, setting: { model } }: { options: SpreadOptions; setting: EditSetting },
): Promise<{ place: SearchPlace; dispose(): void }> {
  const last = risingLayers(options).at(-1) as number;
  const { patch, dispose } = patchOfLayers(updates);
  const { batch, stream } = await behindLast(model, located, { last, patch });
  const earlier = patch.filter(({ site }) => site.layer >= last);
  return {
    place: { model, rows: located.rows, batch, earlier, start: stream },
    dispose() {
      batch.dispose();
      dispose();
    },
  };
}

function withSteps(before: LayerUpdates, steps: readonly LayerStep[]): LayerUpdates {
  const after = new Map<number, readonly Update[]>(before);
  for (const { layer, updates } of steps) after.set(layer, [...(before.get(layer) ?? []), ...updates]);
  return after;
}

/** Numbers that a gradient holds for every logit of a target, which the plan of a step counts by the tokens of rows. */
const OF_A_LOGIT = 7;
/** Streams and inputs of value matrices that a batch has while it is carried on, beside those of its cut. */
const CARRIED = 2;

/** Memory of up to `edits` edits. @param beside what the side data takes, @param rows rows of one search */
export function spreadBytes(
  options: SpreadOptions,
  { hiddenSize, intermediateSize, vocabSize }: LlamaConfig,
  { edits, beside, rows }: { edits: number; beside: number; rows: number },
): EditBytes {
  const each = updateBytes(edits, [hiddenSize, intermediateSize]);
  const [kept, onDevice] = [each.kept, each.onDevice].map((bytes) => bytes * options.layers.length) as [number, number];
  return {
    kept: kept + beside,
    stepping: onDevice + 4 * OF_A_LOGIT * vocabSize * rows,
    perToken: 4 * CARRIED * (hiddenSize + intermediateSize),
    reading: onDevice,
    working: 2 * kept + onDevice,
    variants: 1,
  };
}

import { writeFile } from "node:fs/promises";
import { createRng } from "../../core/rng.js";
import type { EditSession, EditSetting } from "../../edit/contract.js";
import { makeContextTemplates } from "../../edit/templates.js";
import type { EditTrace } from "../../edit/trace.js";
import type { WiseOptions } from "../../edit/wise/options.js";
import { wiseRows, wiseTemplates } from "../../edit/wise/rows.js";
import { drawMask, startWise } from "../../edit/wise/wise.js";
import { encodeProbe, scoreProbes } from "../../eval/score.js";
import { createCutStore } from "../../model/cut-store.js";
import type { LlamaModel } from "../../model/model.js";
import type { CutPoint } from "../../model/patch.js";
import type { PromptStyle } from "../../model/prompt.js";
import { dispatchesSoFar } from "../../tensor/webgpu.js";
import { isStandIn } from "../stand-in/record.js";
import type { Edited, Fact, Scored, TokenRows } from "./protocol.js";
import { STAND_IN_TEMPLATES, thinned } from "./rows.js";
import { type Contestant, lossesOf } from "./whole.js";

/** The cut as users get it. It also makes what the others are handed: the token rows and the mask's file. */
export async function openCut(
  whole: LlamaModel,
  options: WiseOptions,
  { fact, mask }: { fact: Fact; mask: string },
): Promise<Contestant & { rows: TokenRows }> {
  const point: CutPoint = { layer: options.layer, at: "mlpIn" };
  const standIn = await isStandIn(whole.folder);
  const model = standIn ? { ...whole, tokenizer: thinned(whole.tokenizer) } : whole;
  const templates = standIn
    ? STAND_IN_TEMPLATES
    : await makeContextTemplates(model, wiseTemplates, { cuts: createCutStore(model, point) });
  const style: PromptStyle = { chatTemplate: options.use_chat_template, doubleBos: options.double_bos };
  const startSetting = (): EditSetting => ({
    model,
    cuts: createCutStore(model, point), // an empty one: the frozen pass is part of every edit
    templates,
    rng: createRng(0),
    assets: new Map(),
  });
  let setting = startSetting();
  let session: EditSession | null = null;
  await writeFile(mask, drawMask(setting, options, 0));

  return {
    rows: {
      edit: wiseRows(fact.request, { tokenizer: model.tokenizer, templates }, options),
      probes: fact.probes.map((probe) => encodeProbe(model, probe, style)),
    },

    async edit(steps): Promise<Edited> {
      session?.dispose();
      setting = startSetting();
      const started = performance.now();
      session = startWise({ ...options, n_iter: steps }, setting);
      const dispatched: (number | null)[] = [];
      const onStep = () => dispatched.push(dispatchesSoFar());
      const [trace] = (await session.edit([fact.request], { onStep })) as [EditTrace];
      const seconds = (performance.now() - started) / 1000;
      return {
        seconds,
        frozen: trace.seconds.frozen,
        losses: trace.steps.map(lossesOf),
        dispatches: lastDifference(dispatched),
      };
    },

    async score(): Promise<Scored> {
      const started = performance.now();
      const overlay = await (session as EditSession).overlay();
      const scores = await scoreProbes(fact.probes, overlay, { model, cuts: setting.cuts, style });
      overlay.dispose();
      return {
        seconds: (performance.now() - started) / 1000,
        activations: scores.map(({ readings }) => readings[0]?.numbers.delta ?? Number.NaN),
        before: scores.map(({ pre }) => pre),
        after: scores.map(({ post }) => post),
      };
    },

    delta: async () => (await (session as EditSession).state()).tensors.side?.data as Float32Array,
  };
}

/** Between the last two of some counts; null where nothing counts, or there are not two. */
function lastDifference(counts: readonly (number | null)[]): number | null {
  const [before, last] = counts.slice(-2);
  return before == null || last == null ? null : last - before;
}

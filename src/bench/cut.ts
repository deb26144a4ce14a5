import { writeFile } from "node:fs/promises";
import { createRng } from "../core/rng.js";
import type { EditSetting } from "../edit/contract.js";
import { editRows } from "../edit/rows.js";
import { makeContextTemplates } from "../edit/templates.js";
import type { WiseOptions } from "../edit/wise/options.js";
import { drawMask, startWise, type WiseSession } from "../edit/wise/wise.js";
import { encodeProbe, scoreProbes } from "../eval/score.js";
import { createCutStore } from "../model/cut-store.js";
import type { LlamaModel } from "../model/model.js";
import type { PromptStyle } from "../model/prompt.js";
import { isStandIn } from "../model/stand-in/record.js";
import type { Edited, Fact, Scored, TokenRows } from "./protocol.js";
import { STAND_IN_TEMPLATES, thinned } from "./rows.js";
import type { Contestant } from "./whole.js";

/** The cut as users get it. It also makes what the others are handed: the token rows and the mask's file. */
export async function openCut(
  whole: LlamaModel,
  options: WiseOptions,
  { fact, mask }: { fact: Fact; mask: string },
): Promise<Contestant & { rows: TokenRows }> {
  const standIn = await isStandIn(whole.folder);
  const model = standIn ? { ...whole, tokenizer: thinned(whole.tokenizer) } : whole;
  const templates = standIn
    ? STAND_IN_TEMPLATES
    : await makeContextTemplates(model, { cuts: createCutStore(model, options.layer) });
  const style: PromptStyle = { chatTemplate: options.chatTemplate, doubleBos: options.doubleBos };
  const startSetting = (): EditSetting => ({
    model,
    cuts: createCutStore(model, options.layer), // an empty one: the frozen pass is part of every edit
    templates,
    rng: createRng(options.seed),
  });
  let setting = startSetting();
  let session: WiseSession | null = null;
  await writeFile(mask, drawMask(setting, options, 0));

  return {
    rows: {
      edit: editRows(model.tokenizer, fact.request, { templates, style }),
      probes: fact.probes.map((probe) => encodeProbe(model, probe, style)),
    },

    async edit(steps): Promise<Edited> {
      session?.dispose();
      setting = startSetting();
      const started = performance.now();
      session = startWise(setting, { ...options, steps });
      const trace = await session.edit(fact.request);
      const seconds = (performance.now() - started) / 1000;
      return {
        seconds,
        frozen: trace.seconds.frozen,
        losses: trace.steps.map(({ ft, act, loss }) => ({ ft, act, loss })),
      };
    },

    async score(): Promise<Scored> {
      const started = performance.now();
      const overlay = await (session as WiseSession).overlay();
      const scores = await scoreProbes(fact.probes, overlay, { model, cuts: setting.cuts, style });
      overlay.dispose();
      return {
        seconds: (performance.now() - started) / 1000,
        activations: scores.map(({ readings }) => readings[0]?.delta ?? Number.NaN),
        before: scores.map(({ pre }) => pre),
        after: scores.map(({ post }) => post),
      };
    },

    delta: async () => (await (session as WiseSession).snapshot()).side,
  };
}

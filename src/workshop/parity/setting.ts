import { RefusedInput } from "../../core/errors.js";
import { createRng } from "../../core/rng.js";
import type { Asset, EditSetting, Needs } from "../../edit/contract.js";
import { createCutStore } from "../../model/cut-store.js";
import type { LlamaModel } from "../../model/model.js";
import { type CutPoint, type Site, siteOfModule } from "../../model/patch.js";

/** Surroundings of a scenario's edits. Whatever a reference drew is in its files, and the generator draws nothing. */
export function settingOf(
  model: LlamaModel,
  cut: CutPoint,
  given: { templates?: readonly string[]; assets?: ReadonlyMap<string, Asset> } = {},
): EditSetting {
  const { templates = ["{}"], assets = new Map() } = given;
  return { model, cuts: createCutStore(model, cut), templates, rng: createRng(0), assets };
}

/** The matrix that a reference calls "model.layers.2.mlp.down_proj.weight", with or without the last word. */
export function siteOf(name: string): Site {
  const site = siteOfModule(name);
  if (site !== null) return site;
  throw new RefusedInput("golden vectors of a matrix that no model has", {
    where: "name of a matrix",
    found: name,
    expected: "a name such as model.layers.2.mlp.down_proj.weight",
  });
}

/** Side data of a scenario's method, opened. */
export async function assetsOf({ assets }: Needs, model: LlamaModel): Promise<Map<string, Asset>> {
  const opened = new Map<string, Asset>();
  for (const need of assets) opened.set(need.name, await need.open(model));
  return opened;
}

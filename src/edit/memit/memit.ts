import { PLAIN } from "../../model/prompt.js";
import { defineMethod, type EditMethod, type EditSession, type EditSetting, type MethodPlan } from "../contract.js";
import type { Covariance } from "../covariance.js";
import { locatedRows, locatedTemplates, rowsOf } from "../locate/lookup.js";
import { covarianceOf, locateFixed, type StatsOptions } from "../locate/options.js";
import type { EditState } from "../state.js";
import { spreadBytes, spreadCut, startSpreading } from "./batches.js";
import {
  type MemitOptions,
  memitMassPresets,
  memitOptions,
  memitPresets,
  memitVariants,
  spreadCheck,
  spreadWithoutEffect,
} from "./options.js";
import { risingLayers, type SolveLayer, type SpreadOptions, valueSite } from "./spread.js";
import { innerProducts, ridgeRows } from "./systems.js";

/** MEMIT, one request at a time. */
export const memit = memitOf({
  name: "memit",
  title: "MEMIT",
  about: "writes the subject's value into several early value matrices, each taking its share, one request at a time",
  presets: memitPresets,
  together: 1,
});

/** MEMIT for all requests of a block at once. */
export const memitMass = memitOf({
  name: "memit-mass",
  title: "MEMIT-MASS",
  about: "writes the values of all subjects of a block into several early value matrices, in one closed form each",
  presets: memitMassPresets,
  together: "block",
});

function memitOf(
  own: Pick<EditMethod, "name" | "title" | "about" | "presets"> & Pick<MethodPlan, "together">,
): EditMethod {
  const { together, ...words } = own;
  return defineMethod<MemitOptions>({
    ...words,
    algName: "MEMIT",
    source: "Meng et al. 2023, arXiv 2210.07229",
    options: memitOptions,
    variants: memitVariants,
    fixed: locateFixed,
    withoutEffect: spreadWithoutEffect,
    stepLimit: "v_num_grad_steps",
    targetTerm: "nll",
    terms: { nll: "target", kl: "divergence", wd: "weight decay" },
    check: spreadCheck as NonNullable<EditMethod<MemitOptions>["check"]>,
    plan: (options, config) => ({
      ...spreadPlan(options),
      together,
      // A sum in float32 and its factor in float64, of every layer.
      bytes: (edits) =>
        spreadBytes(options, config, {
          edits,
          beside: (4 + 8) * config.intermediateSize ** 2 * options.layers.length,
          rows: SEARCH_ROWS,
        }),
    }),
    start: (options, setting, saved) => startMemit(options, setting, { together, ...(saved && { saved }) }),
  });
}

/** Context templates: of every opening one text of ten tokens. */
const TEMPLATES = locatedTemplates([[10, 5]], " ");
/** Rows of a search: those, the bare prompt, and that of the divergence. */
export const SEARCH_ROWS = 7;

/** The plan of methods that spread a value over layers, their memory left out. */
export function spreadPlan(options: SpreadOptions & StatsOptions): Omit<MethodPlan, "together" | "bytes"> {
  return {
    cut: spreadCut(options),
    sites: [],
    needs: {
      templates: TEMPLATES,
      irrelevant: false,
      subject: true,
      assets: risingLayers(options).map((layer) => covarianceOf(valueSite(layer), options)),
    },
    style: PLAIN,
    rows: (request, context) => rowsOf(locatedRows(request, context)),
  };
}

/** Edits with MEMIT, from the untouched model or from a state. */
export function startMemit(
  options: MemitOptions,
  setting: EditSetting,
  { together, saved }: { together: 1 | "block"; saved?: EditState },
): EditSession {
  const batchSize = together === 1 ? 1 : Number.POSITIVE_INFINITY;
  return startSpreading({ options, solve: memitSolver(options, setting) }, { setting, batchSize, saved });
}

/** R K^T (lambda C + K K^T)^-1 = R (I + K^T B)^-1 B^T, with B = C^-1 K / lambda (Meng et al. 2023, eq. 14). */
export function memitSolver(options: MemitOptions, { assets }: Pick<EditSetting, "assets">): SolveLayer {
  return (layer, keys) => {
    const covariance = assets.get(covarianceOf(valueSite(layer), options).name)?.value as Covariance;
    const weighed = keys.map((key) => covariance.solve(key).map((x) => x / options.mom2_update_weight));
    return ridgeRows(innerProducts(keys, weighed), weighed, { weight: 1 });
  };
}

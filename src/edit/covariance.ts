import { join } from "node:path";
import { LabFailure, RefusedInput } from "../core/errors.js";
import { exists } from "../core/files.js";
import { type Site, siteName } from "../model/patch.js";
import { collectCovariances } from "../stats/collect.js";
import { type Covariance, openCovariance } from "../stats/covariance.js";
import { openForKeys, requireOwner } from "../stats/norms.js";
import { OWN_DATASET, ownTexts } from "../stats/own-texts.js";
import { covarianceFile, DTYPE, defaultStatsFolder, statsFolders } from "../stats/places.js";
import type { AssetNeed, AssetOwner } from "./contract.js";

export type { Covariance } from "../stats/covariance.js";

/** Place of a covariance: one file, or EasyEdit's place for it in a folder of statistics. */
export type CovarianceSource =
  | { file: string }
  | {
      /** Relative to the current folder; the project's data/stats and the user's folder of statistics are looked through after it. */
      statsDir: string;
      dataset: string;
      samples: number;
      /** "float32" by default. */
      dtype?: string;
    };

type StatsSource = Exclude<CovarianceSource, { file: string }>;

/** The covariance of a value matrix' keys as side data of a method. Its value is a `Covariance`. */
export function covarianceNeed(site: Site, source: CovarianceSource): AssetNeed {
  if (site.matrix !== "down")
    throw new LabFailure(`covariances are of keys of value matrices, not of ${siteName(site)}`);
  return {
    name: `covariance ${siteName(site)}`,
    async open(owner) {
      const path = "file" in source ? source.file : await findOrMake(site.layer, source, owner);
      const value = await openCovariance(path, { size: owner.config.intermediateSize });
      if ("samples" in source) requireSamples(value, source.samples);
      await requireOwner(value, owner, site.layer);
      return { sha256: value.sha256, value };
    },
  };
}

function requireSamples({ path, sampleSize }: Covariance, samples: number): void {
  if (sampleSize === samples) return;
  throw new RefusedInput("a covariance is over another number of texts", {
    where: path,
    found: sampleSize,
    expected: `${samples}, as its name says`,
  });
}

async function findOrMake(layer: number, source: StatsSource, owner: AssetOwner): Promise<string> {
  const { statsDir, dtype = DTYPE, ...texts } = source;
  const named = { ...texts, dtype };
  const file = covarianceFile({ model: owner.name, layer, ...named });
  const places = statsFolders(statsDir).map((folder) => join(folder, file));
  for (const place of places) if (await exists(place)) return place;
  const made = await makeOwn(layer, named, owner);
  if (made !== null) return made;
  const { dataset, samples } = named;
  const words = `--texts ${dataset}.jsonl --dataset ${dataset} --samples ${samples}`;
  throw new RefusedInput("a covariance is missing", {
    where: places.join(", "),
    found: "no such file",
    expected: `the covariance of ${owner.name}, layer ${layer}, over ${samples} texts of ${dataset}`,
    hint: `wise-lab stats --model ${owner.folder} ${words} --layers ${layer} --out ${statsDir}`,
  });
}

/** Collects it from the training texts of the project's own model, which takes seconds; null for any other model or texts. */
async function makeOwn(
  layer: number,
  { dataset, samples, dtype }: { dataset: string; samples: number; dtype: string },
  owner: AssetOwner,
): Promise<string | null> {
  if (dataset !== OWN_DATASET || dtype !== DTYPE) return null;
  const texts = await ownTexts(owner.folder, samples);
  if (texts === null) return null;
  const model = await openForKeys(owner);
  try {
    const [made] = await collectCovariances(model, { texts, layers: [layer], folder: defaultStatsFolder() });
    return made?.path ?? null;
  } finally {
    model.dispose();
  }
}

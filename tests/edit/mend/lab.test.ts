import { beforeAll, expect, test } from "vitest";
import { sha256File } from "../../../src/core/files.js";
import { sha256Bytes } from "../../../src/core/hash.js";
import { listText } from "../../../src/data/world/store.js";
import type { AssetNeed, AssetOwner, PreparedMethod } from "../../../src/edit/contract.js";
import { prepareNamed } from "../../../src/edit/registry.js";
import { openSafetensors } from "../../../src/model/safetensors-file.js";
import { DEFAULT_MODEL, projectFile } from "../../../src/run/inputs.js";
import { makePractice, recordsToTrainOn } from "../../../src/workshop/world/practice.js";
import { ownerOf } from "../support.js";

const SHIPPED = projectFile("data", "mend", "lab.safetensors");

let owner: AssetOwner;
let method: PreparedMethod;
beforeAll(async () => {
  owner = await ownerOf(DEFAULT_MODEL);
  method = await prepareNamed("mend", { preset: "lab" }, owner.config);
});

test("the network of the project's own model is the one that its preset names, and fits", async () => {
  const [need] = method.needs.assets as [AssetNeed];
  expect((await need.open(owner)).sha256).toBe(await sha256File(SHIPPED));
});

test("it was trained with the values of the preset, on practice records that are not looked at", async () => {
  const file = await openSafetensors(SHIPPED);
  await file.close();
  const records = recordsToTrainOn(makePractice({ seed: 0 }));
  const { archive: _, ...options } = method.options as Record<string, unknown>;
  expect(JSON.parse(file.metadata["wise-lab"] as string)).toMatchObject({
    model: { sha256: owner.sha256 },
    records: { sha256: sha256Bytes(listText(records)), used: records.length },
    options,
    steps: 300,
  });
});

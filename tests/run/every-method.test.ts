import { join } from "node:path";
import { expect, test } from "vitest";
import type { EditMethod } from "../../src/edit/contract.js";
import { methods } from "../../src/edit/registry.js";
import { isFinished, readRunConfig } from "../../src/run/folder.js";
import { openLab } from "../../src/run/lab.js";
import { temporaryFolder } from "../model/support.js";
import { goldenMethods } from "../support/shared.js";
import { bytesOfRun, TINY_MODEL, TINY_RECORDS } from "./support.js";

test("a run of every method is finished, and the same command finds it so", { timeout: 300_000 }, async () => {
  const lab = await openLab({ model: TINY_MODEL, hparams: { preset: "tiny" } });
  const folder = await temporaryFolder();
  for (const [name, { options }] of Object.entries<EditMethod>(methods)) {
    const set = "stats_dir" in options ? [`stats_dir=${join(goldenMethods, "locate-stats")}`] : [];
    const out = join(folder, name);
    const own = await lab.with({ method: name, hparams: { preset: "tiny", set } });
    await own.run({ data: TINY_RECORDS, T: 1, limit: 1, out });
    const before = await bytesOfRun(out);
    await own.run({ data: TINY_RECORDS, T: 1, limit: 1, out });
    expect(await bytesOfRun(out), name).toEqual(before);
    const { protocol } = await readRunConfig(out);
    expect(await isFinished(out, protocol), name).toBe(true);
    own.close();
  }
  lab.close();
});

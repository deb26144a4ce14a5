import { existsSync } from "node:fs";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { sha256File } from "../../src/core/files.js";
import { temporaryFolder } from "../model/support.js";
import { startWiseLab, wiseLab } from "../run/support.js";
import { golden } from "../support/shared.js";
import { goldenStats } from "./support.js";

const MODEL = join(golden, "tiny-llama3");

/** The golden texts many times over: enough work to be killed in. */
async function manyTexts(): Promise<string> {
  const path = join(await temporaryFolder(), "many.jsonl");
  const texts = Array.from({ length: 6 }, () => goldenStats.texts).flat();
  await writeFile(path, texts.map((text) => JSON.stringify({ text })).join("\n"));
  return path;
}

describe("wise-lab stats", () => {
  test("killed, goes on from its last safe point to the same bytes", async () => {
    const texts = await manyTexts();
    const [straight, out] = [await temporaryFolder(), await temporaryFolder()];
    const request = ["stats", "--model", MODEL, "--texts", texts, "--layers", "0-1,3", "--keep-every", "0"];
    const whole = await wiseLab(...request, "--out", straight);
    expect(whole.status, whole.stderr).toBe(0);
    expect(whole.stderr).toMatch(/^collected 100 %/m);
    const folder = join(out, "tiny-llama3", "many_stats");
    for (const layer of [0, 1, 3])
      expect(whole.stdout).toContain(`layer ${layer}: ${straight}/tiny-llama3/many_stats/`);

    const { child, ended } = startWiseLab(...request, "--out", out);
    const partial = join(folder, "model.layers.0.mlp.down_proj_float32_mom2_384.partial.npz");
    while (!existsSync(partial) && child.exitCode === null) await wait(2);
    child.kill("SIGKILL");
    expect((await ended).signal).toBe("SIGKILL");
    expect((await readdir(folder)).filter((name) => name.endsWith(".json"))).toEqual([]);

    const again = await wiseLab(...request, "--out", out);
    expect(again.status, again.stderr).toBe(0);
    const names = (await readdir(folder)).filter((name) => !name.endsWith(".part")).sort();
    expect(names).toEqual((await readdir(join(straight, "tiny-llama3", "many_stats"))).sort());
    for (const name of names) {
      expect(await sha256File(join(folder, name))).toBe(
        await sha256File(join(straight, "tiny-llama3/many_stats", name)),
      );
    }
  });

  test.each([
    ["layers that are none", ["--layers", "4-"], /layers from 0 are expected, as 5 or 4-8 or 4,6/],
    ["a range that falls", ["--layers", "8-4"], /layers from 0 are expected/],
    ["a layer that the model does not have", ["--layers", "3,4", "--texts", "TEXTS"], /where: layers\n {2}found: 4/],
    ["no texts for a model of any other origin", ["--layers", "1"], /where: --texts\n.*\n.*\n.*--texts FILE/],
    ["more texts than there are", ["--layers", "1", "--texts", "TEXTS", "--samples", "5000"], /found: 384 texts/],
  ])("refuses %s", async (_, args, message) => {
    const out = join(await temporaryFolder(), "out");
    const texts = await manyTexts();
    const words = args.map((word) => (word === "TEXTS" ? texts : word));
    const { status, stdout, stderr } = await wiseLab("stats", "--model", MODEL, "--out", out, ...words);
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    expect(stderr).toMatch(message);
    expect(existsSync(out)).toBe(false);
  });
});

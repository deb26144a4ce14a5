import { truncateSync } from "node:fs";
import { cp, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { type Lab, type LabOptions, openLab } from "../../src/run/lab.js";
import type { RunRequest } from "../../src/run/request.js";
import type { RunResult } from "../../src/run/types.js";
import { renderSummary } from "../../src/tables/format.js";
import { fact, largestDifference } from "../edit/support.js";
import { copyOfGolden, refusal, temporaryFolder } from "../model/support.js";
import { layersRead } from "../support/layers-read.js";
import { golden } from "../support/shared.js";
import { DEEP_LAYERS, layersOfStreams, untilPassIsAt, writeDeepModel } from "./deep-model.js";
import { bytesOfRun, QUICK, startWiseLab, TINY_MODEL, TINY_RECORDS, wiseLab } from "./support.js";

const CHECKPOINTS = ["tiny-llama3", "tiny-llama3-tied"] as const;

/** A lab with quick options, closed when the test ends. */
async function openQuick(options: LabOptions = {}): Promise<Lab> {
  const lab = await openLab({
    model: TINY_MODEL,
    cache: null,
    ...options,
    hparams: { set: QUICK, ...options.hparams },
  });
  onTestFinished(() => lab.close());
  return lab;
}

/** Findings of a run, without what names seconds. */
const findings = ({ protocol, edits, scores }: RunResult) => ({
  protocol,
  scores,
  edits: edits.map(({ seconds: _, ...edit }) => edit),
});

/** A golden fact as a user writes it by hand. */
const byHand = (i: number) => {
  const { prompt, target, irrelevant } = fact(i);
  return { prompt, target, irrelevant: irrelevant as string };
};

const probes = [0, 1, 2].flatMap((i) => {
  const { prompt, target, irrelevant } = byHand(i);
  return [
    { kind: "rewrite" as const, prompt, answer: target },
    { kind: "locality" as const, prompt: irrelevant, answer: target },
  ];
});

describe.each(CHECKPOINTS)("edits by hand on %s, streamed", (name) => {
  test.each(["float32", "bf16"] as const)(
    "and their scores and answers are the whole model's bits, %s",
    async (precision) => {
      const options = { model: join(golden, name), precision };
      const [whole, streamed] = [await openQuick(options), await openQuick({ ...options, weights: "streamed" })];
      expect([whole, streamed].map((lab) => lab.model.residence)).toEqual(["whole", "streamed"]);
      expect(streamed.templates).toEqual(whole.templates);
      for (const i of [0, 1]) {
        for (const lab of [whole, streamed]) await lab.edit(byHand(i));
        expect(await streamed.hash()).toBe(await whole.hash());
        expect(await streamed.score(probes)).toEqual(await whole.score(probes));
      }
      const question = fact(0).prompt;
      expect(await streamed.ask(question)).toEqual(await whole.ask(question));
      const saved = join(await temporaryFolder(), "edits.safetensors");
      await streamed.save(saved);
      whole.rollback();
      await whole.restore(saved);
      expect(await whole.hash()).toBe(await streamed.hash());
    },
  );
});

describe("weights held as bf16", () => {
  const run = async (model: string, options: LabOptions) => {
    const lab = await openQuick({ model: join(golden, model), ...options });
    return lab.run({ data: TINY_RECORDS, T: 1, limit: 2 });
  };
  /** Losses and routing activations of every step. */
  const numbersOf = ({ edits }: RunResult) =>
    edits.flatMap(({ steps, numbers }) => [
      numbers.min_act as number,
      ...steps.flatMap(({ loss, numbers: { in_scope, out_of_scope } }) => [loss, in_scope, out_of_scope] as number[]),
    ]);

  test.each(["whole", "streamed"] as const)("%s: edits of a bf16 checkpoint are those of float32", async (weights) => {
    const [float32, bf16] = [await run("tiny-llama3", {}), await run("tiny-llama3", { precision: "bf16", weights })];
    expect(largestDifference(numbersOf(bf16), numbersOf(float32))).toBeLessThan(1e-5);
    expect(bf16.scores.map(({ rewrite }) => rewrite.post)).toEqual(float32.scores.map(({ rewrite }) => rewrite.post));
    expect(bf16.protocol).toEqual({ ...float32.protocol, precision: "bf16 weights" });
  });

  test("edits of a float32 checkpoint are others: it is rounded", async () => {
    const [float32, bf16] = [await run("tiny-llama3-tied", {}), await run("tiny-llama3-tied", { precision: "bf16" })];
    const difference = largestDifference(numbersOf(bf16), numbersOf(float32));
    expect(difference).toBeGreaterThan(1e-4);
    expect(difference).toBeLessThan(0.05);
  });

  test("stand in a table with float32 only where that is allowed or marked, and named", async () => {
    const runs = [await run("tiny-llama3", {}), await run("tiny-llama3", { precision: "bf16" })];
    const error = await refusal(() => renderSummary(runs, "text"));
    expect(error.found).toBe("precision is bf16 weights, not float32");
    for (const options of [{ mark: true }, { allow: ["method", "T", "when", "precision"] }]) {
      expect(renderSummary(runs, "text", options)).toMatch(/computed with (\S+ \S+ \S+) or \1, bf16 weights;/);
    }
    expect(renderSummary(runs, "text", { mark: true })).toContain("a: precision is bf16 weights, not float32");
  });
});

describe("one reading of the layers", () => {
  // 20 records are three groups of edits and three of probes.
  const request: RunRequest = { T: 1, limit: 20 };

  test("serves every record of a run with a cache; from the cache, none is needed", async () => {
    const cache = join(await temporaryFolder(), "cache");
    const data = await twentyRecords();
    const first = await openQuick({ weights: "streamed", cache });
    const once = layersRead(first.model);
    const result = findings(await first.run({ ...request, data }));
    expect(once).toEqual([0, 1, 2]);

    const frozen = vi.fn();
    const second = await openQuick({ weights: "streamed", cache, onFrozen: frozen });
    const never = layersRead(second.model);
    expect(findings(await second.run({ ...request, data }))).toEqual(result);
    expect(never).toEqual([]);
    expect(frozen).not.toHaveBeenCalled(); // nor when the templates were made
  });
});

/** Twenty records whose prompts are all different. */
async function twentyRecords(): Promise<string> {
  const tiny = JSON.parse(await readFile(TINY_RECORDS, "utf8")) as Record<string, unknown>[];
  const path = join(await temporaryFolder(), "records.json");
  const numbered = (text: unknown, i: number) => `${i}: ${String(text)}`;
  const records = Array.from({ length: 20 }, (_, i) => {
    const record = tiny[i % tiny.length] as Record<string, unknown>;
    const { src, rephrase, loc } = record;
    return { ...record, src: numbered(src, i), rephrase: numbered(rephrase, i), loc: numbered(loc, i) };
  });
  await writeFile(path, JSON.stringify(records));
  return path;
}

describe("wise-lab run --weights streamed", () => {
  const quick = QUICK.flatMap((setting) => ["--set", setting]);
  const command = (out: string, ...args: string[]) => ["run", "--data", TINY_RECORDS, ...quick, "--out", out, ...args];

  test.each(["1", "2"])("with T = %s writes what --weights whole writes, byte for byte", async (T) => {
    const folder = await temporaryFolder();
    const [out, cache] = [join(folder, "run"), join(folder, "cache")];
    const args = ["--model", TINY_MODEL, "--T", T, "--weights", "streamed", "--cache", cache];
    const { status, stderr } = await wiseLab(...command(out, ...args));
    expect(status, stderr).toBe(0);
    expect(stderr).toContain(`memory plan, weights streamed, float32, T = ${T}, `);
    expect((await readdir(cache)).every((name) => name.startsWith("cuts-"))).toBe(true);
    const whole = join(folder, "whole");
    await (await openQuick({ weights: "whole" })).run({ data: TINY_RECORDS, T, out: whole });
    expect(await bytesOfRun(out)).toEqual(await bytesOfRun(whole));
  });

  test("tells of one flipped bit in the cache in one line, and computes that entry again", async () => {
    const folder = await temporaryFolder();
    const cache = join(folder, "cache");
    const straight = join(folder, "straight");
    const lab = await openQuick({ weights: "streamed", cache });
    await lab.run({ data: TINY_RECORDS, T: 1, limit: 2, out: straight });
    const entry = await largestFile(cache);
    const bytes = await readFile(entry);
    const spoiled = Buffer.from(bytes);
    const middle = Math.floor(bytes.length / 2);
    spoiled[middle] = (spoiled[middle] as number) ^ 1;
    await writeFile(entry, spoiled);

    const out = join(folder, "run");
    const args = ["--model", TINY_MODEL, "--T", "1", "--limit", "2", "--weights", "streamed", "--cache", cache];
    const { status, stderr } = await wiseLab(...command(out, ...args));
    expect(status, stderr).toBe(0);
    expect(stderr.split("\n").filter((line) => line.includes(cache) && !line.includes("on disk"))).toEqual([
      expect.stringMatching(
        /^\S+ is not as it was written \(found other numbers in part \d+, .*\); removed, and computed again$/,
      ),
    ]);
    expect(await bytesOfRun(out)).toEqual(await bytesOfRun(straight));
    expect((await readFile(entry)).equals(bytes)).toBe(true);
  });

  test("killed in the middle of a pass goes on from the last finished layer, to the same bytes", {
    timeout: 240_000,
  }, async () => {
    const folder = await temporaryFolder();
    const [out, cache, straight] = [join(folder, "run"), join(folder, "cache"), join(folder, "straight")];
    const { folder: model, hparams } = await writeDeepModel(folder);
    const args = [
      "--model",
      model,
      "--hparams",
      hparams,
      "--T",
      "2",
      "--limit",
      "2",
      "--weights",
      "streamed",
      "--cache",
      cache,
    ];
    const { child, ended } = startWiseLab(...command(out, ...args));
    onTestFinished(() => void child.kill("SIGKILL"));
    await untilPassIsAt(child, cache, { batches: 2, layer: 2 });
    child.kill("SIGKILL");
    expect((await ended).signal).toBe("SIGKILL");
    const streams = await layersOfStreams(cache);
    const last = Math.min(...streams);
    expect(last).toBeGreaterThanOrEqual(2);
    expect(last).toBeLessThanOrEqual(DEEP_LAYERS);

    const second = await wiseLab(...command(out, ...args));
    expect(second.status, second.stderr).toBe(0);
    const due = streams.filter((layer) => layer === last).length;
    expect(/^frozen part: .*$/m.exec(second.stderr)?.[0]).toBe(
      `frozen part: layer ${last + 1}/${DEEP_LAYERS + 1}  batch 1/${due}`,
    );
    expect((await readdir(cache)).filter((name) => name.startsWith("stream-"))).toEqual([]);
    const lab = await openQuick({ model, hparams: { file: hparams, set: QUICK }, weights: "whole" });
    await lab.run({ data: TINY_RECORDS, T: 2, limit: 2, out: straight });
    expect(await bytesOfRun(out)).toEqual(await bytesOfRun(straight));
  });
});

test("a shard that becomes shorter during a pass ends the run, which goes on from there with the whole file", async () => {
  const folder = await temporaryFolder();
  const [out, cache, straight] = [join(folder, "run"), join(folder, "cache"), join(folder, "straight")];
  const model = await copyOfGolden("tiny-llama3");
  const shard = join(model, "model-00002-of-00004.safetensors");
  let cut = false;
  const damaged = await openQuick({
    model,
    cache,
    weights: "streamed",
    onFrozen: ({ layer }) => {
      if (cut && layer === 0) truncateSync(shard, 60_000); // within layer 1
    },
  });
  cut = true; // not while it was opened
  const request = { data: TINY_RECORDS, T: 2 };
  const error = await refusal(() => damaged.run({ ...request, out }));
  expect(error.message).toContain("a file became shorter while it was read");
  expect(error.where).toMatch(/model-00002-of-00004\.safetensors: model\.layers\.1\.[a-z_.]+\.weight$/);
  expect((await readdir(cache)).filter((name) => name.startsWith("stream-")).length).toBeGreaterThan(0);

  await cp(join(TINY_MODEL, "model-00002-of-00004.safetensors"), shard);
  const mended = await openQuick({ model, cache, weights: "streamed" });
  const read = layersRead(mended.model);
  await mended.run({ ...request, out });
  expect(read).toEqual([1, 2]);
  await (await openQuick()).run({ ...request, out: straight });
  expect(await bytesOfRun(out)).toEqual(await bytesOfRun(straight));
});

async function largestFile(folder: string): Promise<string> {
  const paths = (await readdir(folder)).map((name) => join(folder, name));
  const sizes = await Promise.all(paths.map(async (path) => (await stat(path)).size));
  return paths[sizes.indexOf(Math.max(...sizes))] as string;
}

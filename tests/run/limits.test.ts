import { appendFileSync, existsSync, rmSync } from "node:fs";
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { readRun } from "../../src/run/folder.js";
import { type LabOptions, openLab } from "../../src/run/lab.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { available, requires } from "../support/requires.js";
import { repository } from "../support/shared.js";
import { mountSmallDisk, type SmallDisk } from "../support/small-disk.js";
import { layersOfStreams, untilPassIsAt, writeDeepModel } from "./deep-model.js";
import { writeSparseModel } from "./sparse-model.js";
import {
  bytesOfRun,
  type Ended,
  QUICK,
  startProgram,
  startWiseLab,
  TINY_MODEL,
  TINY_RECORDS,
  WISE_LAB,
  wiseLab,
} from "./support.js";

const quick = QUICK.flatMap((setting) => ["--set", setting]);
const command = (out: string, ...args: string[]) => ["run", "--data", TINY_RECORDS, ...quick, "--out", out, ...args];

/** Bytes of the files of a folder. */
async function bytesIn(folder: string): Promise<number> {
  const sizes = (await readdir(folder)).map(async (name) => (await stat(join(folder, name))).size);
  return (await Promise.all(sizes)).reduce((a, b) => a + b, 0);
}

/** The lines of a refusal as the user reads them. */
function refusalIn({ stderr }: Ended): Record<string, string | undefined> {
  const line = (name: string) => new RegExp(`^  ${name}: (.*)$`, "m").exec(stderr)?.[1];
  return Object.fromEntries(["where", "found", "expected", "try"].map((name) => [name, line(name)]));
}

/** Runs quick edits in this process, and closes what it opened. */
async function runHere(options: LabOptions, request: { out: string; T: number; limit?: number }): Promise<void> {
  const lab = await openLab({ model: TINY_MODEL, ...options, hparams: { set: QUICK, ...options.hparams } });
  await lab.run({ data: TINY_RECORDS, ...request });
  lab.close();
}

describe.runIf(requires("small-disk"))("a disk for the cache", () => {
  /** Leaves not a byte on a disk. */
  function fill({ path }: SmallDisk): () => void {
    const filler = join(path, "filler");
    for (const bytes of [65_536, 4096, 1]) {
      try {
        for (;;) appendFileSync(filler, new Uint8Array(bytes));
      } catch (error) {
        expect(error).toMatchObject({ code: "ENOSPC" });
      }
    }
    return () => rmSync(filler);
  }

  function mountFor(kilobytes: number): SmallDisk {
    const disk = mountSmallDisk(kilobytes);
    onTestFinished(() => disk.release());
    return disk;
  }

  test("that is too small is refused before the weights are read", async () => {
    const cache = join(mountFor(128).path, "cache");
    const error = await refusal(() => openLab({ model: TINY_MODEL, weights: "streamed", cache }));
    expect(error.message).toContain("the cache of this run does not fit on the disk");
    expect(error).toMatchObject({
      expected: expect.stringMatching(/^at most 0\.0 GB: free space of the disk at \S+$/),
      hint: "--cache FOLDER on another disk",
    });
    expect(existsSync(cache)).toBe(false);
  });

  test("that others fill up in the middle of a pass ends the run, to go on with another or with room", {
    timeout: 240_000,
  }, async () => {
    const folder = await temporaryFolder();
    const disk = mountFor(8192);
    const [out, cache] = [join(folder, "run"), join(disk.path, "cache")];
    const { folder: model, hparams } = await writeDeepModel(folder);
    const args = ["--model", model, "--hparams", hparams, "--T", "1", "--limit", "2", "--weights", "streamed"];
    const { child, ended } = startWiseLab(...command(out, ...args, "--cache", cache));
    onTestFinished(() => void child.kill("SIGKILL"));
    await untilPassIsAt(child, cache, { batches: 2, layer: 2 });
    child.kill("SIGSTOP");
    const free = fill(disk);
    child.kill("SIGCONT");
    const { status, stdout, stderr } = await ended;
    expect({ status, stdout }, stderr).toEqual({ status: 1, stdout: "" });
    const lines = stderr.slice(stderr.indexOf("wise-lab: ")).trimEnd().split("\n");
    expect(lines).toEqual([
      expect.stringMatching(/^wise-lab: the cache of cuts cannot be written: .*ENOSPC/),
      `  folder: ${cache}`,
      expect.stringMatching(/^ {2}needed: 0\.\d{3} MB$/),
      "  free: 0.000 MB",
      expect.stringMatching(
        /^ {2}try: free space on the disk, --cache FOLDER for another disk, or a smaller --cache-size/,
      ),
    ]);
    expect((await readRun(out)).edits).toEqual([]);
    expect((await readdir(cache)).filter((name) => name.endsWith(".part"))).toEqual([]);
    const reached = Math.min(...(await layersOfStreams(cache)));
    expect(reached).toBeGreaterThanOrEqual(2);

    free();
    const [again, straight] = [join(folder, "again"), join(folder, "straight")];
    const layers: number[] = [];
    const options: LabOptions = { model, hparams: { file: hparams, set: QUICK } };
    const request = { T: 1, limit: 2 };
    const roomy = {
      ...options,
      weights: "streamed",
      cache,
      onFrozen: ({ layer }) => layers.push(layer),
    } as const satisfies LabOptions;
    await runHere(roomy, { ...request, out: again });
    expect(layers[0]).toBe(reached);
    await runHere({ ...options, weights: "streamed", cache: join(folder, "cache") }, { ...request, out });
    await runHere({ ...options, weights: "whole" }, { ...request, out: straight });
    const bytes = await bytesOfRun(straight);
    expect(await bytesOfRun(out)).toEqual(bytes);
    expect(await bytesOfRun(again)).toEqual(bytes);
  });
});

describe.runIf(requires("ulimit"))("under ulimit -v", () => {
  // Room for the sparse model streamed or as bf16, but not for all of it in float32. Programs reserve more than they use,
  // so the process itself takes the first two gigabytes or so.
  const LIMIT_KB = 7_800_000;
  const limited = (...args: string[]) =>
    startProgram("sh", "-c", `ulimit -v ${LIMIT_KB}; exec "$@"`, "sh", ...WISE_LAB, ...args).ended;

  test.each([
    ["cpu", /^--weights streamed \(\d\.\d GB\), or --precision bf16 \(\d\.\d GB\)$/] as const,
    // Libraries may reserve more on machines with many cores.
    ...(requires("native") ? [["tensorflow", /^--weights streamed \(\d\.\d GB\)/] as const] : []),
  ])(
    "a plan beyond it is refused on %s, with the numbers and what would fit; nothing is written",
    async (backend, hint) => {
      const folder = await temporaryFolder();
      await writeSparseModel(folder);
      const hparams = join(folder, "hparams.yaml");
      const tiny = await readFile(join(repository, "data/hparams/wise/tiny.yaml"), "utf8");
      await writeFile(hparams, tiny.replace("model.layers[2]", "model.layers[14]"));
      const [out, cache] = [join(folder, "run"), join(folder, "cache")];
      const args = ["--model", folder, "--hparams", hparams, "--T", "1", "--limit", "1", "--backend", backend];
      const ended = await limited(...command(out, ...args, "--weights", "whole", "--cache", cache));
      expect(ended, ended.stderr).toMatchObject({ status: 1, signal: null, stdout: "" });
      expect(ended.stderr).toContain("wise-lab: this run does not fit into memory: while in its ");
      expect(ended.stderr).toMatch(/^ +3\.8 GB {2}layers: 16 of 16, float32$/m);
      expect(refusalIn(ended)).toEqual({
        where: `memory plan, weights whole, float32, T = 1, ${backend} on CPU`,
        found: expect.stringMatching(/^\d\.\d GB of memory$/),
        expected: expect.stringMatching(/^at most \d\.\d GB: ulimit -v 8\.0 GB, of which \d\.\d GB are taken$/),
        try: expect.stringMatching(hint),
      });
      expect(ended.stderr).not.toMatch(/^\s+at .*:\d+:\d+/m); // no stack
      expect(existsSync(cache)).toBe(false);
      expect(await readdir(out)).toEqual([]);
    },
  );

  test("what fits runs", async () => {
    const out = join(await temporaryFolder(), "run");
    const backend = available("native") ? "tensorflow" : "cpu"; // wasm reserves more addresses than this before it starts
    const { status, stderr } = await limited(
      ...command(out, "--model", TINY_MODEL, "--T", "1", "--limit", "1", "--backend", backend),
    );
    expect(status, stderr).toBe(0);
    expect(stderr).toMatch(/GB {2}in memory, of \d\.\d GB: /);
  });
});

describe("the cache on the command line", () => {
  const streamed = ["--model", TINY_MODEL, "--T", "2", "--weights", "streamed"];

  test("is where WISE_LAB_CACHE says for a streamed model, within --cache-size, and nowhere for a whole one", async () => {
    const folder = await temporaryFolder();
    const [cache, out, whole] = [join(folder, "cache"), join(folder, "run"), join(folder, "whole")];
    vi.stubEnv("WISE_LAB_CACHE", cache);
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });
    await runHere({ weights: "whole" }, { out: whole, T: 2 });
    expect(existsSync(cache)).toBe(false);

    const small = await wiseLab(...command(out, ...streamed, "--cache-size", "0.0005"));
    expect(small.status, small.stderr).toBe(0);
    const entries = await readdir(cache);
    expect(entries.length).toBeGreaterThan(0);
    expect(entries.every((name) => name.startsWith("cuts-"))).toBe(true);
    expect(await bytesIn(cache)).toBeLessThanOrEqual(500_000);
    expect(await bytesOfRun(out)).toEqual(await bytesOfRun(whole));

    const large = join(folder, "large");
    await runHere({ weights: "streamed" }, { out: large, T: 2 });
    expect(await bytesIn(cache)).toBeGreaterThan(500_000);
    expect(await bytesOfRun(large)).toEqual(await bytesOfRun(whole));
  });

  test("--no-cache keeps nothing", async () => {
    const folder = await temporaryFolder();
    vi.stubEnv("WISE_LAB_CACHE", join(folder, "cache"));
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });
    const { status, stderr } = await wiseLab(
      ...command(join(folder, "run"), ...streamed, "--limit", "1", "--no-cache"),
    );
    expect(status, stderr).toBe(0);
    expect(stderr).not.toContain("on disk");
    expect(await readdir(folder)).toEqual(["run"]);
  });
});

test("fast math is refused where the backend has none, before the model is read", async () => {
  const out = join(await temporaryFolder(), "run");
  const ended = await wiseLab(...command(out, "--model", TINY_MODEL, "--T", "1", "--backend", "wasm", "--fast-math"));
  expect(ended).toMatchObject({ status: 1, stdout: "" });
  expect(ended.stderr).toContain("wise-lab: only native TensorFlow has fast math");
  expect(refusalIn(ended)).toEqual({
    where: "--fast-math",
    found: "the backend wasm",
    expected: "the backend tensorflow",
    try: "--backend tensorflow",
  });
});

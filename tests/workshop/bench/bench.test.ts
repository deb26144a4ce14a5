import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { Interrupted } from "../../../src/core/errors.js";
import { STAND_INS, type StandInModel } from "../../../src/model/known.js";
import { type BenchOptions, benchShape, type ShapeResult } from "../../../src/workshop/bench/bench.js";
import { startReference, startWorker } from "../../../src/workshop/bench/process.js";
import { memorySchema, openedSchema } from "../../../src/workshop/bench/protocol.js";
import type { BenchReport } from "../../../src/workshop/bench/report.js";
import { benchModel, SHAPES, type Side } from "../../../src/workshop/bench/shapes.js";
import { writeStandIn } from "../../../src/workshop/stand-in/write.js";
import { errorOf } from "../../edit/support.js";
import { temporaryFolder } from "../../model/support.js";
import { wiseLab } from "../../run/support.js";
import { requires } from "../../support/requires.js";
import { repository } from "../../support/shared.js";
import { tinyBench, tinyFact } from "./support.js";

const reference = requires("transformers");
const ours: Side[] = ["whole", "cut"];
const all: Side[] = reference ? [...ours, "reference"] : ours;
process.env.OMP_NUM_THREADS = "1"; // PyTorch: threads that wait for each other on busy cores take many times as long

const quick: BenchOptions = { steps: 4, rounds: 1, sides: ours };

/** LLaMA-3.2-1B, tied and with scaled rotary frequencies, shrunk to three layers of width 64. */
function smallStandIn(): StandInModel {
  const model: StandInModel = STAND_INS["llama-3.2-1b"];
  const shape = { hidden_size: 64, intermediate_size: 96, num_hidden_layers: 3, num_attention_heads: 4 };
  const heads = { num_key_value_heads: 2, head_dim: 16 };
  const vocabulary = { vocab_size: 320, bos_token_id: 301, eos_token_id: 302 };
  return { ...model, config: { ...model.config, ...shape, ...heads, ...vocabulary } };
}

/** Differences of a side from the cut. */
function off(result: ShapeResult, side: Side) {
  const differences = result.sides.find((measured) => measured.side === side)?.differences;
  if (!differences) throw new Error(`${side} was not compared`);
  return differences;
}

describe("the sides of the benchmark compute the same edit", () => {
  test.each(["tiny-llama3", "tiny-llama3-tied"] as const)(
    "%s: same losses, matrix, activations and predictions",
    async (name) => {
      const result = await benchShape(await tinyBench(name, "n_iter=3"), tinyFact(), {
        ...quick,
        steps: 3,
        sides: all,
      });
      expect(result).toMatchObject({ alike: true, layer: 2, layers: 4, rows: 12, probes: 3, steps: 3 });
      expect(result.sides.map(({ side }) => side)).toEqual(all);
      // The same library: nothing is left but the order of sums. PyTorch has other exponentials and other sums.
      expect(off(result, "whole")).toMatchObject({ tokens: 0, ofTokens: expect.any(Number) });
      expect(off(result, "whole").ofTokens).toBeGreaterThan(5);
      expect(off(result, "whole").loss).toBeLessThan(1e-5);
      expect(off(result, "whole").matrix).toBeLessThan(1e-4);
      if (reference) {
        expect(off(result, "reference").loss).toBeLessThan(2e-5);
        expect(off(result, "reference").matrix).toBeLessThan(5e-4);
      }
    },
  );

  test("as in the paper, without a bound on the matrix and with a mask of ones", async () => {
    const model = await tinyBench("tiny-llama3", "variant=paper", "norm_constraint=false", "mask_ratio=1");
    expect(await benchShape(model, tinyFact(1), { ...quick, steps: 3, sides: all })).toMatchObject({ alike: true });
  });

  test("which ends where the loss has settled", async () => {
    const model = await tinyBench("tiny-llama3", "edit_lr=10");
    const act_margin = [100, 0, -100] as const; // nothing to route
    const easy = { ...model, options: { ...model.options, act_margin } };
    const result = await benchShape(easy, tinyFact(2), { ...quick, steps: 100, sides: all });
    expect(result.steps).toBeGreaterThan(20);
    expect(result.steps).toBeLessThan(100);
    expect(result.alike).toBe(true);
  }, 120_000);

  test("on a stand-in of few layers, with every fourth of its tokens", async () => {
    const folder = join(await temporaryFolder(), "stand-in");
    await writeStandIn(smallStandIn(), { folder });
    const shape = { ...SHAPES["1b"], layer: 1 };
    const model = await benchModel(shape, folder);
    expect(model).toMatchObject({
      standIn: true,
      config: { layers: 3 },
      options: { layer: 1, use_chat_template: false, edit_lr: 0.9 },
    });
    const result = await benchShape(model, tinyFact(), { ...quick, sides: all });
    expect(result).toMatchObject({ alike: true, standIn: true, rows: 12 });
    const { request } = tinyFact();
    const bytes = `${request.prompt} ${request.target}`.length;
    expect(result.tokens).toBeGreaterThan((11 * bytes) / 4);
    expect(result.tokens).toBeLessThan((12 * (bytes + 11 * 4)) / 4);
  });
});

describe("what is reported", () => {
  test("has one number a round, and the cut faster than the whole model", async () => {
    const result = await benchShape(await tinyBench("tiny-llama3"), tinyFact(), { ...quick, rounds: 2 });
    for (const { side, edit, frozen, score, peakBytes } of result.sides) {
      expect([edit.length, score.length, frozen?.length ?? null]).toEqual([2, 2, side === "cut" ? 2 : null]);
      expect(Math.min(...edit, ...score)).toBeGreaterThan(0);
      expect(peakBytes).toBeGreaterThan(50e6);
    }
  });
});

describe("wise-lab bench", () => {
  test("prints the report as data, and why PyTorch was left out", async () => {
    vi.stubEnv("WISE_LAB_PYTHON", "/nowhere");
    onTestFinished(() => void vi.unstubAllEnvs());
    const args = ["--only", "lab", "--steps", "2", "--rounds", "1", "--weights", "streamed", "--json"];
    const { status, stdout, stderr } = await wiseLab("bench", ...args);
    expect(status, stderr).toBe(0);
    const report = JSON.parse(stdout) as BenchReport;
    expect(report.command).toBe("npm run bench -- --only lab --steps 2 --rounds 1 --weights streamed");
    expect(report.skipped).toEqual([expect.stringMatching(/^\(c\) was not run: no Python with torch/)]);
    expect(report.shapes).toMatchObject([
      { shape: "lab", alike: true, residence: "streamed", layer: 3, standIn: false },
    ]);
    expect(report.shapes[0]?.sides.map(({ side }) => side)).toEqual(ours);
  });

  test("refuses a size that it does not know", async () => {
    const { status, stderr } = await wiseLab("bench", "--only", "lab,2b");
    expect(status).toBe(1);
    expect(stderr).toMatch(/names out of lab, 1b, 8b, methods are expected/);
  });
});

describe("a side that fails", () => {
  test("says what it was asked and what it said itself", async () => {
    const missing = join(await temporaryFolder(), "nowhere");
    const model = { ...(await tinyBench("tiny-llama3")), folder: missing };
    const error = await errorOf(benchShape(model, tinyFact(), quick));
    expect(error.message).toMatch(/^cut, TensorFlow\.js ended when it was asked to open: [\s\S]*nowhere/);
    expect(error.message).not.toMatch(/\n +at /); // an expected refusal, not a stack
  });

  test("and is asked once more says the same", async () => {
    const worker = startWorker("a worker");
    for (const _ of [1, 2]) {
      const error = await errorOf(worker.ask({ ask: "memory" }, memorySchema));
      expect(error.message).toBe("a worker ended when it was asked to memory: nothing was opened yet");
    }
  });

  test.runIf(reference)("in Python hands its traceback on", async () => {
    const question = { ask: "open", side: "whole", model: "/nowhere/at/all", mask: "", rows: null, options: null };
    const error = await errorOf(startReference("PyTorch").ask(question as never, openedSchema));
    expect(error.message).toMatch(/^PyTorch ended when it was asked to open: [\s\S]*nowhere\/at\/all/);
  });
});

/** Numbers of the processes whose temporary folder this is. */
async function processesOf(folder: string): Promise<string[]> {
  const all = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const environments = await Promise.all(all.map((id) => readFile(`/proc/${id}/environ`, "utf8").catch(() => "")));
  return all.filter((_, i) => environments[i]?.split("\0").includes(`TMPDIR=${folder}`));
}

describe("a benchmark that is stopped", () => {
  test("leaves nothing behind when it is told to", async () => {
    const controller = new AbortController();
    const onProgress = (line: string) => {
      if (line.startsWith("round 2")) controller.abort();
    };
    const work = benchShape(await tinyBench("tiny-llama3"), tinyFact(), {
      ...quick,
      rounds: 1000,
      signal: controller.signal,
      onProgress,
    });
    expect(await errorOf(work)).toBeInstanceOf(Interrupted);
  });

  test.runIf(existsSync("/proc")).each(["SIGINT", "SIGKILL"] as const)(
    "by %s takes its processes with it",
    async (signal) => {
      const folder = join(await temporaryFolder(), "tmp");
      await mkdir(folder);
      const args = ["bench", "--only", "lab", "--rounds", "1000", "--steps", "1"];
      const child = spawn(process.execPath, [join(repository, "dist/cli.js"), ...args], {
        env: { ...process.env, TMPDIR: folder, WISE_LAB_PYTHON: "/nowhere" },
        stdio: ["ignore", "ignore", "pipe"],
      });
      const closed = once(child, "close");
      for await (const text of child.stderr.setEncoding("utf8")) if (text.includes("round ")) break;
      expect(await processesOf(folder)).toHaveLength(3);
      child.kill(signal);
      expect(await closed).toEqual(signal === "SIGINT" ? [130, null] : [null, "SIGKILL"]);
      await expect.poll(() => processesOf(folder), { timeout: 20_000 }).toEqual([]);
      if (signal === "SIGINT") expect(await readdir(folder)).toEqual([]);
    },
  );
});

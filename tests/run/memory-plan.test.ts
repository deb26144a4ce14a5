import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { loadIrrelevant, loadRecords } from "../../src/data/load.js";
import { prepareNamed } from "../../src/edit/registry.js";
import { foreseenTemplates } from "../../src/edit/templates.js";
import { wiseBytes } from "../../src/edit/wise/matrices.js";
import { wiseTemplates } from "../../src/edit/wise/rows.js";
import { seeingFor } from "../../src/eval/seeing.js";
import { parseLlamaConfig } from "../../src/model/config.js";
import { loadTokenizer } from "../../src/model/folder.js";
import { standInFor } from "../../src/model/known.js";
import { encodeForced, PLAIN } from "../../src/model/prompt.js";
import { chooseWeights, type Machine, readMachine, renderPlan, requireFits } from "../../src/run/memory-fit.js";
import { type MemoryPlan, type PlanInput, planMemory } from "../../src/run/memory-plan.js";
import { measureWork, type Workload } from "../../src/run/workload.js";
import { pooledBytes } from "../../src/tensor/webgpu.js";
import { modelOf } from "../edit/model-of.js";
import { atInput, atValue } from "../support/points.js";
import { repository } from "../support/shared.js";

const llama8b = parseLlamaConfig(standInFor("llama-3-8b", {}).config, "llama-3-8b");
const lab = join(repository, "data/lab-llama");

const card: PlanInput["backend"] = { name: "webgpu", device: "gpu" };
const cuda: PlanInput["backend"] = { name: "tensorflow", device: "gpu" };

/** About what LLaMA-3's own tokenizer makes of a zsRE record. */
const work: Workload = {
  records: 1000,
  block: 1,
  blockTargets: 5,
  edit: { sequences: 12, longest: 40, targets: 55, targetsOfOne: 5 },
  score: { padded: 1600, longest: 50, answers: 120, sequences: 32, answersOfOne: 8 },
  written: null,
  frozen: { batch: 4080, longest: 50, pass: 4800, padded: 700_000, tokens: 600_000 },
};

const input: PlanInput = {
  config: llama8b,
  cut: atValue(29),
  sites: [{ layer: 29, matrix: "down" }],
  weights: "streamed",
  precision: "float32",
  backend: { name: "tensorflow", device: "cpu" },
  work,
  editBytes: (block) =>
    wiseBytes({ save_freq: 500, merge_freq: 1000, retrieve: true, merge_alg: "ties" }, llama8b, block),
  cacheBytes: 20e9,
};

const machine = (gigabytes: number, more: Partial<Machine> = {}): Machine => ({
  memory: { bytes: gigabytes * 1e9, setBy: "free memory of the machine" },
  tensors: null,
  disk: { bytes: 100e9, setBy: "free space of the disk at /" },
  ...more,
});

const part = (plan: MemoryPlan, name: string) =>
  [...plan.always, ...plan.phases.flatMap(({ parts }) => parts)].find((found) => found.name === name)?.bytes ?? 0;

function refusal(work: () => void): RefusedInput {
  try {
    work();
  } catch (error) {
    if (error instanceof RefusedInput) return error;
    throw error;
  }
  throw new Error("it fits");
}

describe("the plan of LLaMA-3-8B", () => {
  it("streamed: holds the edited matrix, two layers and the head, within the 10 GB of this project's goal", () => {
    const plan = planMemory(input);
    expect(part(plan, "edited matrices")).toBe(4 * 4096 * 14336);
    expect(part(plan, "later layers")).toBe(2 * 4 * (2 * 4096 * 5120 + 3 * 4096 * 14336 + 2 * 4096));
    expect(part(plan, "output head")).toBe(4 * 4096 * 128257);
    expect(part(plan, "edits")).toBe(4 * 4096 * 14336);
    expect(plan.memory).toBeGreaterThan(6e9);
    expect(plan.memory).toBeLessThan(10e9);
    expect(plan.tensors).toBeLessThan(plan.memory);
  });

  it("whole: holds all but the embedding", () => {
    const plan = planMemory({ ...input, weights: "whole", cacheBytes: null });
    const weights = part(plan, "edited matrices") + part(plan, "layers") + part(plan, "output head");
    expect(weights).toBe(4 * (8_030_261_248 - 4096 * 128256)); // the model's published size, without its embedding
    expect(part(plan, "a layer being read")).toBe(0);
    expect(plan.disk).toEqual({ cuts: 0, kept: 0, streams: 0 });
  });

  it("bf16: holds half of all but the edited matrix, and one matrix unpacked", () => {
    const [float32, bf16] = [planMemory(input), planMemory({ ...input, precision: "bf16" })];
    expect(part(bf16, "later layers")).toBe(part(float32, "later layers") / 2);
    expect(part(bf16, "edited matrices")).toBe(part(float32, "edited matrices"));
    expect(part(bf16, "a matrix unpacked")).toBe(256 * 1024 ** 2);
    expect(bf16.memory).toBeLessThan(float32.memory);
  });

  it("streamed, cut at the start of a layer: holds that layer too, and its results are streams alone", () => {
    const site = { layer: 29, matrix: "gate" } as const;
    const plan = planMemory({ ...input, cut: atInput(29), sites: [site] });
    const layer = 2 * 4096 * 5120 + 3 * 4096 * 14336 + 2 * 4096;
    expect(part(plan, "edited matrices")).toBe(4 * 4096 * 14336);
    expect(part(plan, "later layers")).toBe(4 * (3 * layer - 4096 * 14336));
    expect(part(plan, "matrix at the cut")).toBe(0);
    expect(plan.disk.cuts).toBe(600_000 * 4096 * 4);
    // Only the edited matrix is kept as float32 where the rest is not.
    const bf16 = planMemory({ ...input, cut: atInput(29), sites: [site], precision: "bf16" });
    expect(part(bf16, "edited matrices")).toBe(part(plan, "edited matrices"));
    expect(part(bf16, "later layers")).toBe(part(plan, "later layers") / 2);
  });

  it("streamed, cut before a value matrix that is not edited: holds that matrix, at the model's precision", () => {
    const sites = [{ layer: 30, matrix: "down" }] as const;
    const plan = planMemory({ ...input, sites });
    expect(part(plan, "matrix at the cut")).toBe(4 * 4096 * 14336);
    expect(part(planMemory({ ...input, sites, precision: "bf16" }), "matrix at the cut")).toBe(2 * 4096 * 14336);
    expect(part(planMemory({ ...input, sites, weights: "whole" }), "matrix at the cut")).toBe(0);
  });

  it("without edits that keep anything: no edits, nothing to move, and nothing beside them when they are read", () => {
    const none = { kept: 0, stepping: 0, reading: 0, working: 0, variants: 1 };
    const plan = planMemory({ ...input, sites: [], editBytes: () => none });
    for (const name of ["edits", "edited matrices", "matrices of an edit", "matrices read"]) {
      expect(part(plan, name), name).toBe(0);
    }
    expect(part(plan, "matrix at the cut")).toBe(4 * 4096 * 14336);
  });

  it("cut at the first layer: all layers stay, however it is loaded, and none is run or read before the cut", () => {
    const first = { ...input, cut: atInput(0), sites: [] };
    const [streamed, whole] = [planMemory(first), planMemory({ ...first, weights: "whole" })];
    expect(part(streamed, "later layers")).toBe(32 * 4 * (2 * 4096 * 5120 + 3 * 4096 * 14336 + 2 * 4096));
    expect(part(whole, "layers")).toBe(part(streamed, "later layers"));
    for (const name of ["a layer being read", "one layer over a batch"]) expect(part(streamed, name), name).toBe(0);
    expect(streamed.crowded.name).toBe("step of an edit");
  });

  it("activations grow with what the edits hold for each token of a step", () => {
    const bytes = (perToken: object) => {
      const editBytes = () => ({ kept: 0, stepping: 0, ...perToken, reading: 0, working: 0, variants: 1 });
      return part(planMemory({ ...input, editBytes }), "activations and gradients");
    };
    expect(bytes({ perToken: 1000 }) - bytes({})).toBe(1000 * 12 * 40);
  });

  it("a batch of probes grows with the variants that answer it", () => {
    const bytes = (variants: number) => {
      const editBytes = () => ({ kept: 0, stepping: 0, reading: 0, working: 0, variants });
      return part(planMemory({ ...input, editBytes }), "a batch of probes");
    };
    expect(bytes(3) - bytes(1)).toBe(2 * 4 * 1600 * 4096);
  });

  it("grows with the shards that a block leaves, and with what merging them takes", () => {
    const block = (size: number) => planMemory({ ...input, work: { ...work, block: size } });
    expect(block(499).memory).toBe(block(1).memory);
    expect(part(block(500), "edits")).toBe(2 * part(block(1), "edits"));
    expect(block(1000).phases[2]?.parts[0]?.bytes).toBeGreaterThan(2 * part(block(500), "edits"));
    expect(block(5000).memory).toBeGreaterThan(block(1000).memory);
  });

  it("on a graphics card, tensors are no memory of the machine", () => {
    const gpu = planMemory({ ...input, backend: { name: "tensorflow", device: "gpu" } });
    expect(gpu.memory).toBeLessThan(2e9);
    expect(gpu.tensors).toBe(planMemory(input).tensors);
    expect(renderPlan(gpu, machine(16))).toContain("on the graphics card, not checked: --gpu-memory GIGABYTES");
  });

  it("on webgpu, a mask takes four bytes an entry, and free buffers wait beside those in use", () => {
    const [webgpu, other] = [planMemory({ ...input, backend: card }), planMemory({ ...input, backend: cuda })];
    const stepping = (plan: MemoryPlan) =>
      plan.phases[1]?.parts.find(({ name }) => name === "matrices of an edit")?.bytes;
    expect(stepping(other)).toBe(2.5 * 4 * 4096 * 14336);
    expect(stepping(webgpu)).toBe(3.25 * 4 * 4096 * 14336);
    expect(part(other, "free buffers")).toBe(0);
    expect(webgpu.tensors).toBe(5 * part(webgpu, "free buffers")); // a quarter of what is in use
    expect(pooledBytes(1e6)).toBe(2 ** 28);
  });

  it("foresees what the cache on disk takes, up to its limit", () => {
    const bytes = 600_000 * (4096 + 14336) * 4;
    const { disk } = planMemory(input);
    expect(disk.cuts).toBe(bytes);
    expect(disk.kept).toBe(20e9);
    expect(disk.streams).toBe(4 * 4096 * (4800 + 32768));
  });
});

describe("a plan that does not fit", () => {
  it("is refused with every part, what there is, and the settings that fit, each with what it takes", () => {
    const plan = planMemory({ ...input, weights: "whole", cacheBytes: 20e9 });
    const error = refusal(() => requireFits(plan, machine(16)));
    for (const { name } of [...plan.always, ...plan.crowded.parts]) expect(error.message).toContain(name);
    expect(error.found).toBe(`${(plan.memory / 1e9).toFixed(1)} GB of memory`);
    expect(error.expected).toBe("at most 16.0 GB: free memory of the machine");
    const streamed = planMemory({ ...plan.input, weights: "streamed" });
    expect(error.hint).toBe(`--weights streamed (${(streamed.memory / 1e9).toFixed(1)} GB)`);
    expect(() => requireFits(streamed, machine(16))).not.toThrow();
  });

  it("is offered several settings together where one alone does not help", () => {
    const whole = planMemory({ ...input, weights: "whole" });
    const goal = planMemory({ ...input, precision: "bf16" }).memory;
    expect(refusal(() => requireFits(whole, machine(goal / 1e9 + 0.1))).hint).toBe(
      `--weights streamed --precision bf16 (${(goal / 1e9).toFixed(1)} GB)`,
    );
  });

  it("is offered shorter blocks, the longest that fit", () => {
    const long = planMemory({ ...input, work: { ...work, block: 8000 } });
    const short = planMemory({ ...input, work: { ...work, block: 2000 } });
    expect(short.memory).toBeLessThan(long.memory);
    expect(refusal(() => requireFits(long, machine(short.memory / 1e9 + 0.01))).hint).toContain(
      `--T 2000 (${(short.memory / 1e9).toFixed(1)} GB)`,
    );
  });

  it("is offered the longest blocks alone, with other settings, too", () => {
    const long = planMemory({ ...input, work: { ...work, block: 8000 } });
    const least = planMemory({ ...input, precision: "bf16" }).memory;
    expect(least).toBeLessThan(
      Math.min(planMemory(input).memory, planMemory({ ...long.input, precision: "bf16" }).memory),
    );
    expect(refusal(() => requireFits(long, machine(least / 1e9 + 0.01))).hint).toMatch(
      /^--precision bf16 --T \d+ \(\d+\.\d GB\)$/,
    );
  });

  it("says how much is needed at least where nothing helps", () => {
    const error = refusal(() => requireFits(planMemory(input), machine(2)));
    const least = planMemory({ ...input, precision: "bf16" }).memory;
    expect(error.hint).toContain(`none of this fits, ${(least / 1e9).toFixed(1)} GB are needed at least`);
    expect(error.hint).toContain("--precision bf16");
  });

  it("is held against the heap of wasm, and offered the native backend", () => {
    const wasm = planMemory({ ...input, backend: { name: "wasm", device: "cpu" } });
    const heap = { bytes: 3.5 * 2 ** 30, setBy: "the heap of WebAssembly" };
    const error = refusal(() => requireFits(wasm, machine(64, { tensors: heap })));
    expect(error.found).toMatch(/ GB of tensors$/);
    expect(error.expected).toBe("at most 3.8 GB: the heap of WebAssembly");
    expect(error.hint).toContain("--backend tensorflow (npm run native) (");
  });

  it.each([card, cuda])("is held against the memory of a graphics card, as the user has it: $name", async (backend) => {
    const plan = planMemory({ ...input, backend });
    const { tensors } = await readMachine(backend, { cacheFolder: null, gpuBytes: 4e9 });
    expect(tensors).toEqual({ bytes: 4e9, setBy: "--gpu-memory" });
    const error = refusal(() => requireFits(plan, machine(64, { tensors })));
    expect(error.message).toContain(`does not fit on the graphics card: while in its ${plan.fullest.name}, it holds`);
    for (const { name, held } of [...plan.always, ...plan.fullest.parts]) {
      if (held === "tensor") expect(error.message).toContain(`  ${name}: `);
      else expect(error.message).not.toContain(`  ${name}: `);
    }
    expect(error.found).toBe(`${(plan.tensors / 1e9).toFixed(1)} GB of tensors`);
    expect(error.expected).toBe("at most 4.0 GB: --gpu-memory");
    const room = { bytes: plan.tensors, setBy: "--gpu-memory" };
    expect(() => requireFits(plan, machine(64, { tensors: room }))).not.toThrow();
    expect(renderPlan(plan, machine(64, { tensors: room }))).toMatch(/in tensors, of \d+\.\d GB: --gpu-memory$/m);
    expect(renderPlan(plan, machine(64, { tensors: room }))).not.toContain("not checked");
  });

  it("is offered what takes less of a card, with what that takes there", () => {
    const plan = planMemory({ ...input, backend: card });
    const bf16 = planMemory({ ...input, backend: card, precision: "bf16" });
    const tensors = { bytes: bf16.tensors, setBy: "--gpu-memory" };
    const { hint } = refusal(() => requireFits(plan, machine(64, { tensors })));
    expect(hint).toContain(`--precision bf16 (${(bf16.tensors / 1e9).toFixed(1)} GB)`);
    expect(hint).toContain("--backend tensorflow (npm run native) (");
    const none = { bytes: 1e9, setBy: "--gpu-memory" };
    const least = refusal(() => requireFits(planMemory({ ...input, backend: cuda }), machine(64, { tensors: none })));
    expect(least.hint).toMatch(/^a card with more memory: none of this fits, \d\.\d GB are needed at least/);
  });

  it("is refused for its cache, with the size that the disk has room for", () => {
    const disk = { bytes: 8e9, setBy: "free space of the disk at /" };
    const error = refusal(() => requireFits(planMemory(input), machine(64, { disk })));
    expect(error.found).toBe("20.0 GB for results of the frozen part, 0.6 GB for a pass on its way");
    expect(error.hint).toBe("--cache-size 7GB, or --cache FOLDER on another disk");
  });
});

describe("where the weights go when nobody says", () => {
  it("is into memory with room to spare, else through it", () => {
    const whole = planMemory({ ...input, weights: "whole" }).memory / 1e9;
    expect(chooseWeights(input, machine(whole * 1.3))).toBe("whole");
    expect(chooseWeights(input, machine(whole * 1.1))).toBe("streamed");
    const heap = { bytes: 3.5 * 2 ** 30, setBy: "the heap of WebAssembly" };
    const wasm: PlanInput = { ...input, backend: { name: "wasm", device: "cpu" } };
    expect(chooseWeights(wasm, machine(500, { tensors: heap }))).toBe("streamed");
    const small = { bytes: 10e9, setBy: "--gpu-memory" };
    expect(chooseWeights({ ...input, backend: card }, machine(500, { tensors: small }))).toBe("streamed");
    expect(chooseWeights({ ...input, backend: card }, machine(500))).toBe("whole");
  });

  it("--gpu-memory is refused where no card computes", async () => {
    const asked = readMachine({ name: "wasm", device: "cpu" }, { cacheFolder: null, gpuBytes: 8e9 });
    await expect(asked).rejects.toThrow(RefusedInput);
    await expect(asked).rejects.toMatchObject({ where: "--gpu-memory", found: "the backend wasm on CPU" });
  });
});

describe("the sizes of a run", () => {
  let source: Parameters<typeof measureWork>[0];
  beforeAll(async () => {
    const config = parseLlamaConfig(standInFor("llama-3-8b", {}).config, "llama-3-8b");
    const shape = { config: { ...config, vocabSize: 1024 } };
    const tokenizer = await loadTokenizer(lab, shape.config);
    const { style, needs, rows } = await prepareNamed("wise", { preset: "lab" }, modelOf(4));
    source = {
      dataset: await loadRecords(join(repository, "data/lab/edits.json"), { limit: 20 }),
      irrelevant: await loadIrrelevant(join(repository, "data/lab/irrelevant.json")),
      T: 8,
      targetStop: "none",
      seeing: seeingFor({}),
      templates: foreseenTemplates({ tokenizer, ...shape }, wiseTemplates),
      method: { style, needs, rows },
      model: { tokenizer, config: shape.config },
    };
  });

  it("are those of free answers where such are written", () => {
    expect(measureWork(source).written).toBeNull();
    const { written, score } = measureWork({
      ...source,
      seeing: seeingFor({ metrics: ["free-em"], maxNewTokens: 30 }),
    });
    expect(written).toMatchObject({ tokens: 30, sequences: score.sequences });
    expect(written?.longest).toBeLessThan(score.longest);
  });

  it("are those of its largest block, edit and batch", () => {
    const sizes = measureWork(source);
    expect(sizes.records).toBe(20);
    expect(sizes.block).toBe(8);
    expect(measureWork({ ...source, T: "all" }).block).toBe(20);
    expect(sizes.edit.sequences).toBe(12);
    expect(sizes.edit.targets).toBeLessThanOrEqual(11 * sizes.edit.targetsOfOne);
    expect(sizes.score.padded).toBeLessThanOrEqual(2048);
    expect(sizes.frozen.batch).toBeLessThanOrEqual(4096);
    expect(sizes.frozen.padded).toBeGreaterThan(sizes.frozen.tokens);
    expect(sizes.frozen.pass).toBeLessThan(sizes.frozen.padded);
  });

  it("are smaller for a method that needs no templates and no irrelevant prompts", () => {
    const rows: (typeof source)["method"]["rows"] = (request, { tokenizer }) => [
      encodeForced(tokenizer, { prompt: request.prompt, answer: request.target }, PLAIN),
    ];
    const needs = { templates: null, irrelevant: false, subject: false, assets: [] };
    const bare = { ...source, templates: ["{}"], irrelevant: null, method: { style: PLAIN, needs, rows } };
    const { edit, score } = measureWork(bare);
    expect(edit.sequences).toBe(1);
    expect(edit.targets).toBe(edit.targetsOfOne);
    expect(edit.targetsOfOne).toBe(measureWork(source).edit.targetsOfOne);
    expect(score).toEqual(measureWork(source).score);
  });

  it("grow with the requests of a step, up to a block of them; target tokens are counted by block", () => {
    const { edit, block, blockTargets } = measureWork({ ...source, T: 4 });
    const inStep = (count: number) => measureWork({ ...source, T: 4, method: { ...source.method, inStep: count } });
    expect(inStep(1).edit).toEqual(edit);
    expect(inStep(3).edit).toMatchObject({ sequences: 3 * edit.sequences, longest: edit.longest });
    expect(inStep(3).edit.targets).toBeGreaterThan(edit.targets);
    expect(inStep(3).edit.targets).toBeLessThanOrEqual(3 * edit.targets);
    expect(inStep(100).edit).toEqual(inStep(block).edit);
    expect(blockTargets).toBeLessThanOrEqual(4 * edit.targets);
    expect(blockTargets).toBeGreaterThan(edit.targets);
    expect(measureWork({ ...source, T: 1 }).blockTargets).toBe(edit.targets);
  });

  it("need no model: its templates are foreseen, eleven of them", () => {
    expect(source.templates).toHaveLength(11);
    expect(source.templates.every((template) => template.endsWith("{}"))).toBe(true);
    const short = measureWork({ ...source, templates: ["{}"] });
    expect(short.edit.sequences).toBe(2);
    expect(short.edit.longest).toBeLessThan(measureWork(source).edit.longest);
  });
});

describe("what is printed", () => {
  it("is one line for what always stays, one for each phase, and the sum against what there is", () => {
    const lines = renderPlan(planMemory(input), machine(24)).split("\n");
    expect(lines[0]).toBe("memory plan, weights streamed, float32, T = 1, tensorflow on CPU:");
    expect(lines.slice(1).map((line) => line.slice(2, 21).trim())).toEqual([
      "always",
      "frozen pass",
      "step of an edit",
      "moving and saving",
      "scoring",
      "at most",
      "on disk",
    ]);
    expect(lines.at(-2)).toMatch(/\d\.\d GB {2}in memory, of 24\.0 GB: free memory of the machine$/);
    expect(lines.at(-1)).toContain("of 44.2 GB, the rest computed again when needed");
  });

  it("counts what a cache folder holds already as room for it", async () => {
    const folder = await mkdtemp(join(tmpdir(), "wise-lab-plan-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const empty = await readMachine({ name: "wasm", device: "cpu" }, { cacheFolder: folder });
    expect(empty.tensors?.setBy).toBe("the heap of WebAssembly");
    await writeFile(join(folder, "entry"), new Uint8Array(3e8));
    const { disk } = await readMachine({ name: "tensorflow", device: "cpu" }, { cacheFolder: folder });
    expect(disk?.setBy).toMatch(/, and 0\.3 GB that the cache holds$/);
    expect(Math.abs((disk?.bytes ?? 0) - (empty.disk?.bytes ?? 0))).toBeLessThan(3e9); // others write meanwhile
  });
});

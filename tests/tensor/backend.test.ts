import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { type BackendName, type BackendReport, selectBackend } from "../../src/tensor/backend.js";
import { measureMatmul } from "../../src/tensor/gflops.js";
import { tf } from "../../src/tensor/tf.js";
import { available, requires, startableBackends } from "../support/requires.js";
import { repository } from "../support/shared.js";
import { expectTidy } from "../support/tensor-matcher.js";

afterEach(() => vi.unstubAllEnvs());

const startable = startableBackends();

describe("selectBackend", () => {
  it.each(startable)("starts %s on request, computes there and says so", async (name) => {
    const report = await selectBackend(name);
    expect(report.name).toBe(name);
    expect(report.detail).toContain(`${name}: `);
    expect(report.detail).toContain(report.version);
    expect(report.threads).toBeGreaterThan(0);
    expect(tf.getBackend()).toBe(name);
    const product = tf.tidy(() => tf.matMul(tf.tensor2d([[1, 2]]), tf.tensor2d([[3], [4]])));
    expect([...(await product.data())]).toEqual([11]);
    product.dispose();
    expect(await selectBackend(name)).toEqual(report);
  });

  it("takes the first that starts, and says what it stepped down from", async () => {
    vi.stubEnv("WISE_LAB_BACKEND", "");
    const report = await selectBackend();
    if (report.device === "gpu") return; // a card goes first
    if (available("native")) expect(report.name).toBe("tensorflow");
    else
      expect(report).toMatchObject({ name: "wasm", detail: expect.stringMatching(/not tensorflow: .*npm run native/) });
  });

  it("obeys WISE_LAB_BACKEND, and a request before it", async () => {
    vi.stubEnv("WISE_LAB_BACKEND", "cpu");
    expect((await selectBackend()).name).toBe("cpu");
    expect((await selectBackend("wasm")).name).toBe("wasm");
  });

  it("refuses an unknown name with the nearest one", async () => {
    const refused = selectBackend("tensorflwo" as BackendName);
    await expect(refused).rejects.toThrow(RefusedInput);
    await expect(refused).rejects.toThrow(/did you mean tensorflow\?/);
    vi.stubEnv("WISE_LAB_BACKEND", "webgl");
    await expect(selectBackend()).rejects.toThrow(/WISE_LAB_BACKEND/);
  });

  it.runIf(!available("native"))("refuses a backend that does not start, with the command that brings it", async () => {
    const refused = selectBackend("tensorflow");
    await expect(refused).rejects.toThrow(RefusedInput);
    await expect(refused).rejects.toThrow(/npm run native/);
  });

  it.each(startable)("starts and computes on %s without a word", (name) => {
    const { stdout, stderr, status } = runBuilt(`
      await selectBackend("${name}");
      tf.ones([2, 2]).matMul(tf.ones([2, 2]));`);
    const words = name === "webgpu" ? stderr.replace(/^Warning: .* artificially reduced .*\n/gm, "") : stderr; // Dawn, of lavapipe
    expect({ stdout, words, status }).toEqual({ stdout: "", words: "", status: 0 });
  });

  it.runIf(available("webgpu"))("takes a program that plays a graphics card only where it is named", async () => {
    vi.stubEnv("WISE_LAB_BACKEND", "");
    const named = await selectBackend("webgpu");
    expect(named.card).toMatch(/\w/);
    expect(named.detail).toContain(named.card);
    const chosen = await selectBackend();
    expect(chosen.name === "webgpu").toBe(named.device === "gpu" && chosen.device === "gpu");
  });

  it.each(["wasm", "cpu"] as const)("refuses fast math on %s, before it starts", async (name) => {
    await selectBackend(name === "cpu" ? "wasm" : "cpu");
    const standing = tf.getBackend();
    const refused = selectBackend(name, { fastMath: true });
    await expect(refused).rejects.toThrow(RefusedInput);
    await expect(refused).rejects.toThrow(/only native TensorFlow has fast math/);
    await expect(refused).rejects.toMatchObject({ where: "--fast-math", found: `the backend ${name}` });
    vi.stubEnv("WISE_LAB_BACKEND", name);
    await expect(selectBackend(undefined, { fastMath: true })).rejects.toThrow(/only native TensorFlow/);
    expect(tf.getBackend()).toBe(standing);
  });

  it("says of wasm and cpu that TensorFlow's settings are not theirs", async () => {
    vi.stubEnv("TF_ENABLE_ONEDNN_OPTS", "1");
    vi.stubEnv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16");
    for (const name of ["wasm", "cpu"] as const) {
      const report = await selectBackend(name);
      expect(report).toMatchObject({ fastMath: false, oneDnn: "default" });
      expect(report.detail).not.toMatch(/oneDNN|fast math/);
    }
  });

  it("leaves TensorFlow.js usable before anything is chosen", () => {
    expect(runBuilt("console.log(tf.scalar(2).add(1).dataSync()[0])")).toMatchObject({ stdout: "3\n", status: 0 });
  });

  it("leaves no tensor behind when it measures", async () => {
    await selectBackend("wasm");
    const gflops = await expectTidy(() => measureMatmul(128));
    expect(gflops).toBeGreaterThan(0.05);
  });
});

describe.runIf(requires("native"))("products of native TensorFlow", () => {
  const unset = { TF_ENABLE_ONEDNN_OPTS: undefined, ONEDNN_DEFAULT_FPMATH_MODE: undefined };

  /** Report of a fresh process, and oneDNN's lines on the products that it made there. */
  function reported(options: string, environment: NodeJS.ProcessEnv = {}) {
    const script = `
      const report = await selectBackend("tensorflow", ${options});
      tf.ones([64, 64]).matMul(tf.ones([64, 64])).dataSync();
      console.log(JSON.stringify(report));`;
    const { stdout, stderr } = runBuilt(script, { ...unset, ...environment, ONEDNN_VERBOSE: "1" });
    const lines = stdout.split("\n");
    const [report] = lines.filter((line) => line.startsWith("{"));
    if (report === undefined) throw new Error(stderr);
    const products = lines.filter((line) => /exec,cpu,matmul/.test(line));
    return { ...(JSON.parse(report) as BackendReport), products };
  }

  it("are TensorFlow's own by default, whatever the processor, and the line says nothing of them", () => {
    const report = reported("{}");
    expect(report).toMatchObject({ fastMath: false, oneDnn: "off", products: [] });
    expect(report.detail).not.toMatch(/oneDNN|fast math/);
  });

  it("are oneDNN's where they are large, in float32", () => {
    const report = reported("{ largeProducts: true }");
    expect(report).toMatchObject({ fastMath: false, oneDnn: "on", detail: expect.stringMatching(/, oneDNN on$/) });
    expect(report.products).toHaveLength(1);
    expect(report.products[0]).not.toContain("fpmath");
  });

  it("are what the user's own environment says before largeProducts", () => {
    const report = reported("{ largeProducts: true }", { TF_ENABLE_ONEDNN_OPTS: "0" });
    expect(report).toMatchObject({ oneDnn: "off", products: [] });
  });

  it("may be of bf16 numbers with fast math, which reaches oneDNN and is reported", () => {
    const report = reported("{ fastMath: true }", { TF_ENABLE_ONEDNN_OPTS: "0" });
    expect(report).toMatchObject({
      fastMath: true,
      oneDnn: "on",
      detail: expect.stringMatching(/, oneDNN on, fast math$/),
    });
    expect(report.products).toEqual([expect.stringContaining("attr-fpmath:bf16")]);
  });

  it.each([
    ["DNNL_DEFAULT_FPMATH_MODE", "any", true],
    ["ONEDNN_DEFAULT_FPMATH_MODE", "STRICT", false],
  ])("are reported as oneDNN takes %s=%s of the user's own", (name, value, fastMath) => {
    const report = reported("{}", { [name]: value, TF_ENABLE_ONEDNN_OPTS: "true" });
    expect(report).toMatchObject({ fastMath, oneDnn: "on" });
    expect(report.products[0]?.includes("fpmath")).toBe(fastMath);
  });

  it("cannot become fast once TensorFlow is loaded", () => {
    const { stdout } = runBuilt(`
      await selectBackend("tensorflow");
      await selectBackend("tensorflow", { fastMath: true }).catch((error) => console.log(error.name, error.message));
      console.log((await selectBackend("tensorflow", { largeProducts: true })).oneDnn);`);
    expect(stdout).toMatch(/RefusedInput TensorFlow was loaded without fast math/);
    expect(stdout).toMatch(/^off$/m);
  });
});

/** Runs a script against the compiled code in a process of its own, where nothing has been loaded yet. */
function runBuilt(script: string, environment: NodeJS.ProcessEnv = {}) {
  const built = (name: string) => JSON.stringify(join(repository, "dist/tensor", name));
  const imports = `import { selectBackend } from ${built("backend.js")}; import { tf } from ${built("tf.js")};`;
  return spawnSync(process.execPath, ["--input-type=module", "-e", imports + script], {
    encoding: "utf8",
    env: { ...process.env, ...environment },
  });
}

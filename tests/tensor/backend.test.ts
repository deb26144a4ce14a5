import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { BACKENDS, type BackendName, selectBackend } from "../../src/tensor/backend.js";
import { measureMatmul } from "../../src/tensor/gflops.js";
import { tf } from "../../src/tensor/tf.js";
import { available, requires } from "../support/requires.js";
import { repository } from "../support/shared.js";
import { expectTidy } from "../support/tensor-matcher.js";

afterEach(() => vi.unstubAllEnvs());

const startable = BACKENDS.filter((name) => name !== "tensorflow" || requires("native"));

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
    vi.stubEnv("WISE_LAB_BACKEND", "webgpu");
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
    expect({ stdout, stderr, status }).toEqual({ stdout: "", stderr: "", status: 0 });
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

/** Runs a script against the compiled code in a process of its own, where nothing has been loaded yet. */
function runBuilt(script: string) {
  const built = (name: string) => JSON.stringify(join(repository, "dist/tensor", name));
  const imports = `import { selectBackend } from ${built("backend.js")}; import { tf } from ${built("tf.js")};`;
  return spawnSync(process.execPath, ["--input-type=module", "-e", imports + script], { encoding: "utf8" });
}

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { doctor } from "../../src/doctor/doctor.js";
import { findMissing } from "../../src/doctor/missing.js";
import { renderDoctor } from "../../src/doctor/render.js";
import type { DoctorReport } from "../../src/doctor/types.js";
import { available } from "../support/requires.js";
import { repository } from "../support/shared.js";

let report: DoctorReport;
beforeAll(async () => {
  report = await doctor({ backend: "wasm" });
});

describe("doctor", () => {
  it("says what computes and how fast", () => {
    expect(report.backend).toMatchObject({ name: "wasm", device: "cpu", size: 1024 });
    expect(report.backend.gflops).toBeGreaterThan(0.1);
    expect(report.node).toBe(process.versions.node);
    expect(report.machine.memoryGiB).toBeGreaterThan(0);
  });

  it("has every direct dependency at the version of the lock file", () => {
    const { dependencies, devDependencies } = JSON.parse(readFileSync(join(repository, "package.json"), "utf8"));
    for (const [name, version] of Object.entries<string>({ ...dependencies, ...devDependencies })) {
      if (version.startsWith("file:")) continue;
      expect(report.packages).toContainEqual({ name, locked: version, installed: version, optional: false });
    }
  });

  it("knows the committed model by the hash that results carry", () => {
    expect(report.models).toContainEqual({ name: "lab-llama", sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
  });

  it("finds the Jupyter that the tests find", () => {
    if (available("jupyter")) expect(report.jupyter?.nbconvert).toMatch(/^\d+\.\d+/);
    else expect(report.missing.map(({ command }) => command).join()).toContain("nbconvert");
  });

  it("names for each missing thing the command that brings it", () => {
    const bare = findMissing({
      ...report,
      packages: [{ name: "zod", locked: "4.6.7", installed: "4.0.0", optional: false }],
      gpu: { cards: [], problem: "NVIDIA-SMI has failed" },
      browser: null,
      jupyter: null,
      kernelInstalled: false,
      data: [
        { name: "absent", sha256: null, expected: "aa" },
        { name: "spoilt", sha256: "bb", expected: "aa" },
      ],
    });
    expect(bare.map(({ command }) => command)).toEqual([
      "npm ci",
      "nvidia-smi",
      "npm run native",
      "apt-get install chromium, or CHROME_PATH=/path/to/chrome",
      "apt-get install jupyter-notebook, or pip install notebook",
      "apt-get install jupyter-nbconvert, or pip install nbconvert",
      "npx wise-lab kernel install",
      "delete it, then npx wise-lab data fetch spoilt",
      "npx wise-lab data fetch NAME",
    ]);
  });

  it("asks for CUDA only where a card stands unused, and for nothing where all is there", () => {
    const card = { name: "NVIDIA H200", driver: "570.1", memory: "143771 MiB" };
    const whole: DoctorReport = {
      ...report,
      gpu: { cards: [card], problem: null },
      backend: { ...report.backend, name: "tensorflow", device: "gpu" },
      browser: { source: "system", version: "Chromium 156" },
      jupyter: { notebook: "7.0", nbconvert: "7.0" },
      kernelInstalled: true,
      data: [],
    };
    expect(findMissing(whole)).toEqual([]);
    const unused = findMissing({ ...whole, backend: { ...whole.backend, device: "cpu" } });
    expect(unused.map(({ what }) => what)).toEqual(["TensorFlow with CUDA"]);
  });
});

describe("renderDoctor", () => {
  it("shows the same facts as text and as Markdown, and no path of this machine", () => {
    const text = renderDoctor(report, "text");
    const markdown = renderDoctor(report, "markdown");
    for (const fact of [report.backend.detail, report.machine.cpu, report.models[0]?.sha256 as string, "GFLOP/s"]) {
      expect(text).toContain(fact);
      expect(markdown).toContain(fact);
    }
    expect(markdown).toContain("### Packages\n\n| | |\n| --- | --- |\n| @biomejs/biome |");
    expect(text + markdown).not.toContain(repository);
  });

  it("says what is missing in the terminal only", () => {
    const lacking = {
      ...report,
      missing: [{ what: "Chrome", why: "for figures", command: "apt-get install chromium" }],
    };
    expect(renderDoctor(lacking, "text")).toMatch(/Missing\n {2}Chrome {2}for figures: apt-get install chromium/);
    expect(renderDoctor(lacking, "markdown")).not.toContain("Missing");
    expect(renderDoctor({ ...report, missing: [] }, "text")).not.toContain("Missing");
  });
});

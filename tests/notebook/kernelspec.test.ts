import { readFile, writeFile } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { kernelCommandLine } from "../../src/notebook/commands.js";
import { installedKernel, installKernel, kernelspecFolder, uninstallKernel } from "../../src/notebook/kernelspec.js";
import { scratchFolder } from "./support.js";

const folder = scratchFolder();
afterEach(() => vi.unstubAllEnvs());

describe("the kernelspec", () => {
  it("goes to the user's data folder, or under a prefix", async () => {
    vi.stubEnv("JUPYTER_DATA_DIR", "/data/of/jupyter");
    expect(kernelspecFolder()).toBe("/data/of/jupyter/kernels/wise-lab");
    expect(kernelspecFolder({ prefix: "/venv" })).toBe("/venv/share/jupyter/kernels/wise-lab");
    vi.stubEnv("JUPYTER_DATA_DIR", "");
    vi.stubEnv("XDG_DATA_HOME", "/xdg");
    const expected = { linux: "/xdg/jupyter/kernels/wise-lab", darwin: "Library/Jupyter/kernels/wise-lab" };
    expect(kernelspecFolder()).toContain(expected[process.platform as keyof typeof expected] ?? "jupyter");
  });

  it("is written, found, written again and taken away", async () => {
    vi.stubEnv("JUPYTER_DATA_DIR", join(await folder(), "data"));
    expect(await installedKernel()).toBeNull();
    const place = await installKernel();
    const spec = JSON.parse(await readFile(join(place, "kernel.json"), "utf8"));
    expect(spec).toMatchObject({
      display_name: "TypeScript (wise-lab)",
      language: "typescript",
      interrupt_mode: "message",
    });
    expect(spec.argv.at(-1)).toBe("{connection_file}");
    expect(isAbsolute(spec.argv.at(-2))).toBe(true);
    expect(await installKernel()).toBe(place);
    expect(await installedKernel()).toEqual(spec.argv);
    expect(await uninstallKernel()).toBe(place);
    expect(await kernelCommandLine("uninstall", {})).toContain("no kernel was installed");
  });

  it("is refused where it cannot be written", async () => {
    const file = join(await folder(), "file");
    await writeFile(file, "");
    await expect(installKernel({ prefix: file })).rejects.toThrow(/cannot be installed[\s\S]*--prefix/);
  });
});

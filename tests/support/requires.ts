import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync } from "node:fs";
import { platform } from "node:os";
import { delimiter, join } from "node:path";
import { BACKENDS, type BackendName } from "../../src/tensor/names.js";
import { repository, sharedFolder } from "./shared.js";
import { canMountSmallDisk } from "./small-disk.js";

/** Need of a test beyond Node and npm. */
export type Need =
  | "native"
  | "webgpu"
  | "jupyter"
  | "chromium"
  | "latex"
  | "shared"
  | "transformers"
  | "small-disk"
  | "ulimit"
  | "slurm";

const probes = {
  native: {
    found: () => existsSync(join(repository, "node_modules/@tensorflow/tfjs-node-gpu/lib/napi-v8/tfjs_binding.node")),
    missing: "no native TensorFlow binding (npm run native)",
  },
  webgpu: {
    found: () =>
      spawnSync(process.execPath, ["--input-type=module", "-e", FIND_ADAPTER], { cwd: repository }).status === 0,
    missing: "no WebGPU adapter: a graphics card, or Mesa's lavapipe (apt-get install mesa-vulkan-drivers libvulkan1)",
  },
  jupyter: {
    found: () => spawnSync("jupyter", ["nbconvert", "--version"]).status === 0,
    missing: "no Jupyter with nbconvert on the PATH (apt-get install jupyter-notebook jupyter-nbconvert)",
  },
  chromium: {
    found: () => Boolean(process.env.CHROME_PATH) || browserNames.some(onPath),
    missing: "no Chrome or Chromium on the PATH and no CHROME_PATH (apt-get install chromium)",
  },
  latex: {
    found: () => onPath("pdflatex"),
    missing: "no pdflatex on the PATH (apt-get install texlive-latex-recommended)",
  },
  shared: {
    found: () => sharedFolder() !== null,
    missing: "no folder ../shared with the full data sets",
  },
  transformers: {
    found: () => spawnSync(python(), ["-c", FIND_TRANSFORMERS]).status === 0,
    missing: "no Python with torch and transformers (python3, or the one that WISE_LAB_PYTHON names)",
  },
  "small-disk": {
    found: canMountSmallDisk,
    missing: "a small disk cannot be mounted (needs Linux and root)",
  },
  ulimit: {
    found: () => platform() === "linux",
    missing: "ulimit -v binds on Linux only",
  },
  slurm: {
    found: () => ["slurmctld", "slurmd", "sbatch", "munged"].every(onPath) && process.getuid?.() === 0,
    missing: "no Slurm with munge, or not root (apt-get install --no-install-recommends slurm-wlm munge)",
  },
} satisfies Record<Need, { found: () => boolean; missing: string }>;

const FIND_ADAPTER = `
const { create } = await import("webgpu");
globalThis.kept = create([]);
process.exitCode = (await globalThis.kept.requestAdapter()) === null ? 1 : 0;`;

/** Looks for the packages without loading them, which takes seconds. */
const FIND_TRANSFORMERS = `
from importlib.util import find_spec
raise SystemExit(not all(map(find_spec, ["torch", "transformers"])))`;

const browserNames = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** The Python that runs Transformers. */
export function python(): string {
  return process.env.WISE_LAB_PYTHON ?? "python3";
}

/** True if this machine has what is needed. */
export function available(need: Need): boolean {
  return probes[need].found();
}

/**
 * For `describe.runIf(requires("jupyter"))`: true where this machine has it, else false after printing why.
 * @throws where WISE_LAB_REQUIRE (a comma list) names it and the machine lacks it: nothing required is ever skipped.
 */
export function requires(need: Need): boolean {
  if (available(need)) return true;
  const reason = probes[need].missing;
  if (process.env.WISE_LAB_REQUIRE?.split(",").includes(need)) throw new Error(`required but missing: ${reason}`);
  console.info(`skipped here: ${reason}`);
  return false;
}

/** The backends that this machine has, after printing which it has not. */
export function startableBackends(): BackendName[] {
  const needs: Partial<Record<BackendName, Need>> = { tensorflow: "native", webgpu: "webgpu" };
  return BACKENDS.filter((name) => needs[name] === undefined || requires(needs[name]));
}

function onPath(program: string): boolean {
  return [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin"].some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

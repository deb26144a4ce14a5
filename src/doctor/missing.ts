import { KERNEL_DISPLAY_NAME } from "../notebook/kernelspec.js";
import type { DoctorReport, Missing } from "./types.js";

type Facts = Omit<DoctorReport, "missing">;

/** Things that a machine lacks, each with its remedy. The project runs without any of them, apart from its packages. */
export function findMissing(facts: Facts): Missing[] {
  return [
    ...missingPackages(facts),
    ...missingSpeed(facts),
    ...missingBrowser(facts),
    ...missingJupyter(facts),
    ...missingData(facts),
  ];
}

function missingPackages({ packages }: Facts): Missing[] {
  return packages
    .filter(({ installed, locked, optional }) => installed !== locked && !(optional && installed === null))
    .map(({ name, installed, locked }) => ({
      what: `${name} ${locked}`,
      why: installed ? `${installed} is installed` : "it is not installed",
      command: "npm ci",
    }));
}

function missingSpeed({ backend, gpu }: Facts): Missing[] {
  const missing: Missing[] = [];
  if (gpu.problem) {
    missing.push({ what: "a working NVIDIA driver", why: `nvidia-smi: ${gpu.problem}`, command: "nvidia-smi" });
  }
  if (backend.name === "wasm" || backend.name === "cpu") {
    missing.push({ what: "native TensorFlow", why: "about twenty times the speed of wasm", command: "npm run native" });
  } else if (gpu.cards.length > 0 && backend.device === "cpu") {
    missing.push({ what: "TensorFlow with CUDA", why: "the GPU is not used", command: "npm run native" });
  }
  return missing;
}

function missingBrowser({ browser }: Facts): Missing[] {
  const command = "apt-get install chromium, or CHROME_PATH=/path/to/chrome";
  if (browser?.version) return [];
  const why = browser ? `the browser of ${browser.source} does not start` : "figures are written as JSON alone";
  return [{ what: "Chrome or Chromium", why, command }];
}

function missingJupyter({ jupyter, kernelInstalled }: Facts): Missing[] {
  const missing: Missing[] = [];
  if (!jupyter?.notebook) {
    const command = "apt-get install jupyter-notebook, or pip install notebook";
    missing.push({ what: "Jupyter Notebook", why: "to work in notebooks in a browser", command });
  }
  if (!jupyter?.nbconvert) {
    const command = "apt-get install jupyter-nbconvert, or pip install nbconvert";
    missing.push({ what: "nbconvert", why: "to run and convert notebooks with Jupyter's own tool", command });
  }
  if (!kernelInstalled) {
    const why = "for Jupyter and VS Code; npm start needs none";
    missing.push({ what: `the kernel "${KERNEL_DISPLAY_NAME}"`, why, command: "npx wise-lab kernel install" });
  }
  return missing;
}

function missingData({ data }: Facts): Missing[] {
  const spoilt = data.filter(({ sha256, expected }) => sha256 !== null && sha256 !== expected);
  const absent = data.filter(({ sha256 }) => sha256 === null).map(({ name }) => name);
  const missing = spoilt.map(({ name }) => ({
    what: `data set ${name}`,
    why: "the file with its name is another one",
    command: `delete it, then npx wise-lab data fetch ${name}`,
  }));
  if (absent.length === 0) return missing;
  return [...missing, { what: "data sets", why: absent.join(", "), command: "npx wise-lab data fetch NAME" }];
}

// npm run native: builds the native TensorFlow binding (@tensorflow/tfjs-node-gpu).
// First the official download; where that is closed or sees no GPU although there is one, libtensorflow from a pip wheel.
//   --wheel FILE   take this TensorFlow wheel instead of downloading anything
//   --force        build again although a binding loads
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { npm, repository } from "./setup.mjs";

const packageFolder = join(repository, "node_modules/@tensorflow/tfjs-node-gpu");

// The C API of this version runs the binding of 4.22.0 (whose own libtensorflow is 2.9.1, CUDA 11.2).
const TENSORFLOW_VERSION = "2.21.0";
// pip picks its wheel for this Python, whatever Python runs pip: only the C library in it is used.
const WHEEL_PYTHON = ["--implementation", "cp", "--python-version", "3.11", "--abi", "cp311"];
const WHEEL_PLATFORMS = { x64: "manylinux_2_27_x86_64", arm64: "manylinux_2_27_aarch64" };
// The name the binding is linked with, and the file in the wheel that has the same C API.
const LIBRARIES = {
  libtensorflow: "libtensorflow_cc.so.2",
  libtensorflow_framework: "libtensorflow_framework.so.2",
};
const DOWNLOAD_MINUTES = 20;

const { values: options } = parseArgs({ options: { wheel: { type: "string" }, force: { type: "boolean" } } });

function main() {
  if (!existsSync(packageFolder)) npm("install", "--no-save");
  const gpu = hasNvidiaGpu();
  const before = options.force ? null : inspectBinding();
  if (before && (before.gpu || !gpu) && !options.wheel) return say(`already built: ${describe(before)}`);

  for (const source of sources(gpu)) {
    say(`trying ${source.name} ...`);
    const problem = attempt(source);
    const binding = problem ? null : inspectBinding();
    if (binding && (binding.gpu || !source.wantsGpu)) return say(`built: ${describe(binding)}`);
    say(`${source.name}: ${problem ?? (binding ? "loads, but sees no GPU" : "built, but does not load")}`);
  }
  say("No native TensorFlow. Everything still runs on the wasm backend, more slowly.");
  process.exitCode = 1;
}

/** The ways to get a binding, best first. Each throws or leaves a binding behind. */
function sources(gpu) {
  if (options.wheel) {
    return [{ name: options.wheel, wantsGpu: false, build: () => buildFromWheels([resolve(options.wheel)]) }];
  }
  const official = { name: "the official download", wantsGpu: gpu, build: installOfficial };
  const cpu = { name: "the tensorflow-cpu wheel", wantsGpu: false, build: () => buildFromPip("tensorflow-cpu", false) };
  const cuda = {
    name: "the tensorflow[and-cuda] wheels",
    wantsGpu: true,
    build: () => buildFromPip("tensorflow[and-cuda]", true),
  };
  return gpu ? [official, cuda, cpu] : [official, cpu];
}

function attempt(source) {
  try {
    source.build();
    return null;
  } catch (error) {
    return error.message;
  }
}

function installOfficial() {
  run(process.execPath, ["scripts/install.js", "gpu", "download"], { quiet: true });
}

/** `withDependencies` brings the CUDA libraries, which libtensorflow looks for in ../nvidia beside its own folder. */
function buildFromPip(requirement, withDependencies) {
  const platform = WHEEL_PLATFORMS[process.arch];
  if (process.platform !== "linux" || !platform) throw new Error("there is no such wheel for this system");
  const folder = mkdtempSync(join(tmpdir(), "wise-lab-wheel-"));
  try {
    const wanted = requirement.replace(/(\[.*\])?$/, (extra) => `${extra}==${TENSORFLOW_VERSION}`);
    // With dependencies, pure Python and the older platform tags of their wheels must be acceptable too.
    const target = withDependencies ? [] : ["--no-deps", "--platform", platform, ...WHEEL_PYTHON];
    run("python3", ["-m", "pip", "download", "--quiet", "--only-binary=:all:", ...target, "--dest", folder, wanted]);
    buildFromWheels(readdirSync(folder).map((file) => join(folder, file)));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Unpacks the C library and its headers (and NVIDIA's libraries) into the package, then compiles the binding. */
function buildFromWheels(wheels) {
  const deps = join(packageFolder, "deps");
  const lib = join(deps, "lib");
  const unpacked = join(packageFolder, "unpacked");
  for (const folder of [deps, unpacked]) rmSync(folder, { recursive: true, force: true });
  mkdirSync(lib, { recursive: true });
  for (const wheel of wheels) run("python3", ["-c", UNPACK, wheel, unpacked]);
  for (const [name, file] of Object.entries(LIBRARIES)) {
    renameSync(join(unpacked, "tensorflow", file), join(lib, file));
    for (const alias of [`${name}.so`, `${name}.so.2`]) if (alias !== file) symlinkSync(file, join(lib, alias));
  }
  renameSync(join(unpacked, "tensorflow/include"), join(deps, "include"));
  if (existsSync(join(unpacked, "nvidia"))) renameSync(join(unpacked, "nvidia"), join(deps, "nvidia"));
  rmSync(unpacked, { recursive: true });

  const headers = join(dirname(process.execPath), "../include/node/node_api.h"); // else node-gyp downloads them
  const nodedir = existsSync(headers) ? [`--nodedir=${resolve(dirname(process.execPath), "..")}`] : [];
  run("node-pre-gyp", ["install", "--build-from-source", ...nodedir], { quiet: true });
}

/** Python: of a wheel, only what the binding needs (a TensorFlow wheel has 13,000 headers more). */
const UNPACK = `
import sys, zipfile
keep = ("tensorflow/libtensorflow_cc.so.", "tensorflow/libtensorflow_framework.so.", "tensorflow/include/tensorflow/c/",
        "tensorflow/include/tensorflow/core/platform/", "tensorflow/include/xla/tsl/", "tensorflow/include/tsl/", "nvidia/")
with zipfile.ZipFile(sys.argv[1]) as wheel:
    wheel.extractall(sys.argv[2], [name for name in wheel.namelist() if name.startswith(keep)])
`;

/** Loads the binding in a process of its own: { version, gpu }, or null where it does not load. */
function inspectBinding() {
  const { status, stdout } = spawnSync(process.execPath, ["-e", INSPECT, packageFolder], {
    encoding: "utf8",
    env: { ...process.env, TF_CPP_MIN_LOG_LEVEL: "3" },
  });
  return status === 0 ? JSON.parse(stdout.trim().split("\n").at(-1)) : null;
}

const INSPECT = `
const util = require("node:util");
util.isNullOrUndefined ??= (value) => value === null || value === undefined;
util.isArray ??= Array.isArray;
const tf = require(process.argv[1]);
const { binding, isUsingGpuDevice } = tf.backend();
tf.matMul(tf.ones([2, 3]), tf.ones([3, 2])).dataSync();
console.log(JSON.stringify({ version: binding.TF_Version, gpu: isUsingGpuDevice }));
`;

function describe({ version, gpu }) {
  return `TensorFlow ${version}, ${gpu ? "GPU" : "CPU"}`;
}

function hasNvidiaGpu() {
  return spawnSync("nvidia-smi", ["-L"], { encoding: "utf8" }).stdout?.includes("GPU") ?? false;
}

/** Runs a command in the package's folder; throws with its last lines when it fails. */
function run(command, args, { quiet = false } = {}) {
  const bins = [join(repository, "node_modules/.bin"), process.env.PATH];
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd: packageFolder,
    encoding: "utf8",
    env: { ...process.env, PATH: bins.join(delimiter) },
    stdio: ["ignore", quiet ? "pipe" : "inherit", "pipe"],
    timeout: DOWNLOAD_MINUTES * 60_000,
    maxBuffer: 64 * 2 ** 20,
  });
  if (status === 0) return;
  const lines = `${stdout ?? ""}${stderr ?? ""}`.trim().split("\n").slice(-12).join("\n  ");
  throw new Error(`${error?.message ?? `${command} failed`}\n  ${lines}`);
}

function say(line) {
  console.log(`[native] ${line}`);
}

main();

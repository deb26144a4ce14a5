// What `npm start` and `npm test` do first: packages and the compiled code, each only where missing or out of date.
// Plain Node, no packages: this runs on a fresh clone.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const repository = fileURLToPath(new URL("..", import.meta.url));

const MINIMUM_NODE = [20, 19]; // vitest and the ES modules in packages that CommonJS code loads need it
const packages = join(repository, "node_modules");
const packagesStamp = join(packages, ".wise-lab-setup"); // sha256 of the lock file that was installed
const nativeBinding = join(packages, "@tensorflow/tfjs-node-gpu/lib/napi-v8");
const buildStamp = join(repository, "dist/.built"); // its time is the start of the last good build

/** Installs and compiles what is missing; ends the process with a clear line where that fails. */
export function setUp() {
  requireNode();
  installPackages();
  build();
}

/** Runs npm in the repository: the one that runs this script, or else the one on the PATH. */
export function npm(...args) {
  const running = process.env.npm_execpath;
  if (running?.endsWith("npm-cli.js")) return succeed(process.execPath, [running, ...args]);
  succeed(process.platform === "win32" ? "npm.cmd" : "npm", args);
}

/** Runs a Node program in the repository and takes over its exit status. */
export function handOver(...args) {
  const { status, signal } = spawnSync(process.execPath, args, { cwd: repository, stdio: "inherit" });
  if (signal) process.kill(process.pid, signal);
  process.exit(status ?? 1);
}

function requireNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > MINIMUM_NODE[0] || (major === MINIMUM_NODE[0] && minor >= MINIMUM_NODE[1])) return;
  fail(
    `wise-lab needs Node ${MINIMUM_NODE.join(".")} or newer; this is Node ${process.versions.node} (${process.execPath}).`,
  );
}

function installPackages() {
  const lock = createHash("sha256")
    .update(readFileSync(join(repository, "package-lock.json")))
    .digest("hex");
  if (existsSync(packagesStamp) && readFileSync(packagesStamp, "utf8") === lock) return;
  say("installing packages from npm, about a minute ...");
  const hadNative = existsSync(nativeBinding);
  // `ci` begins by deleting node_modules, and with it a native binding that was built there.
  if (existsSync(packages)) npm("install", "--no-save", "--no-audit", "--no-fund");
  else npm("ci", "--no-audit", "--no-fund");
  writeFileSync(packagesStamp, lock);
  if (hadNative && !existsSync(nativeBinding)) say("npm took native TensorFlow away: npm run native builds it again");
}

function build() {
  const changed = Math.max(
    newest(join(repository, "src")),
    newest(join(repository, "tsconfig.json")),
    newest(packagesStamp),
  );
  if (existsSync(buildStamp) && statSync(buildStamp).mtimeMs >= changed) return;
  say("compiling ...");
  const started = new Date();
  succeed(process.execPath, [join(packages, "typescript/bin/tsc"), "-p", "tsconfig.json", "--noCheck"]); // npm run check checks types
  mkdirSync(join(repository, "dist"), { recursive: true });
  writeFileSync(buildStamp, "");
  utimesSync(buildStamp, started, started); // a file saved while the compiler ran is newer than the build
}

/** Time of the last change in a file or, folders included, anywhere below a folder. */
function newest(path) {
  const own = statSync(path);
  if (!own.isDirectory()) return own.mtimeMs;
  return Math.max(own.mtimeMs, ...readdirSync(path).map((name) => newest(join(path, name))));
}

function succeed(command, args) {
  const { status, error } = spawnSync(command, args, {
    cwd: repository,
    stdio: "inherit",
    shell: command.endsWith(".cmd"),
  });
  if (status !== 0) fail(`${error?.message ?? "failed"}: ${command} ${args.join(" ")}`);
}

function fail(message) {
  console.error(`[set-up] ${message}`);
  process.exit(1);
}

function say(line) {
  console.log(`[set-up] ${line}`);
}

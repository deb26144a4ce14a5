import { execFile } from "node:child_process";
import { accessSync, constants, existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import { RefusedInput } from "../core/errors.js";

/** A browser that can draw figures, and where it came from. */
export interface FoundBrowser {
  source: "CHROME_PATH" | "system" | "@sparticuz/chromium";
  /** The program; for @sparticuz/chromium the package folder that it is unpacked from. */
  path: string;
}

/** A browser ready to start, with the variables its process needs beside the usual ones. */
export interface Executable {
  path: string;
  env: Record<string, string>;
}

const programNames = ["google-chrome-stable", "google-chrome", "chromium", "chromium-browser", "chrome.exe"];
const macApplications = [
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
];
const windowsFolders = ["PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA"];

/**
 * The browsers of this machine in the order they are tried: CHROME_PATH, an installed Chrome or Chromium, the one inside
 * the npm package @sparticuz/chromium. Looks only; starts and unpacks nothing.
 * @throws {RefusedInput} when CHROME_PATH names no program.
 */
export function findBrowsers(env: NodeJS.ProcessEnv = process.env): FoundBrowser[] {
  const found: FoundBrowser[] = [];
  if (env.CHROME_PATH) {
    if (!isProgram(env.CHROME_PATH)) {
      throw new RefusedInput("CHROME_PATH names no program", {
        where: "environment variable CHROME_PATH",
        found: env.CHROME_PATH,
        expected: "path of a Chrome or Chromium program",
      });
    }
    found.push({ source: "CHROME_PATH", path: env.CHROME_PATH });
  }
  const installed = systemPaths(env).find(isProgram);
  if (installed) found.push({ source: "system", path: installed });
  const packed = packageFolder();
  if (packed) found.push({ source: "@sparticuz/chromium", path: packed });
  return found;
}

/** The browser that figures are drawn with first, or null where there is none. */
export function findBrowser(env: NodeJS.ProcessEnv = process.env): FoundBrowser | null {
  return findBrowsers(env)[0] ?? null;
}

/** Makes a found browser ready to start: unpacks the npm one, once per installation, beside the installed packages. */
export async function prepareBrowser(browser: FoundBrowser): Promise<Executable> {
  return browser.source === "@sparticuz/chromium" ? unpack(browser.path) : { path: browser.path, env: {} };
}

function systemPaths(env: NodeJS.ProcessEnv): string[] {
  const folders = (env.PATH ?? "").split(delimiter).filter((folder) => folder !== "");
  const onPath = programNames.flatMap((name) => folders.map((folder) => join(folder, name)));
  if (process.platform === "darwin") return [...onPath, ...macApplications];
  if (process.platform !== "win32") return onPath;
  const roots = windowsFolders.map((name) => env[name]).filter((root) => root !== undefined);
  return [...onPath, ...roots.map((root) => join(root, "Google", "Chrome", "Application", "chrome.exe"))];
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The package holds a program for 64-bit Linux on x86 only, and npm installs it everywhere. */
function packageFolder(): string | null {
  if (process.platform !== "linux" || process.arch !== "x64") return null;
  try {
    const entry = createRequire(import.meta.url).resolve("@sparticuz/chromium");
    return dirname(dirname(dirname(entry))); // .../build/cjs/index.cjs
  } catch {
    return null; // an optional dependency that was not installed
  }
}

const unpackScript = `const { default: chromium } = await import(process.argv[1]); await chromium.executablePath();`;

/**
 * The package unpacks into TMPDIR and changes its process's environment: a process of its own keeps that from this one.
 * AWS_EXECUTION_ENV makes it bring the nss libraries that a bare machine lacks.
 */
async function unpack(folder: string): Promise<Executable> {
  const version = (createRequire(import.meta.url)(join(folder, "package.json")) as { version: string }).version;
  const home = join(dirname(dirname(folder)), ".cache", "wise-lab", `chromium-${version}`);
  if (!existsSync(home)) {
    const draft = `${home}.${process.pid}.part`;
    await mkdir(draft, { recursive: true });
    const entry = join(folder, "build", "esm", "index.js");
    const env = { ...process.env, TMPDIR: draft, AWS_EXECUTION_ENV: "AWS_Lambda_nodejs20.x" };
    try {
      await promisify(execFile)(process.execPath, ["--input-type=module", "-e", unpackScript, entry], { env });
      await rename(draft, home);
    } catch (cause) {
      await rm(draft, { recursive: true, force: true });
      if (!existsSync(home)) throw cause; // else another process was faster
    }
  }
  const libraries = [join(home, "al2023", "lib"), process.env.LD_LIBRARY_PATH].filter((path) => path).join(delimiter);
  return { path: join(home, "chromium"), env: { LD_LIBRARY_PATH: libraries } };
}

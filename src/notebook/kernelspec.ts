import { existsSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { errorText, RefusedInput } from "../core/errors.js";
import { largePages } from "../core/large-pages.js";

export const KERNEL_NAME = "wise-lab";
export const KERNEL_DISPLAY_NAME = "TypeScript (wise-lab)";

const NODE_OPTIONS = [
  "--disable-warning=ExperimentalWarning", // Node 20 warns about every require of an ES module, which is how cells import
  "--no-force-async-hooks-checks", // else ending a runaway cell by force ends the process
];

export interface KernelspecOptions {
  /** Installs for everyone who uses the Jupyter under this folder (a virtual environment, /usr/local), not for one user. */
  prefix?: string;
}

/** Folder of the kernelspec, in the user's Jupyter data folder or under a prefix. */
export function kernelspecFolder({ prefix }: KernelspecOptions = {}): string {
  const data = prefix === undefined ? userDataFolder() : join(prefix, "share", "jupyter");
  return join(data, "kernels", KERNEL_NAME);
}

/** The command that starts a kernel. The Node that installs it runs it: a Jupyter started from a menu knows no PATH. */
export function kernelCommand(connectionFile: string): string[] {
  const main = fileURLToPath(new URL("../../dist/notebook/kernel/main.js", import.meta.url));
  if (!existsSync(main)) {
    throw new RefusedInput("the kernel is not built", {
      where: main,
      found: "no such file",
      expected: "the built package",
      hint: "npm run build",
    });
  }
  return [process.execPath, ...NODE_OPTIONS, main, connectionFile];
}

/**
 * Tells Jupyter of the kernel "TypeScript (wise-lab)". Needs no Python; installing again replaces.
 * @returns the folder written.
 * @throws {RefusedInput} when the package is not built or the folder cannot be written.
 */
export async function installKernel(options: KernelspecOptions = {}): Promise<string> {
  const folder = kernelspecFolder(options);
  const spec = {
    argv: kernelCommand("{connection_file}"),
    display_name: KERNEL_DISPLAY_NAME,
    language: "typescript",
    interrupt_mode: "message",
    env: { ...largePages() },
    metadata: {},
  };
  try {
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, "kernel.json"), `${JSON.stringify(spec, null, 2)}\n`);
  } catch (cause) {
    throw new RefusedInput("the kernel cannot be installed", {
      where: folder,
      found: errorText(cause),
      expected: "a folder that can be written",
      hint: "wise-lab kernel install --prefix FOLDER, or set JUPYTER_DATA_DIR",
      cause,
    });
  }
  return folder;
}

/** Takes the kernelspec away. @returns its folder, or null where there was none. */
export async function uninstallKernel(options: KernelspecOptions = {}): Promise<string | null> {
  const folder = kernelspecFolder(options);
  if (!existsSync(folder)) return null;
  await rm(folder, { recursive: true });
  return folder;
}

/** The argv of the installed kernelspec, or null where none is installed there. */
export async function installedKernel(options: KernelspecOptions = {}): Promise<string[] | null> {
  const file = join(kernelspecFolder(options), "kernel.json");
  if (!existsSync(file)) return null;
  return (JSON.parse(await readFile(file, "utf8")) as { argv: string[] }).argv;
}

/** https://docs.jupyter.org/en/stable/use/jupyter-directories.html */
function userDataFolder(): string {
  const { JUPYTER_DATA_DIR, XDG_DATA_HOME, APPDATA } = process.env;
  if (JUPYTER_DATA_DIR) return JUPYTER_DATA_DIR;
  if (process.platform === "darwin") return join(homedir(), "Library", "Jupyter");
  if (process.platform === "win32") return join(APPDATA ?? join(homedir(), "AppData", "Roaming"), "jupyter");
  return join(XDG_DATA_HOME || join(homedir(), ".local", "share"), "jupyter");
}

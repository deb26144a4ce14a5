import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { isRunning } from "../../core/child.js";
import type { Kernel } from "./kernel.js";

/** Started by Jupyter: `node main.js CONNECTION_FILE`. */
async function main(connectionFile: string | undefined): Promise<void> {
  exitWithParent();
  if (!connectionFile) throw new Error("usage: node main.js CONNECTION_FILE (Jupyter starts this program)");
  const packageFile = new URL("../../../package.json", import.meta.url);
  const { version } = JSON.parse(await readFile(packageFile, "utf8")) as { version: string };
  let kernel: Kernel | null = null;
  process.on("SIGINT", () => kernel?.interrupt()); // from the start: an early interrupt must not end the process
  kernel = await (await import("./kernel.js")).Kernel.start({
    connectionFile,
    root: fileURLToPath(new URL(".", packageFile)).replace(/[/\\]$/, ""),
    version,
    onShutdown: () => process.exit(0),
  });
  process.on("exit", () => kernel?.close()); // cells may call process.exit too
  process.on("uncaughtException", (error) => kernel?.reportStrayError("uncaught exception", error));
  process.on("unhandledRejection", (reason) => kernel?.reportStrayError("unhandled rejection", reason));
}

/** A kernel whose Jupyter was killed would stay for ever. Windows gives no sign of it. */
function exitWithParent(): void {
  const parent = process.ppid;
  const client = Number(process.env.JPY_PARENT_PID); // Jupyter says who it is: it may be gone before this line is reached
  const isAlone = () => process.ppid !== parent || (parent === 1 && client > 0 && !isRunning(client));
  setInterval(() => {
    if (isAlone()) process.exit(1);
  }, 1000).unref();
}

await main(process.argv[2]);

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { Kernel } from "./kernel.js";

/** Started by Jupyter: `node main.js CONNECTION_FILE`. */
async function main(connectionFile: string | undefined): Promise<void> {
  if (!connectionFile) throw new Error("usage: node main.js CONNECTION_FILE (Jupyter starts this program)");
  const packageFile = new URL("../../../package.json", import.meta.url);
  const { version } = JSON.parse(await readFile(packageFile, "utf8")) as { version: string };
  let kernel: Kernel | null = null;
  process.on("SIGINT", () => kernel?.interrupt()); // from the start: an early interrupt must not end the process
  kernel = await Kernel.start({
    connectionFile,
    root: fileURLToPath(new URL(".", packageFile)).replace(/[/\\]$/, ""),
    version,
    onShutdown: () => process.exit(0),
  });
  process.on("exit", () => kernel?.close()); // cells may call process.exit too
  process.on("uncaughtException", (error) => kernel?.reportStrayError("uncaught exception", error));
  process.on("unhandledRejection", (reason) => kernel?.reportStrayError("unhandled rejection", reason));
  exitWithParent();
}

/** A kernel whose Jupyter was killed would stay for ever. Windows gives no sign of it. */
function exitWithParent(): void {
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) process.exit(1);
  }, 1000).unref();
}

await main(process.argv[2]);

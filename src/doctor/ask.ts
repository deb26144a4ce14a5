import { execFile } from "node:child_process";
import { promisify } from "node:util";

const LONGEST_MS = 20_000; // a cold Jupyter takes some seconds to say its version

/** Answer of a program: its output; or that it is not installed; or the reason why it failed. */
export type Answer = { kind: "text"; text: string } | { kind: "absent" } | { kind: "failed"; reason: string };

/** Runs a program of this machine and takes what it prints. `env` is set beside the usual variables. */
export async function ask(program: string, args: string[], env: Record<string, string> = {}): Promise<Answer> {
  try {
    const options = { timeout: LONGEST_MS, env: { ...process.env, ...env } };
    const { stdout } = await promisify(execFile)(program, args, options);
    return { kind: "text", text: stdout.trim() };
  } catch (error) {
    const { code, stdout, message } = error as { code?: unknown; stdout?: string; message: string };
    if (code === "ENOENT") return { kind: "absent" };
    return { kind: "failed", reason: (stdout?.trim() || message).split("\n", 1)[0] as string };
  }
}

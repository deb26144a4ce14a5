#!/usr/bin/env node
import { Command } from "commander";
import { resultCommands } from "./cli/declare/result.js";
import { runCommands } from "./cli/declare/run.js";
import { endWithParent, run } from "./cli/declare/shared.js";
import { toolCommands } from "./cli/declare/tool.js";

// Commands are imported when they run: TensorFlow.js and the data frames take seconds, help and a mistyped option none.

const program = new Command("wise-lab")
  .description("Rerun and explore lifelong knowledge-editing results: methods with T-rollback on a LLaMA.")
  .showHelpAfterError("(wise-lab COMMAND --help shows what is allowed)");

runCommands(program);
resultCommands(program);
toolCommands(program);

endWithParent();
const args = process.argv.slice(2);
const asked = isHelp(args) ? optionIn("--method", args) : null;
if (asked !== null) {
  await run(async () => {
    const { methodText } = await import("./cli/methods.js");
    program.addHelpText("afterAll", `\n${methodText(asked)}`);
    return 0;
  });
}
const status = await startedAgain(args);
if (status !== null) process.exitCode = status;
else if (process.exitCode !== 1) await program.parseAsync();

/** The exit status of the command where it had to be started again; else null. */
async function startedAgain(args: readonly string[]): Promise<number | null> {
  const model = isHelp(args) ? null : optionIn("--model", args);
  return model === null ? null : (await import("./cli/start-again.js")).startAgain(model);
}

function isHelp(args: readonly string[]): boolean {
  return args.some((arg) => arg === "--help" || arg === "-h");
}

/** The value of an option before it is parsed: `--name value` or `--name=value`. */
function optionIn(name: string, args: readonly string[]): string | null {
  const at = args.findIndex((arg) => arg === name || arg.startsWith(`${name}=`));
  if (at === -1) return null;
  return args[at] === name ? (args[at + 1] ?? null) : (args[at] as string).slice(name.length + 1);
}

#!/usr/bin/env node
import { Command } from "commander";
import { addExamples } from "./cli/declare/examples.js";
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
addExamples(program);

endWithParent();
program.hook("preAction", async (_, command) => {
  const { model } = command.opts<{ model?: string }>();
  if (model !== undefined) await (await import("./cli/start-again.js")).startAgain(model);
});

const asked = methodInHelp(process.argv.slice(2));
if (asked !== null) {
  await run(async () => {
    const { methodText } = await import("./cli/methods.js");
    program.addHelpText("afterAll", `\n${methodText(asked)}`);
    return 0;
  });
}
if (process.exitCode !== 1) await program.parseAsync();

/** The method that help is asked for: `--method NAME` beside `--help`, in any order. */
function methodInHelp(args: readonly string[]): string | null {
  const at = args.findIndex((arg) => arg === "--method" || arg.startsWith("--method="));
  if (at === -1 || !args.some((arg) => arg === "--help" || arg === "-h")) return null;
  return args[at]?.split("=")[1] ?? args[at + 1] ?? null;
}

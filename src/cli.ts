#!/usr/bin/env node
import { Command } from "commander";
import { resultCommands } from "./cli/declare/result.js";
import { runCommands } from "./cli/declare/run.js";
import { toolCommands } from "./cli/declare/tool.js";

// Commands are imported when they run: TensorFlow.js and the data frames take seconds, help and a mistyped option none.

const program = new Command("wise-lab")
  .description("Rerun and explore lifelong knowledge-editing results: methods with T-rollback on a LLaMA.")
  .showHelpAfterError("(wise-lab COMMAND --help shows what is allowed)");

runCommands(program);
resultCommands(program);
toolCommands(program);

await program.parseAsync();

import { Command } from "commander";
import { expect, test } from "vitest";
import { addExamples } from "../../src/cli/declare/examples.js";
import { resultCommands } from "../../src/cli/declare/result.js";
import { runCommands } from "../../src/cli/declare/run.js";
import { toolCommands } from "../../src/cli/declare/tool.js";

const program = new Command("wise-lab");
runCommands(program);
resultCommands(program);
toolCommands(program);
addExamples(program);

function leaves(command: Command, path: string[] = []): [string, Command][] {
  if (command.commands.length === 0) return [[path.join(" "), command]];
  return command.commands.flatMap((inner) => leaves(inner, [...path, inner.name()]));
}

function helpOf(command: Command): string {
  let text = "";
  command.configureOutput({ writeOut: (part) => (text += part) });
  command.outputHelp();
  return text;
}

test.each(leaves(program))("wise-lab %s --help ends with one example that the command takes", async (path, command) => {
  const help = helpOf(command);
  const example = /\n\nExample: (wise-lab .*)\n$/.exec(help)?.[1] as string;
  expect(example, help).toMatch(new RegExp(`^wise-lab ${path}( |$)`));
  expect(help.match(/Example/g)).toHaveLength(1);
  let taken = false;
  command.action(() => {
    taken = true;
  });
  await program.exitOverride().parseAsync(example.split(" ").slice(1), { from: "user" });
  expect(taken).toBe(true);
});

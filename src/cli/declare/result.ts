import { type Command, Option } from "commander";
import type { EditsArguments } from "../edits.js";
import type { NumStepsArguments } from "../numSteps.js";
import { collect, number, numbers, wholeNumber, wholeNumbers } from "../parse.js";
import type { RetentionArguments } from "../retention.js";
import type { RouterArguments } from "../router.js";
import type { TableArguments } from "../table.js";
import { backendOption, run, withRunOptions, workersOption } from "./shared.js";

/** Values of a router's option in tables. */
const VALUES = [0, 0.2, 0.4, 0.6, 0.8, 1, 1.2, 1.4];

/** Commands that read runs: table, report, figures, explore. */
export function resultCommands(program: Command): void {
  program
    .command("table")
    .description("runs as a table with its protocol: text, or files for a paper")
    .argument("<run...>", "run folders, folders of them, or summaries of runs")
    .addOption(
      new Option("--kind <kind>", "one row per run, or per block, record or group of probes of a run")
        .choices(["methods", "blocks", "cases", "groups"])
        .default("methods"),
    )
    .addOption(new Option("--format <format>").choices(["text", "markdown", "csv", "latex"]).default("text"))
    .option(
      "--metric <name>",
      "of the scores, one that the runs were made for; may be repeated; all, when left out",
      collect,
    )
    .option("--allow <field>", "runs may differ in it (T, when, model, options.NAME, ...); may be repeated", collect)
    .option("--mark", "take runs that differ in other fields too, with a footnote each")
    .option("--out <file>", "write it there instead of printing it")
    .action((runs: string[], options: TableArguments) =>
      run(async () => (await import("../table.js")).tableCommand(runs, options)),
    );

  program
    .command("report")
    .description("a run as one HTML file: its table, why records are not right, and every record in full")
    .argument("<run>", "a run folder, finished or not")
    .option("--out <file>", "where to write it; ./NAME-report.html by default")
    .option("--metric <name>", "of the scores, one that the run was made for; teacher-forced by default")
    .action((folder: string, options: { out?: string; metric?: string }) =>
      run(async () => (await import("../report.js")).reportCommand(folder, options)),
    );

  program
    .command("check")
    .description("see that runs are as they were written, saved edits included")
    .argument("<run...>", "run folders")
    .action((runs: string[]) => run(async () => (await import("../report.js")).checkCommand(runs)));

  program
    .command("edits")
    .description("put saved edits in place on their model, of a run, a notebook or the page, and ask under them")
    .argument("<file>", "edits as they were saved (.safetensors)")
    .option("--model <folder>", "the model they were made on; the project's own by default")
    .option("--ask <question>", "answered under the edits; may be repeated", collect)
    .option("--out <file>", "save them again")
    .addOption(backendOption())
    .action((file: string, options: EditsArguments) =>
      run(async (signal) => (await import("../edits.js")).editsCommand(file, options, signal)),
    );

  program
    .command("convert")
    .description(
      "write a run folder, a summary or saved edits of an older form in the form of today; nothing is computed",
    )
    .argument("<from>")
    .argument("<to>", "where nothing stands yet")
    .action((from: string, to: string) =>
      run(async () => {
        const { convert } = await import("../../run/convert.js");
        console.log(`${to}: ${await convert(from, to)}`);
        return 0;
      }),
    );

  program
    .command("figures")
    .description("figures that were saved")
    .command("redraw")
    .description("draw them anew from their JSON; nothing is computed")
    .argument("[folder]", "where they are; the project's own by default")
    .action((folder?: string) => run(async () => (await import("../figures.js")).redrawCommand(folder)));

  const explore = program.command("explore").description("what one setting does, from runs that record enough to tell");

  explore
    .command("router")
    .alias("act-ratio")
    .description(
      "scores over the router's inference-only option, its best value and the ROC: by arithmetic, nothing is run",
    )
    .argument("<run...>", "run folders, folders of them, or summaries of runs")
    .option("--from <number>", "smallest value looked at", number, 0)
    .option("--to <number>", "largest value looked at", number, 2)
    .option("--points <number>", "values looked at, evenly spaced", wholeNumber, 201)
    .option("--at <numbers>", "values in the table, beside the run's own and the best", numbers, VALUES)
    .option("--metric <name>", "of the scores, one that the runs were made for; teacher-forced by default")
    .option("--figures <folder>", "folder for curves, activations and ROC of each run")
    .option("--csv <file>", "write the curves there")
    .action((runs: string[], options: RouterArguments) =>
      run(async () => (await import("../router.js")).routerCommand(runs, options)),
    );

  explore
    .command("retention")
    .description("what stands of edits after later ones of their block, from a run made with --checkpoint-every")
    .argument("<run>", "a run folder")
    .option("--metric <name>", "of the scores, one that the run was made for; teacher-forced by default")
    .option("--figures <folder>", "folder for the triangle of each score and the forgetting curves")
    .option("--csv <file>", "write the triangle there, one row for each time that a record was scored")
    .action((folder: string, options: RetentionArguments) =>
      run(async () => (await import("../retention.js")).retentionCommand(folder, options)),
    );

  withRunOptions(
    explore
      .command("num-steps")
      .description(
        "scores over the step limit, and where early stopping cuts in: one run at T = 1, a run per value otherwise",
      )
      .requiredOption("--steps <numbers>", "values of the step limit, as 1,2,5,10,20", wholeNumbers)
      .option("--T <number|all>", "edits between rollbacks", "1"),
  )
    .option("--values <numbers>", "of the router's option, to cross them with at T = 1", numbers, VALUES)
    .addOption(new Option("--ratios <numbers>", "earlier name of --values").argParser(numbers).hideHelp())
    .addOption(workersOption())
    .option("--out <folder>", "folder of the run folders, to continue from; runs/num-steps-T... by default")
    .option("--figures <folder>", "folder for the curve and, at T = 1, the heat map")
    .option("--csv <file>", "write the table there")
    .action(({ ratios, ...options }: NumStepsArguments & { ratios?: number[] }) =>
      run(async (signal) => {
        const { numStepsCommand } = await import("../numSteps.js");
        return numStepsCommand({ ...options, values: ratios ?? options.values }, signal);
      }),
    );
}

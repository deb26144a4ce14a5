#!/usr/bin/env node
import { Command, Option } from "commander";
import type { BenchArguments } from "./cli/bench.js";
import type { CheckpointArguments } from "./cli/checkpoint.js";
import type { GoldenArguments } from "./cli/golden.js";
import type { TrainArguments } from "./cli/lab.js";
import type { NumStepsArguments } from "./cli/numSteps.js";
import {
  collect,
  layers,
  number,
  numbers,
  oneOf,
  positive,
  seconds,
  seed,
  wholeNumber,
  wholeNumbers,
} from "./cli/parse.js";
import type { RouterArguments } from "./cli/router.js";
import type { RunArguments } from "./cli/run.js";
import type { StatsArguments } from "./cli/stats.js";
import type { StudyArguments } from "./cli/study.js";
import type { SweepArguments } from "./cli/sweep.js";
import type { TableArguments } from "./cli/table.js";
import { Interrupted, LabFailure, RefusedInput } from "./core/errors.js";
import { STAND_INS } from "./model/stand-in/known.js";
import { BACKENDS, type BackendName } from "./tensor/names.js";

// Commands are imported when they run: TensorFlow.js and the data frames take seconds, help and a mistyped option none.

/** The exit status of a process that SIGINT ended, by the shell's convention. */
const INTERRUPTED = 130;

/** Values of a router's option in tables. */
const VALUES = [0, 0.2, 0.4, 0.6, 0.8, 1, 1.2, 1.4];

const program = new Command("wise-lab")
  .description("Rerun and explore lifelong knowledge-editing results: methods with T-rollback on a LLaMA.")
  .showHelpAfterError("(wise-lab COMMAND --help shows what is allowed)");

const backendOption = () =>
  new Option("--backend <name>", "what computes; the best there is by default").choices(BACKENDS);

/** Ends the process with the status of a command; one Ctrl-C stops the work, with what was finished kept. */
function run(work: (signal: AbortSignal) => Promise<number>): Promise<void> {
  const controller = new AbortController();
  process.once("SIGINT", () => controller.abort());
  return work(controller.signal).then(
    (status) => {
      process.exitCode = status;
    },
    (error: unknown) => {
      process.exitCode = error instanceof Interrupted ? INTERRUPTED : 1;
      const expected = [RefusedInput, LabFailure, Interrupted].some((kind) => error instanceof kind);
      console.error(expected ? `wise-lab: ${(error as Error).message}` : error);
    },
  );
}

/** What a run takes besides T and its folder, and what the runs of a sweep share. */
function withRunOptions(command: Command): Command {
  return command
    .option("--model <folder>", "a Hugging Face LLaMA folder; the project's own by default")
    .option("--data <file>", "records to edit; the project's own by default")
    .option("--limit <number>", "use the first records only", wholeNumber)
    .addOption(
      new Option("--when <when>", "when a record is scored").choices(["after-all", "after-each"]).default("after-all"),
    )
    .option("--irrelevant <file>", "irrelevant prompts that the router trains on")
    .option("--method <name>", "editing method", "wise")
    .option("--hparams <file>", "hyperparameters, a YAML file of the released form")
    .option("--preset <name>", "hyperparameters that come with the project (data/hparams)")
    .option("--set <key=value>", "one hyperparameter, over the file; may be repeated", collect)
    .addOption(backendOption())
    .option("--fast-math", "products of numbers rounded to bf16, where the processor is faster with them; native only")
    .addOption(
      new Option("--weights <where>", "in memory whole, or streamed through it").choices(["auto", "whole", "streamed"]),
    )
    .addOption(new Option("--precision <precision>", "of the weights in memory").choices(["float32", "bf16"]))
    .option("--cache <folder>", "keeps the frozen part of a model between runs; the user's cache folder by default")
    .option("--no-cache", "computes it again in every run")
    .option("--cache-size <gigabytes>", "that the cache may take; 20 by default", positive);
}

withRunOptions(
  program
    .command("run")
    .description("run the T-rollback protocol: edit blocks of T records, score, roll back")
    .requiredOption("--T <number|all>", "edits between rollbacks"),
)
  .option("--out <folder>", "folder to write the run to, and to continue it from; runs/NAME by default")
  .option("--score-steps <numbers>", "T = 1: score also after these numbers of steps, as 1,2,5", wholeNumbers)
  .option("--save-edits", "keep the edits of every block in the folder, as files to restore")
  .option("--keep-every <seconds>", "of work between two safe points within a block; 60 by default", seconds)
  .action((options: RunArguments) => {
    endWithParent();
    return run(async (signal) => (await import("./cli/run.js")).runCommand(options, signal));
  });

const workersOption = () =>
  new Option("--workers <number>", "runs at once; one per core by default").argParser(wholeNumber);

withRunOptions(
  program
    .command("sweep")
    .description("run the protocol for every T and every combination of hyperparameters")
    .requiredOption("--T <number|all>", "edits between rollbacks; may be repeated", collect)
    .option("--grid <key=value,...>", "values of one hyperparameter; may be repeated for others", collect),
)
  .addOption(workersOption())
  .requiredOption("--out <folder>", "folder of the run folders; they are continued from there")
  .action((options: SweepArguments) =>
    run(async (signal) => (await import("./cli/sweep.js")).sweepCommand(options, signal)),
  );

program
  .command("study")
  .description("the project's own study: T = 1, 10, 100, 1000, and 1000 in four memories, kept apart or merged")
  .option("--limit <number>", "use the first records only", wholeNumber)
  .addOption(workersOption())
  .option("--out <folder>", "folder of the run folders, to continue from; runs/study by default")
  .option("--save", "write the summaries that come with the project (data/lab/study)")
  .addOption(backendOption())
  .action((options: StudyArguments) =>
    run(async (signal) => (await import("./cli/study.js")).studyCommand(options, signal)),
  );

program
  .command("stats")
  .description("covariances of the keys of value matrices, which some methods need; stopped, the same command goes on")
  .option("--model <folder>", "a Hugging Face LLaMA folder; the project's own by default")
  .option(
    "--texts <file>",
    "JSON list or lines of texts; what it was trained on by default, for the project's own model",
  )
  .requiredOption(
    "--layers <layers>",
    "layers from 0, as 5 or 4-8 or 4,6; each takes 8 bytes for each pair of keys",
    layers,
  )
  .option("--samples <number>", "use the first texts only", wholeNumber)
  .option("--dataset <name>", "what the texts are called; the file's name by default")
  .option("--length <tokens>", "cut texts after so many; what the model takes at most by default", wholeNumber)
  .option("--out <folder>", "folder of statistics; the user's own by default, where every method looks")
  .option("--keep-every <seconds>", "of work between two safe points; 60 by default", seconds)
  .addOption(backendOption())
  .action((options: StatsArguments) =>
    run(async (signal) => (await import("./cli/stats.js")).statsCommand(options, signal)),
  );

program
  .command("table")
  .description("runs as a table with its protocol: text, or files for a paper")
  .argument("<run...>", "run folders, folders of them, or summaries of runs")
  .addOption(
    new Option("--kind <kind>", "one row per run, per block of a run, or per record of a run")
      .choices(["methods", "blocks", "cases"])
      .default("methods"),
  )
  .addOption(new Option("--format <format>").choices(["text", "markdown", "csv", "latex"]).default("text"))
  .option("--allow <field>", "runs may differ in it (T, when, model, options.NAME, ...); may be repeated", collect)
  .option("--mark", "take runs that differ in other fields too, with a footnote each")
  .option("--out <file>", "write it there instead of printing it")
  .action((runs: string[], options: TableArguments) =>
    run(async () => (await import("./cli/table.js")).tableCommand(runs, options)),
  );

program
  .command("report")
  .description("a run as one HTML file: its table, why records are not right, and every record in full")
  .argument("<run>", "a run folder, finished or not")
  .option("--out <file>", "where to write it; ./NAME-report.html by default")
  .action((folder: string, options: { out?: string }) =>
    run(async () => (await import("./cli/report.js")).reportCommand(folder, options)),
  );

program
  .command("figures")
  .description("figures that were saved")
  .command("redraw")
  .description("draw them anew from their JSON; nothing is computed")
  .argument("[folder]", "where they are; the project's own by default")
  .action((folder?: string) => run(async () => (await import("./cli/figures.js")).redrawCommand(folder)));

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
  .option("--figures <folder>", "folder for curves, activations and ROC of each run")
  .option("--csv <file>", "write the curves there")
  .action((runs: string[], options: RouterArguments) =>
    run(async () => (await import("./cli/router.js")).routerCommand(runs, options)),
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
      const { numStepsCommand } = await import("./cli/numSteps.js");
      return numStepsCommand({ ...options, values: ratios ?? options.values }, signal);
    }),
  );

/** A run that a sweep started ends with the sweep, also when that was killed: the channel to it is then gone. */
function endWithParent(): void {
  process.once("disconnect", () => process.exit(INTERRUPTED));
  process.channel?.unref();
}

program
  .command("golden")
  .description("compare tokenizer, forward pass, editing methods and scoring with a folder of golden vectors")
  .argument("<folder>", "scenarios: NAME.json with NAME.safetensors")
  .option(
    "--model <folder>",
    'the checkpoint they were made on; by default the one that they name, here or in a folder "golden" beside',
  )
  .addOption(backendOption())
  .action((folder: string, options: GoldenArguments) =>
    run(async () => (await import("./cli/golden.js")).goldenCommand(folder, options)),
  );

program
  .command("methods")
  .description("the editing methods; with a name, its options and presets")
  .argument("[name]")
  .option("--markdown", "all of it, as the page data/methods.md")
  .action((name: string | undefined, options: { markdown?: boolean }) =>
    run(async () => (await import("./cli/methods.js")).methodsCommand(name, options)),
  );

program
  .command("doctor")
  .description("report on this machine, the backend and what is missing")
  .option("--markdown", "as the facts part of environment.md")
  .option("--json", "as data")
  .addOption(backendOption())
  .action((options: { markdown?: boolean; json?: boolean; backend?: BackendName }) =>
    run(async () => (await import("./cli/doctor.js")).doctorCommand(options)),
  );

program
  .command("data")
  .description("data sets that are not part of the project")
  .command("fetch")
  .description("bring a known data file into the data folder, checked by its sha256")
  .argument("<name>")
  .option("--from <file>", "copy it from disk")
  .option("--to <folder>", "another data folder")
  .action((name: string, options: { from?: string; to?: string }) =>
    run(async () => {
      const { fetchData } = await import("./data/fetch.js");
      const { path, how } = await fetchData(name, options);
      console.log(`${how}: ${path}`);
      return 0;
    }),
  );

const kernel = program.command("kernel").description('the Jupyter kernel "TypeScript (wise-lab)"');
for (const [action, description] of [
  ["install", "make it known to Jupyter"],
  ["uninstall", "take it away from Jupyter"],
  ["path", "print where its kernelspec is or would be"],
] as const) {
  kernel
    .command(action)
    .description(description)
    .option("--prefix <folder>", "an environment's folder; the user's own Jupyter folder by default")
    .action((options: { prefix?: string }) =>
      run(async () => {
        const { kernelCommandLine } = await import("./notebook/commands.js");
        console.log(await kernelCommandLine(action, options));
        return 0;
      }),
    );
}

program
  .command("notebook")
  .description("notebooks without a browser")
  .command("run")
  .description("execute a notebook over the Jupyter protocol and save it after each cell")
  .argument("<file>")
  .option("--param <name=value>", "a value for the cell tagged parameters; may be repeated", collect)
  .option("--out <file>", "write here and leave the notebook as it is")
  .option("--allow-errors", "go on after a cell that fails")
  .option("--timeout <seconds>", "for each cell")
  .action((file: string, options: { param?: string[]; out?: string; allowErrors?: boolean; timeout?: string }) =>
    run(async (signal) => {
      const { notebookRunCommand } = await import("./notebook/commands.js");
      return notebookRunCommand(file, { ...options, signal });
    }),
  );

const lab = program.command("lab").description("the made-up world and the small LLaMA that knows it");
lab
  .command("world")
  .description("generate the world from a seed")
  .requiredOption("--out <folder>", "folder to write it to")
  .option("--seed <number>", "another seed gives another world", seed, 0)
  .action((options: { seed: number; out: string }) =>
    run(async () => (await import("./cli/lab.js")).worldCommand(options)),
  );
lab
  .command("practice")
  .description("write a thousand more records to choose hyperparameters on")
  .requiredOption("--out <folder>", "folder to write them to")
  .option("--seed <number>", "of the world", seed, 0)
  .action((options: { seed: number; out: string }) =>
    run(async () => (await import("./cli/lab.js")).practiceCommand(options)),
  );
lab
  .command("train")
  .description("train the model; stopped, the same command goes on from its last checkpoint")
  .option("--world <folder>", "the world it learns; data/lab by default")
  .option("--out <folder>", "folder for checkpoints, loss curve and the finished model", "runs/lab")
  .option("--seed <number>", "of weights and batches", seed, 0)
  .option("--steps <number>", "steps in all, other than the recipe's", wholeNumber)
  .addOption(backendOption())
  .action((options: TrainArguments) =>
    run(async (signal) => (await import("./cli/lab.js")).trainCommand(options, signal)),
  );

program
  .command("make-checkpoint")
  .description("a checkpoint in the shapes of a published model, with random weights: to measure and test, not to ask")
  .addOption(
    new Option("--like <name>", "the model it stands in for").choices(Object.keys(STAND_INS)).makeOptionMandatory(),
  )
  .requiredOption("--out <folder>", "folder to write it to; stopped, the same command goes on with the next file")
  .option("--layers <number>", "its first layers only, for a quick trial", wholeNumber)
  .option("--seed <number>", "of the weights", seed, 0)
  .action((options: CheckpointArguments) =>
    run(async (signal) => (await import("./cli/checkpoint.js")).checkpointCommand(options, signal)),
  );

program
  .command("bench")
  .description("seconds per edit and memory: the cut against the whole model at every step, here and in PyTorch")
  .option("--only <shapes>", "of lab, 1b and 8b, as lab,1b", oneOf(["lab", "1b", "8b"] as const))
  .option("--model-1b <folder>", "a checkpoint in the shapes of LLaMA-3.2-1B; a stand-in is made otherwise (2.5 GB)")
  .option("--model-8b <folder>", "a checkpoint in the shapes of LLaMA-3-8B; a stand-in is made otherwise (16 GB)")
  .option("--data <file>", "records, of which the first is edited; the project's own by default")
  .option("--steps <number>", "steps of each edit", wholeNumber, 10)
  .option("--rounds <number>", "edits of each kind that are measured, in turns", wholeNumber, 3)
  .addOption(new Option("--weights <where>", "where the cut has its weights").choices(["whole", "streamed"]))
  .option("--save", "write the table that comes with the project (data/bench)")
  .option("--json", "as data")
  .addOption(backendOption())
  .action((options: BenchArguments) =>
    run(async (signal) => (await import("./cli/bench.js")).benchCommand(options, signal)),
  );

program
  .command("start")
  .description("run the notebooks of the project on its own model and print the table")
  .option("--out <folder>", "folder for the executed notebooks; runs/start by default")
  .option("--save", "write outputs into notebooks/ and figures/")
  .addOption(backendOption())
  .action((options: { out?: string; save?: boolean; backend?: BackendName }) =>
    run(async (signal) => (await import("./cli/start.js")).startCommand(options, signal)),
  );

await program.parseAsync();

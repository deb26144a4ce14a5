import { type Command, Option } from "commander";
import { STAND_INS } from "../../model/known.js";
import type { BackendName } from "../../tensor/names.js";
import type { BenchArguments } from "../bench.js";
import type { CheckpointArguments } from "../checkpoint.js";
import type { GoldenArguments } from "../golden.js";
import type { TrainArguments } from "../lab.js";
import { collect, oneOf, seed, wholeNumber } from "../parse.js";
import type { StartArguments } from "../start.js";
import type { TrainEditorArguments } from "../trainEditor.js";
import { backendOption, GOES_ON, run } from "./shared.js";

/** Commands about the project itself: its methods, machine, data, kernel, notebooks, model and measurements. */
export function toolCommands(program: Command): void {
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
      run(async () => (await import("../golden.js")).goldenCommand(folder, options)),
    );

  program
    .command("methods")
    .description("the editing methods; with a name, its options and presets")
    .argument("[name]")
    .option("--markdown", "all of it, as the page data/methods.md")
    .action((name: string | undefined, options: { markdown?: boolean }) =>
      run(async () => (await import("../methods.js")).methodsCommand(name, options)),
    );

  program
    .command("metrics")
    .description("what a run can be scored by (--metrics)")
    .option("--markdown", "as a table for a page")
    .action((options: { markdown?: boolean }) =>
      run(async () => (await import("../metrics.js")).metricsCommand(options)),
    );

  program
    .command("doctor")
    .description("report on this machine, the backend and what is missing")
    .option("--markdown", "as the facts part of environment.md")
    .option("--json", "as data")
    .addOption(backendOption())
    .action((options: { markdown?: boolean; json?: boolean; backend?: BackendName }) =>
      run(async () => (await import("../doctor.js")).doctorCommand(options)),
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
        const { fetchData } = await import("../../data/fetch.js");
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
          const { kernelCommandLine } = await import("../../notebook/commands.js");
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
        const { notebookRunCommand } = await import("../../notebook/commands.js");
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
      run(async () => (await import("../lab.js")).worldCommand(options)),
    );
  lab
    .command("practice")
    .description("write a thousand more records to choose hyperparameters on")
    .requiredOption("--out <folder>", "folder to write them to")
    .option("--seed <number>", "of the world", seed, 0)
    .action((options: { seed: number; out: string }) =>
      run(async () => (await import("../lab.js")).practiceCommand(options)),
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
      run(async (signal) => (await import("../lab.js")).trainCommand(options, signal), GOES_ON),
    );

  program
    .command("train-mend")
    .description("train the network that MEND edits with; stopped, the same command goes on from its last checkpoint")
    .option("--model <folder>", "a Hugging Face LLaMA folder; the project's own by default")
    .option("--data <file>", "records to train on; for the project's own model most of those of wise-lab lab practice")
    .option("--limit <number>", "use the first records only", wholeNumber)
    .option("--hparams <file>", "hyperparameters, a YAML file of the released form")
    .option("--preset <name>", "hyperparameters that come with the project (data/hparams)")
    .option("--set <key=value>", "one hyperparameter, over the file; may be repeated", collect)
    .option("--out <folder>", "folder for the network, checkpoint and loss curve", "runs/mend")
    .addOption(
      new Option("--weights <where>", "in memory whole, or streamed through it").choices(["whole", "streamed"]),
    )
    .addOption(new Option("--precision <precision>", "of the weights in memory").choices(["float32", "bf16"]))
    .addOption(backendOption())
    .action((options: TrainEditorArguments) =>
      run(async (signal) => (await import("../trainEditor.js")).trainEditorCommand("mend", options, signal), GOES_ON),
    );

  program
    .command("make-checkpoint")
    .description(
      "a checkpoint in the shapes of a published model, with random weights: to measure and test, not to ask",
    )
    .addOption(
      new Option("--like <name>", "the model it stands in for").choices(Object.keys(STAND_INS)).makeOptionMandatory(),
    )
    .requiredOption("--out <folder>", "folder to write it to; stopped, the same command goes on with the next file")
    .option("--layers <number>", "its first layers only, for a quick trial", wholeNumber)
    .option("--seed <number>", "of the weights", seed, 0)
    .action((options: CheckpointArguments) =>
      run(async (signal) => (await import("../checkpoint.js")).checkpointCommand(options, signal), GOES_ON),
    );

  program
    .command("bench")
    .description(
      "seconds per edit: WISE at the cut against the whole model at every step, and every method against PyTorch",
    )
    .option("--only <parts>", "of lab, 1b, 8b and methods, as lab,1b", oneOf(["lab", "1b", "8b", "methods"] as const))
    .option("--methods <names>", "of the methods, as wise,ft-m; all by default", (text: string) => text.split(","))
    .option("--model-1b <folder>", "a checkpoint in the shapes of LLaMA-3.2-1B; a stand-in is made otherwise (2.5 GB)")
    .option("--model-8b <folder>", "a checkpoint in the shapes of LLaMA-3-8B; a stand-in is made otherwise (16 GB)")
    .option("--data <file>", "records, of which the first are edited; the project's own by default")
    .option("--steps <number>", "steps of each edit; 10, or those of a method's preset", wholeNumber)
    .option("--rounds <number>", "edits of each kind that are measured, in turns: of methods, records", wholeNumber, 3)
    .addOption(new Option("--weights <where>", "where the cut has its weights").choices(["whole", "streamed"]))
    .option("--save", "write the table that comes with the project (data/bench)")
    .option("--json", "as data")
    .addOption(backendOption())
    .action((options: BenchArguments) =>
      run(async (signal) => (await import("../bench.js")).benchCommand(options, signal)),
    );

  program
    .command("start")
    .description("show one edit, then run the notebooks of the project on its own model and print the table")
    .option("--quick", "end after the one edit")
    .option("--out <folder>", "folder for the executed notebooks; runs/start by default")
    .option("--save", "write outputs into notebooks/ and figures/")
    .addOption(backendOption())
    .action((options: StartArguments) =>
      run(async (signal) => (await import("../start.js")).startCommand(options, signal)),
    );
}

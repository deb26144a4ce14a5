import { type Command, Option } from "commander";
import type { JoinArguments } from "../join.js";
import { collect, layers, positive, seconds, wholeNumber, wholeNumbers } from "../parse.js";
import type { RunArguments } from "../run.js";
import type { ScoreArguments } from "../score.js";
import type { SearchArguments } from "../search.js";
import type { SlurmArguments } from "../slurm.js";
import type { StatsArguments } from "../stats.js";
import type { StudyArguments } from "../study.js";
import type { SweepArguments } from "../sweep.js";
import type { VerifyArguments } from "../verify.js";
import {
  backendOption,
  GOES_ON,
  PAUSES,
  partOption,
  run,
  withMachineOptions,
  withRunOptions,
  withScoringOptions,
  workersOption,
} from "./shared.js";

/** Commands that edit: run, sweep, study; and the statistics that some methods need. */
export function runCommands(program: Command): void {
  withRecordOptions(
    program
      .command("run")
      .description("run the T-rollback protocol: edit blocks of T records, score, roll back")
      .requiredOption("--T <number|all>", "edits between rollbacks"),
  )
    .option("--out <folder>", "folder to write the run to, and to continue it from; runs/NAME by default")
    .option("--processes <number>", "that make the blocks where those are many; one per core by default", wholeNumber)
    .option("--part <i/n>", "make the i-th of n parts of the blocks, into OUT/parts/i-of-n; see wise-lab join")
    .addOption(
      new Option(
        "--prepare [what]",
        "make once what all parts need, and no blocks; templates leaves the cached frozen part to them",
      )
        .choices(["all", "templates"])
        .preset("all"),
    )
    .option("--take-over", "go on in a folder that a process on another machine left locked: it must have ended")
    .option("--requeue", "on SIGUSR2 ask Slurm to queue this task again, once a safe point is kept")
    .action((options: RunArguments) =>
      run(async (signal, pause) => (await import("../run.js")).runCommand(options, { signal, pause }), PAUSES),
    );

  withRecordOptions(
    program
      .command("slurm")
      .description("print the Slurm script that makes a run in parts, submit it, or say what became of it")
      .argument("<run>", "folder of the run")
      .option("--T <number|all>", "edits between rollbacks"),
  )
    .option("--parts <number>", "tasks of the array; as many as divide well by default", wholeNumber)
    .option("--cpus <number>", "of a task; 8 for a large model, else 1", wholeNumber)
    .option("--gpu", "a task needs a graphics card; as on this machine by default")
    .option("--time <minutes>", "that a task may take; twice what three records take here by default", positive)
    .option("--sbatch <word>", "a further word of sbatch, as --sbatch=--partition=long; may be repeated", collect)
    .option("--submit", "hand it to sbatch, behind a first job that prepares it")
    .option("--status", "of the parts that were submitted, and the pace of all")
    .option("--retry", "submit again what is neither finished nor in the queue")
    .action((folder: string, options: SlurmArguments) =>
      run(async (signal) => (await import("../slurm.js")).slurmCommand(folder, options, signal)),
    );

  program
    .command("join")
    .description("make a run of its parts: the same bytes as from one process")
    .argument("<run>", "the --out of the parts")
    .option("--out <folder>", "folder to write the run to; the one of its parts by default")
    .option("--against <run>", "say how its scores differ from those of this run")
    .action((folder: string, options: JoinArguments) =>
      run(async () => (await import("../join.js")).joinCommand(folder, options), GOES_ON),
    );

  program
    .command("parts")
    .description("how far the parts of a run are, and what is left at their pace")
    .argument("<run>", "the --out of the parts")
    .option("--of <number>", "how many there are to be; as their folders say by default", wholeNumber)
    .action((folder: string, options: { of?: number }) =>
      run(async () => (await import("../join.js")).partsCommand(folder, options)),
    );

  const score = program
    .command("score")
    .description("score a model that other software has edited, by the metrics of runs; nothing is edited")
    .requiredOption("--model <folder>", "the edited model, a Hugging Face LLaMA folder")
    .requiredOption("--before <folder>", "the model before its edits")
    .option("--data <file>", "records that were edited; the project's own by default")
    .option("--limit <number>", "use the first records only", wholeNumber)
    .option("--chat-template", "put questions in the model's chat template")
    .option("--out <folder>", "a run folder to write the scores to");
  withMachineOptions(withScoringOptions(score)).action((options: ScoreArguments) =>
    run(async (signal) => (await import("../score.js")).scoreCommand(options, signal)),
  );

  withRunOptions(
    program
      .command("sweep")
      .description("run the protocol for every T and every combination of hyperparameters")
      .requiredOption("--T <number|all>", "edits between rollbacks; may be repeated", collect)
      .option("--grid <key=value,...>", "values of one hyperparameter; may be repeated for others", collect),
  )
    .addOption(workersOption())
    .addOption(partOption())
    .requiredOption("--out <folder>", "folder of the run folders; they are continued from there")
    .action((options: SweepArguments) =>
      run(async (signal) => (await import("../sweep.js")).sweepCommand(options, signal), GOES_ON),
    );

  program
    .command("study")
    .description("a study of the project's own: its runs, and their table")
    .argument(
      "[name]",
      "study: WISE over T; free-answers: the ladder, and stops behind targets; methods: every method over T",
      "study",
    )
    .argument("[part...]", "some of its points alone, as memit, or memit-T10")
    .option("--limit <number>", "use the first records only", wholeNumber)
    .addOption(workersOption())
    .addOption(partOption())
    .option("--out <folder>", "folder of the run folders, to continue from; runs/study by default")
    .option("--save", "write the summaries that come with the project (data/lab/NAME)")
    .addOption(backendOption())
    .action((name: string, parts: string[], options: StudyArguments) =>
      run(async (signal) => (await import("../study.js")).studyCommand(name, parts, options, signal), GOES_ON),
    );

  withMachineOptions(
    program
      .command("verify")
      .description(
        "run the protocol of a published row on a model of yours, and compare; without a source, list the rows",
      )
      .argument("[source]", "file of data/published, as easyedit-issue-474"),
  )
    .option("--method <name>", "of the row, as published")
    .option("--T <number>", "of the row", wholeNumber)
    .option("--of-model <name>", "of the row, as published; LLaMA-3-8B in the list, by default")
    .option("--data-set <name>", "of the row, as published")
    .option("--metric <title>", "of the row, as published")
    .option("--dry-run", "plan it, make three records, and say how long all take")
    .option("--model <folder>", "a Hugging Face LLaMA folder; the project's own by default")
    .option("--as <name>", "under which the model is published, where its folder is called otherwise")
    .option("--data <file>", "the row's records, where the project does not know them")
    .option("--limit <number>", "use the first records only", wholeNumber)
    .option("--irrelevant <file>", "irrelevant prompts that the router trains on")
    .option("--hparams <file>", "hyperparameters, a YAML file of the released form; those the row states go over it")
    .option("--preset <name>", "hyperparameters that come with the project (data/hparams)")
    .option("--set <key=value>", "one hyperparameter, over those of the row; may be repeated", collect)
    .option("--judge <command>", "says A or B of a free answer, for rows that a language model judged")
    .option("--out <folder>", "folder to write the run to, and to continue it from; runs/verify-... by default")
    .action((source: string | undefined, options: VerifyArguments) =>
      run(async (signal) => (await import("../verify.js")).verifyCommand(source, options, signal), GOES_ON),
    );

  program
    .command("search")
    .description("try each method's settings on practice records (data/lab/search.json), and choose")
    .argument("[method...]", "some of the methods; all by default")
    .addOption(workersOption())
    .option("--out <folder>", "folder of the run folders, to continue from", "runs/search")
    .option("--save", "write what came of it beside the project's other results (data/lab/search-results.json)")
    .addOption(backendOption())
    .action((methods: string[], options: SearchArguments) =>
      run(async (signal) => (await import("../search.js")).searchCommand(methods, options, signal), GOES_ON),
    );

  program
    .command("stats")
    .description(
      "covariances of the keys of value matrices, which some methods need; stopped, the same command goes on",
    )
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
      run(async (signal) => (await import("../stats.js")).statsCommand(options, signal), GOES_ON),
    );
}

/** Options of a single run: those that runs share, and what it records beside its scores. */
function withRecordOptions(command: Command): Command {
  return withRunOptions(command)
    .option("--score-steps <numbers>", "T = 1: score also after these numbers of steps, as 1,2,5", wholeNumbers)
    .option("--checkpoint-every <edits>", "score earlier records of a block after every so many edits", wholeNumber)
    .option("--checkpoint-sample <number>", "of earlier records at a checkpoint, seeded; all by default", wholeNumber)
    .option("--save-edits", "keep the edits of every block in the folder, as files to restore")
    .option("--keep-every <seconds>", "of work between two safe points within a long block; 60 by default", seconds);
}

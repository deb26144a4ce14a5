import { type Command, Option } from "commander";
import { Interrupted, LabFailure, Paused, RefusedInput } from "../../core/errors.js";
import { TARGET_STOPS } from "../../edit/target-stop.js";
import { CONTEXTS, ROUTINGS } from "../../eval/generation.js";
import { BACKENDS } from "../../tensor/names.js";
import { collect, gigabytes, names, wholeNumber } from "../parse.js";

/** The exit status of a process that SIGINT ended, by the shell's convention. */
const INTERRUPTED = 130;
/** The exit status of a command that is to be started again: EX_TEMPFAIL of sysexits.h; one for Slurm's RequeueExit. */
const PAUSED = 75;

/**
 * Ends the process with the status of a command; one Ctrl-C stops the work, with what was finished kept.
 * @param options `goesOn`: the same command goes on from there; `pauses`: the work ends at its next safe point when
 *   SIGTERM or SIGUSR2 asks, which batch systems send before they kill
 */
export function run(
  work: (signal: AbortSignal, pause: AbortSignal) => Promise<number>,
  { goesOn = false, pauses = false } = {},
): Promise<void> {
  const controller = new AbortController();
  process.once("SIGINT", () => controller.abort());
  const pause = new AbortController();
  for (const name of pauses ? (["SIGTERM", "SIGUSR2"] as const) : []) process.on(name, () => pause.abort(name));
  return work(controller.signal, pause.signal).then(
    (status) => {
      process.exitCode = status;
    },
    (error: unknown) => {
      process.exitCode = error instanceof Paused ? PAUSED : error instanceof Interrupted ? INTERRUPTED : 1;
      const expected = [RefusedInput, LabFailure, Interrupted].some((kind) => error instanceof kind);
      console.error(expected ? `wise-lab: ${(error as Error).message}` : error);
      if (error instanceof Interrupted && goesOn) console.error("the same command goes on from what was kept");
    },
  );
}

/** For commands that begin where an earlier one of them was stopped. */
export const GOES_ON = { goesOn: true } as const;
/** For those of them that keep a safe point when a batch system asks for it. */
export const PAUSES = { goesOn: true, pauses: true } as const;

/** A command that another one started ends with that one, also when that was killed: the channel to it is then gone. */
export function endWithParent(): void {
  process.once("disconnect", () => process.exit(INTERRUPTED));
  process.channel?.unref();
}

export const backendOption = () =>
  new Option("--backend <name>", "what computes; the best there is by default").choices(BACKENDS);

export const workersOption = () =>
  new Option("--workers <number>", "runs at once; one per core by default").argParser(wholeNumber);

export const partOption = () =>
  new Option(
    "--part <i/n>",
    "the i-th of n shares of the runs, on any machine that sees the folder; again without it: the table",
  );

/** Options of a run besides T and its folder, which the runs of a sweep share. */
export function withRunOptions(command: Command): Command {
  const run = command
    .option("--model <folder>", "a Hugging Face LLaMA folder; the project's own by default")
    .option("--data <file>", "records to edit; the project's own by default")
    .option("--limit <number>", "use the first records only", wholeNumber)
    .addOption(
      new Option("--when <when>", "when a record is scored").choices(["after-all", "after-each"]).default("after-all"),
    );
  withScoringOptions(run)
    .addOption(new Option("--target-stop <stop>", "trained behind every target").choices(TARGET_STOPS))
    .option("--irrelevant <file>", "irrelevant prompts that the router trains on")
    .option("--method <name>", "editing method", "wise")
    .option("--hparams <file>", "hyperparameters, a YAML file of the released form")
    .option("--preset <name>", "hyperparameters that come with the project (data/hparams)")
    .option("--set <key=value>", "one hyperparameter, over the file; may be repeated", collect);
  return withMachineOptions(run);
}

/** Options of what records are scored by. */
export function withScoringOptions(command: Command): Command {
  return command
    .option("--metrics <names>", "what to score by, as teacher-forced,free-em; teacher-forced by default", names)
    .addOption(new Option("--prompt-context <form>", "of questions that are answered freely").choices(CONTEXTS))
    .addOption(new Option("--free-routing <when>", "when edits decide who writes a free answer").choices(ROUTINGS))
    .option("--max-new-tokens <number>", "of a free answer; 50 by default", wholeNumber)
    .option(
      "--judge <command>",
      "says A or B of a free answer, for free-judge: JSON with question, gold, answer on its input",
    )
    .option("--unedited <number>", "facts that nobody edits, scored with every record", wholeNumber)
    .option("--unedited-items <file>", "such facts: {prompt, answer, group}; those of the project's world by default");
}

/** Options of what computes, and in how much room. */
export function withMachineOptions(command: Command): Command {
  return command
    .addOption(backendOption())
    .option("--fast-math", "products of numbers rounded to bf16, where the processor is faster with them; native only")
    .addOption(
      new Option("--weights <where>", "in memory whole, or streamed through it").choices(["auto", "whole", "streamed"]),
    )
    .addOption(new Option("--precision <precision>", "of the weights in memory").choices(["float32", "bf16"]))
    .option("--verify", "hash the model's files again, which else is done when their size or times have changed")
    .option("--cache <folder>", "keeps the frozen part of a model between runs; the user's cache folder by default")
    .option("--no-cache", "computes it again in every run")
    .option("--cache-size <gigabytes>", "that the cache may take; 20 by default", gigabytes)
    .option(
      "--gpu-memory <gigabytes>",
      "that tensors may take on the graphics card; not checked by default",
      gigabytes,
    );
}

import { execFileSync } from "node:child_process";
import { errorText } from "../core/errors.js";

/**
 * Asks Slurm to queue this task again, when SIGUSR2 said that its time is nearly up. Not on SIGTERM: a task that is
 * cancelled shall end, and Slurm itself requeues one that it preempts. The task of an array has a number beside the
 * array's; with the array's alone, all of it would be started again.
 */
export async function requeueTask({ reason }: AbortSignal): Promise<void> {
  const { SLURM_JOB_ID: job, SLURM_ARRAY_JOB_ID: array, SLURM_ARRAY_TASK_ID: task } = process.env;
  if (reason !== "SIGUSR2" || job === undefined) return;
  const id = array === undefined ? job : `${array}_${task}`;
  try {
    execFileSync("scontrol", ["requeue", id], { stdio: "pipe" });
    console.error(`queued again: ${id}`);
  } catch (error) {
    console.error(`Slurm does not queue ${id} again (${errorText(error).trim()}): scontrol requeue ${id}`);
  }
}

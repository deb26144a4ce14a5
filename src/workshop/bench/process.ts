import { type ChildProcessWithoutNullStreams, spawnSync } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { z } from "zod";
import { startChild } from "../../core/child.js";
import { LabFailure, throwIfAborted } from "../../core/errors.js";
import type { Question } from "./protocol.js";

/** A contestant's process. It works only between a question and its answer. */
export interface BenchProcess<Q extends Asked = Question> {
  /** @throws {LabFailure} with what it wrote last, when it ends instead of answering; {Interrupted} */
  ask<T>(question: Q, schema: z.ZodType<T>): Promise<T>;
  /** Ends it. */
  stop(): void;
}

/** Any question of a protocol. */
type Asked = { ask: string };

const fileAt = (path: string) => fileURLToPath(new URL(`../../../${path}`, import.meta.url));

/** Starts a contestant on TensorFlow.js. @param program its file in src/workshop/bench */
export function startWorker<Q extends Asked = Question>(
  name: string,
  signal?: AbortSignal,
  program = "worker",
): BenchProcess<Q> {
  return startProcess({ name, command: process.execPath, args: [fileAt(`dist/workshop/bench/${program}.js`)] }, signal);
}

/** Starts the reference in PyTorch. @param program its file in scripts */
export function startReference<Q extends Asked = Question>(
  name: string,
  signal?: AbortSignal,
  program = "bench-reference",
): BenchProcess<Q> {
  return startProcess({ name, command: python(), args: [fileAt(`scripts/${program}.py`)] }, signal);
}

/** Why there is no reference on this machine; null where there is one. */
export function referenceMissing(): string | null {
  const found = spawnSync(python(), ["-c", FIND_PACKAGES]).status === 0;
  return found ? null : "no Python with torch and transformers (python3, or the one that WISE_LAB_PYTHON names)";
}

/** Looks for the packages without loading them, which takes seconds. */
const FIND_PACKAGES = `
from importlib.util import find_spec
raise SystemExit(not all(map(find_spec, ["torch", "transformers"])))`;

function python(): string {
  return process.env.WISE_LAB_PYTHON ?? "python3";
}

function startProcess<Q extends Asked>(
  { name, command, args }: { name: string; command: string; args: string[] },
  signal: AbortSignal | undefined,
): BenchProcess<Q> {
  let ended: string | null = null;
  let hear: (answer: string | null) => void = () => {};
  const child = startChild([command, ...args], { stdio: "pipe", signal }, (problem) => {
    ended = problem ?? "ended by status 0";
    hear(null);
  }) as ChildProcessWithoutNullStreams;
  child.stdin.on("error", () => {}); // it reads no more: its end tells why
  createInterface({ input: child.stdout }).on("line", (line) => {
    if (line.startsWith("{")) hear(line); // libraries may print other things
  });

  return {
    async ask(question, schema) {
      const answer = await new Promise<string | null>((resolve) => {
        hear = resolve;
        if (ended === null) child.stdin.write(`${JSON.stringify(question)}\n`);
        else resolve(null);
      });
      throwIfAborted(signal, "the benchmark");
      if (answer === null) throw new LabFailure(`${name} ended when it was asked to ${question.ask}: ${ended}`);
      return schema.parse(JSON.parse(answer));
    },
    stop: () => void child.kill("SIGKILL"),
  };
}

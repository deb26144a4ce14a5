import { spawn } from "node:child_process";
import { RefusedInput } from "../core/errors.js";

/** A free answer to be judged. */
export interface ToJudge {
  question: string;
  gold: string;
  answer: string;
}

/** Tells whether free answers are right. */
export type Judge = (one: ToJudge) => Promise<boolean>;

/**
 * A judge that is a command of the user's own, run by the shell once for each different answer: it reads
 * {"question", "gold", "answer"} as JSON from its input, and writes A for right or B for wrong.
 */
export function judgeOf(command: string): Judge {
  const known = new Map<string, Promise<boolean>>();
  return (one) => {
    const key = JSON.stringify(one);
    const verdict = known.get(key) ?? verdictOf(command, key);
    known.set(key, verdict);
    return verdict;
  };
}

async function verdictOf(command: string, input: string): Promise<boolean> {
  const { status, stdout, stderr } = await runShell(command, input);
  const said = stdout.trim();
  if (status === 0 && (said === "A" || said === "B")) return said === "A";
  throw new RefusedInput("the judge gave no verdict", {
    where: `--judge ${command}`,
    found: status === 0 ? said : `status ${status}: ${stderr.trim()}`,
    expected: 'A for a right answer or B for a wrong one, to {"question", "gold", "answer"} on its input',
  });
}

function runShell(command: string, input: string): Promise<{ status: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, { shell: true });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, stdout, stderr }));
    child.stdin.on("error", () => {}); // it may answer without reading
    child.stdin.end(input);
  });
}

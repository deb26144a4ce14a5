import { arch, availableParallelism, cpus, platform } from "node:os";
import { z } from "zod";
import { readJsonFile } from "../core/files.js";
import type { BackendReport } from "../tensor/backend.js";
import { backendText } from "../tensor/names.js";
import { mathText } from "../tensor/native-math.js";
import { tf } from "../tensor/tf.js";
import { projectFile } from "./inputs.js";

/** Software and hardware that computed a run, beyond its protocol. Any of it may change the last bits of a float. */
export interface Environment {
  wiseLab: string;
  node: string;
  tensorflowJs: string;
  /** Backend: name, version, device, number of threads, and settings of its products that are not the default. */
  backend: string;
  platform: string;
  processor: string;
}

/** An environment, and the number of edits that had been made when it took over. */
export interface EnvironmentChange extends Environment {
  fromEdit: number;
}

export const environmentSchema: z.ZodType<EnvironmentChange> = z.object({
  fromEdit: z.number().int().nonnegative(),
  wiseLab: z.string(),
  node: z.string(),
  tensorflowJs: z.string(),
  backend: z.string(),
  platform: z.string(),
  processor: z.string(),
});

/** The environment of this process. */
export async function environmentOf(backend: BackendReport): Promise<Environment> {
  const { version } = (await readJsonFile(projectFile("package.json"))) as { version: string };
  const threads = `${backend.threads} thread${backend.threads === 1 ? "" : "s"}`;
  return {
    wiseLab: version,
    node: process.version,
    tensorflowJs: tf.version.tfjs,
    backend: `${backendText(backend)}, ${threads}${mathText(backend)}`,
    platform: `${platform()} ${arch()}`,
    processor: `${cpus()[0]?.model.trim() || "unknown"}, ${availableParallelism()} cores`,
  };
}

/** The fields in which an environment differs from the one before, in words; empty when in none. */
export function environmentChanges(before: Environment, now: Environment): string[] {
  const keys = Object.keys(now) as (keyof Environment)[];
  return keys.filter((key) => before[key] !== now[key]).map((key) => `${key}: ${now[key]}, before ${before[key]}`);
}

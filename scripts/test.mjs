// npm test: sets up, then runs every test. Arguments go to vitest: npm test -- tests/core
//   npm test -- fast   what ends within a minute: the parts that need no run of a command, browser or kernel
import { handOver, setUp } from "./setup.mjs";

const FAST = [
  "tests/core",
  "tests/data",
  "tests/eval",
  "tests/edit/wise",
  "tests/edit/promise",
  "tests/architecture",
  "tests/model/config",
  "tests/model/safetensors",
  "tests/run/blocks",
  "tests/run/summary",
  "tests/tables/format",
  "tests/tables/tables",
  "tests/tables/latex",
];

setUp();
const args = process.argv.slice(2).flatMap((arg) => (arg === "fast" ? FAST : [arg]));
handOver("node_modules/vitest/vitest.mjs", "run", "--config", "tests/vitest.config.ts", ...args);

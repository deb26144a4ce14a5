// npm test: sets up, then runs every test. Arguments go to vitest: npm test -- tests/core
import { handOver, setUp } from "./setup.mjs";

setUp();
handOver("node_modules/vitest/vitest.mjs", "run", "--config", "tests/vitest.config.ts", ...process.argv.slice(2));

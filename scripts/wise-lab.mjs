// npm start, npm run study, npm run lab:train: sets up, then runs the command line with the words that follow.
import { handOver, setUp } from "./setup.mjs";

setUp();
handOver("dist/cli.js", ...process.argv.slice(2));

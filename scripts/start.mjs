// npm start: sets up, then runs both notebooks on the committed tiny model and prints the table.
import { handOver, setUp } from "./setup.mjs";

setUp();
handOver("dist/cli.js", "start", ...process.argv.slice(2));

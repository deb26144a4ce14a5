import { once } from "node:events";
import { type LabOptions, openLab } from "./lab.js";
import type { RunRequest } from "./request.js";

/*
 * A process that makes one run of a sweep. It ends when the one that started it is gone. It has no signal handlers, for the
 * reason that hand.ts gives.
 */

/** The one message to it. */
export interface PointTask {
  lab: LabOptions;
  request: RunRequest;
}

process.once("disconnect", () => process.exit());
try {
  const [{ lab: options, request }] = (await once(process, "message")) as [PointTask];
  const lab = await openLab({ ...options, planFor: request });
  await lab.run(request);
  lab.close();
  process.exit(); // the channel is still open
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}

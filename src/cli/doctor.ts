import { doctor } from "../doctor/doctor.js";
import { renderDoctor } from "../doctor/render.js";
import type { BackendName } from "../tensor/backend.js";

/** `wise-lab doctor`. @returns the exit status */
export async function doctorCommand(options: {
  markdown?: boolean;
  json?: boolean;
  backend?: BackendName;
}): Promise<number> {
  const report = await doctor(options.backend === undefined ? {} : { backend: options.backend });
  console.log(
    options.json ? JSON.stringify(report, null, 2) : renderDoctor(report, options.markdown ? "markdown" : "text"),
  );
  return 0;
}

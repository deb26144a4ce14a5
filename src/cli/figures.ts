import { relative } from "node:path";
import { redrawFigures } from "../figures/export.js";
import { projectFile } from "../run/inputs.js";

/** `wise-lab figures redraw`: draws the figures of a folder anew from their JSON. @returns the exit status */
export async function redrawCommand(folder: string = projectFile("figures")): Promise<number> {
  const { files, steppedDown } = await redrawFigures(folder);
  if (steppedDown !== null) console.error(steppedDown);
  for (const file of files) console.log(relative(process.cwd(), file));
  return 0;
}

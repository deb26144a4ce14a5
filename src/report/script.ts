import { join } from "node:path";
import { readText } from "../core/files.js";
import { projectFile } from "../run/inputs.js";

/** The compiled modules of a report's script, each after those it imports from. */
const MODULES = ["html", "filter", "charts", "pack", "view", "list", "app"] as const;

/**
 * The script of a report as one text. A page that is opened from a disk cannot import modules from files, so that their
 * imports of each other are left out and they share one scope: a name at their top level belongs to one of them.
 * @throws {RefusedInput} when the project was not compiled
 */
export async function pageScript(): Promise<string> {
  const folder = projectFile("dist/report/app");
  const texts = await Promise.all(MODULES.map((name) => readText(join(folder, `${name}.js`))));
  return texts.map(withoutModuleSyntax).join("");
}

function withoutModuleSyntax(text: string): string {
  return text
    .replace(/^import [^;]*? from "\.\/[a-z]+\.js";\n/gm, "")
    .replace(/^export (?=(async )?(const|function) )/gm, "")
    .replace(/^export \{\};\n/gm, "")
    .replace(/^\/\/# sourceMappingURL=.*\n?/gm, "");
}

import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Root folder of the repository. */
export const repository = fileURLToPath(new URL("../..", import.meta.url));

/** Folder of the committed golden vectors. */
export const golden = join(repository, "tests/fixtures/golden");

/** Folder of those of the editing methods beside WISE. */
export const goldenMethods = join(repository, "tests/fixtures/golden-methods");

/** The folder with the full data sets beside the repository, or null where it is not there. */
export function sharedFolder(): string | null {
  const folder = join(repository, "../shared");
  return existsSync(join(folder, "data")) ? folder : null;
}

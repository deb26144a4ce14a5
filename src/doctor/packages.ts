import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** One direct dependency. */
export interface PackageFacts {
  name: string;
  /** Version in package-lock.json. */
  locked: string;
  /** Version in node_modules; null where it is not installed. */
  installed: string | null;
  optional: boolean;
}

interface Manifest {
  version?: string;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
}

/** The direct dependencies of the project in `root`, in alphabetical order; those that lie in the project itself left out. */
export function readPackages(root: string): PackageFacts[] {
  const manifest = readJson<Manifest>(join(root, "package.json"));
  const lock = readJson<{ packages: Record<string, Manifest> }>(join(root, "package-lock.json"));
  const { dependencies = {}, optionalDependencies = {}, devDependencies = {} } = manifest;
  const names = [dependencies, optionalDependencies, devDependencies].flatMap(Object.keys);
  return names.sort().flatMap((name) => {
    const locked = lock.packages[`node_modules/${name}`]?.version;
    if (locked === undefined) return []; // a link into the project
    const file = join(root, "node_modules", name, "package.json");
    return {
      name,
      locked,
      installed: existsSync(file) ? (readJson<Manifest>(file).version ?? null) : null,
      optional: name in optionalDependencies,
    };
  });
}

function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, "utf8")) as T;
}

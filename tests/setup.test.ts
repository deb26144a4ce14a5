import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { repository } from "./support/shared.js";

interface LockedPackage {
  link?: boolean;
  resolved?: string;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

const lock = JSON.parse(readFileSync(join(repository, "package-lock.json"), "utf8")) as {
  packages: Record<string, LockedPackage>;
};

describe("package-lock.json", () => {
  it("holds every dependency for every system, so that npm ci accepts it", () => {
    const missing = Object.entries(lock.packages).flatMap(([path, { dependencies, optionalDependencies }]) =>
      Object.keys({ ...dependencies, ...optionalDependencies })
        .filter((name) => !isLocked(name, path))
        .map((name) => `${path || "the project"} needs ${name}`),
    );
    expect(missing).toEqual([]);
  });

  it("names no registry", () => {
    const hosts = Object.values(lock.packages).filter(({ resolved }) => resolved?.includes("//"));
    expect(hosts).toEqual([]);
  });

  /** As Node resolves: in the package's own node_modules, then in those above. */
  function isLocked(name: string, from: string): boolean {
    if (`${from && `${from}/`}node_modules/${name}` in lock.packages) return true;
    if (from === "") return false;
    return isLocked(name, from.slice(0, Math.max(0, from.lastIndexOf("/node_modules/"))) || "");
  }
});

describe("set-up", () => {
  let project: string;
  const npmCalls = () => JSON.parse(readFileSync(join(project, "npm-calls.json"), "utf8"));

  beforeEach(() => {
    project = mkdtempSync(join(tmpdir(), "wise-lab-setup-"));
    for (const folder of ["scripts", "src", "node_modules"]) mkdirSync(join(project, folder));
    cpSync(join(repository, "scripts/setup.mjs"), join(project, "scripts/setup.mjs"));
    symlinkSync(join(repository, "node_modules/typescript"), join(project, "node_modules/typescript"));
    writeFileSync(join(project, "package-lock.json"), "{}");
    writeFileSync(join(project, "package.json"), `{ "type": "module" }`);
    const compilerOptions = { outDir: "dist", rootDir: "src", target: "es2022", lib: ["es5"], types: [], strict: true };
    writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["src"] }));
    writeFileSync(join(project, "src/index.ts"), "export const answer: number = 1;\n");
    // Stands where npm stands: notes how it is called.
    writeFileSync(
      join(project, "npm-cli.js"),
      `import { mkdirSync, writeFileSync } from "node:fs";
       mkdirSync("node_modules", { recursive: true });
       writeFileSync("npm-calls.json", JSON.stringify(process.argv.slice(2)));`,
    );
  });
  afterEach(() => rmSync(project, { recursive: true }));

  function setUp(before = ""): { status: number | null; output: string } {
    const script = `${before}; const { setUp } = await import(${JSON.stringify(join(project, "scripts/setup.mjs"))}); setUp();`;
    const { status, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
      cwd: project,
      encoding: "utf8",
      env: { ...process.env, npm_execpath: join(project, "npm-cli.js") },
    });
    return { status, output: stdout + stderr };
  }

  function markInstalled(): void {
    const sha256 = createHash("sha256").update("{}").digest("hex");
    writeFileSync(join(project, "node_modules/.wise-lab-setup"), sha256);
  }

  it("compiles once, again after a change, and is silent in between", () => {
    markInstalled();
    expect(setUp()).toEqual({ status: 0, output: "[set-up] compiling ...\n" });
    expect(existsSync(join(project, "dist/index.js"))).toBe(true);
    expect(setUp()).toEqual({ status: 0, output: "" });
    const later = new Date(Date.now() + 5000);
    utimesSync(join(project, "src/index.ts"), later, later);
    expect(setUp().output).toBe("[set-up] compiling ...\n");
  });

  it("ends with the compiler's words when the code does not compile, and tries again next time", () => {
    markInstalled();
    writeFileSync(join(project, "src/index.ts"), `export const answer = ;\n`);
    for (const attempt of [1, 2]) {
      const { status, output } = setUp();
      expect({ attempt, status }).toEqual({ attempt, status: 1 });
      expect(output).toContain("TS1109");
    }
  });

  it("installs as locked when there are no packages", () => {
    rmSync(join(project, "node_modules"), { recursive: true });
    expect(setUp().output).toContain("installing packages");
    expect(npmCalls()[0]).toBe("ci");
  });

  it("updates packages in place when the lock has changed, so that a native binding survives", () => {
    markInstalled();
    writeFileSync(join(project, "package-lock.json"), "{ }");
    expect(setUp()).toMatchObject({ status: 0, output: expect.stringContaining("installing packages") });
    expect(npmCalls()[0]).toBe("install");
    expect(setUp().output).toBe("");
  });

  it("says which Node it needs", () => {
    const { status, output } = setUp(`Object.defineProperty(process.versions, "node", { value: "20.18.1" })`);
    expect(status).toBe(1);
    expect(output).toMatch(/needs Node 20\.19 or newer; this is Node 20\.18\.1/);
  });
});

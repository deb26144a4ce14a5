import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readModels } from "../src/doctor/files.js";
import { readPackages } from "../src/doctor/packages.js";
import { repository } from "./support/shared.js";

describe("environment.md", () => {
  const page = readFileSync(join(repository, "environment.md"), "utf8");
  const facts = /<!-- doctor: begin -->([\s\S]*)<!-- doctor: end -->/.exec(page)?.[1] ?? "";

  /** Rows of one table of the block, by their first cell. */
  function table(title: string): Record<string, string> {
    const section = facts.split("### ").find((text) => text.startsWith(`${title}\n`)) ?? "";
    const rows = [...section.matchAll(/^\| (.+?) \| (.+) \|$/gm)].filter(([, label]) => label !== "---");
    return Object.fromEntries(rows.map(([, label, value]) => [label, value]));
  }

  it("has the package versions of the lock file", () => {
    const locked = readPackages(repository).map(({ name, locked: version }) => [name, version]);
    expect(locked.length).toBeGreaterThan(10);
    expect(table("Packages")).toEqual(Object.fromEntries(locked));
  });

  it("has the hashes of the committed models", async () => {
    const models = await readModels(join(repository, "data"));
    expect(table("Models")).toEqual(Object.fromEntries(models.map(({ name, sha256 }) => [name, `sha256 ${sha256}`])));
  });

  it("says on which machine, Node and backend, and how fast", () => {
    expect(Object.keys(table("Machine"))).toEqual(["System", "CPU", "Memory", "GPU", "Backend", "Measured"]);
    expect(table("Programs").Node).toMatch(/^\d+\.\d+\.\d+$/);
  });
});

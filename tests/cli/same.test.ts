import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { temporaryFolder } from "../model/support.js";
import { bytesOfRun, QUICK, TINY_MODEL, TINY_RECORDS, wiseLab } from "../run/support.js";

vi.setConfig({ testTimeout: 240_000 }); // processes of their own, on a busy machine

/** Every file of a folder by its name. */
async function bytesIn(folder: string): Promise<Record<string, string>> {
  const names = (await readdir(folder)).sort();
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name), "latin1")] as const)),
  );
}

async function succeed(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await wiseLab(...args);
  expect(status, stderr).toBe(0);
  return stdout;
}

test("two processes make the same run, and write the same tables, curves and report of it", async () => {
  const folder = await temporaryFolder();
  const set = QUICK.flatMap((setting) => ["--set", setting]);
  const args = [
    "run",
    "--model",
    TINY_MODEL,
    "--data",
    TINY_RECORDS,
    "--T",
    "2",
    "--limit",
    "4",
    "--metrics",
    "free-em",
  ];
  const [first, second] = [join(folder, "first"), join(folder, "second")];
  for (const out of [first, second]) await succeed(...args, ...set, "--save-edits", "--processes", "1", "--out", out);
  expect(await bytesOfRun(second)).toEqual(await bytesOfRun(first));

  const results: Record<string, string>[] = [];
  for (const name of ["one", "two"]) {
    const out = join(folder, name);
    for (const format of ["text", "markdown", "csv", "latex"]) {
      await succeed("table", first, "--format", format, "--out", join(out, `table.${format}`));
    }
    await succeed("report", first, "--out", join(out, "report.html"));
    await succeed("explore", "router", first, "--points", "21", "--csv", join(out, "curves.csv"));
    results.push(await bytesIn(out));
  }
  expect(Object.keys(results[0] ?? {})).toHaveLength(6);
  expect(results[1]).toEqual(results[0]);
});

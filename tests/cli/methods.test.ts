import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { methodsCommand } from "../../src/cli/methods.js";
import { methods } from "../../src/edit/registry.js";
import { methodsPage } from "../../src/tables/methodsPage.js";
import { refusal } from "../model/support.js";
import { repository } from "../support/shared.js";

/** Text that the command prints. */
async function printed(...args: Parameters<typeof methodsCommand>): Promise<string> {
  const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  onTestFinished(() => write.mockRestore());
  write.mockClear();
  expect(await methodsCommand(...args)).toBe(0);
  return write.mock.calls.map(([text]) => text).join("");
}

test("wise-lab methods names every method, what it does and where it comes from", async () => {
  const text = await printed();
  for (const { name, title, about, source } of Object.values(methods)) {
    expect(text).toMatch(
      new RegExp(
        `^${name} +${title}: ${about.replaceAll(/[.()]/g, ".")}\\n +${source.replaceAll(/[.()]/g, ".")}\\n +needs `,
        "m",
      ),
    );
  }
});

test("with a name it gives the options and presets of that method", async () => {
  for (const [name, { options, presets }] of Object.entries(methods)) {
    const text = await printed(name);
    for (const key of [...Object.keys(options), "seed"]) expect(text).toMatch(new RegExp(`^${key} \\(.+\\)$`, "m"));
    for (const preset of Object.keys(presets)) expect(text).toMatch(new RegExp(`^${preset} `, "m"));
  }
});

test("--markdown gives the whole page, and a name that is none is refused", async () => {
  expect(await printed(undefined, { markdown: true })).toBe(await methodsPage());
  expect((await refusal(() => methodsCommand("wsie"))).hint).toBe("wise");
});

test("--method NAME --help shows the options of the method behind those of the command", async () => {
  const cli = join(repository, "dist", "cli.js");
  for (const args of [
    ["--method", "grace", "--help"],
    ["--help", "--method=grace"],
  ]) {
    const { stdout, status } = spawnSync(process.execPath, [cli, "run", ...args], { encoding: "utf8" });
    expect(status).toBe(0);
    expect(stdout.indexOf("--keep-every")).toBeLessThan(stdout.indexOf("eps_ratio (1)"));
  }
  const { stderr, status } = spawnSync(process.execPath, [cli, "run", "--help", "--method", "grase"], {
    encoding: "utf8",
  });
  expect(status).toBe(1);
  expect(stderr).toContain("try: grace");
});

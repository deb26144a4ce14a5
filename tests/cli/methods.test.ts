import { expect, onTestFinished, test, vi } from "vitest";
import { methodsCommand } from "../../src/cli/methods.js";
import { methods } from "../../src/edit/registry.js";
import { methodsPage } from "../../src/report/methodsPage.js";
import { refusal } from "../model/support.js";

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
    expect(text.split("\n").some((line) => [name, title, about, source].every((part) => line.includes(part)))).toBe(
      true,
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
  expect(await printed(undefined, { markdown: true })).toBe(methodsPage());
  expect((await refusal(() => methodsCommand("wsie"))).hint).toBe("wise");
});

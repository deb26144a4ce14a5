import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { installKernel } from "../../src/notebook/kernelspec.js";
import { readNotebook, writeNotebook } from "../../src/notebook/nbformat.js";
import { injectParameters } from "../../src/notebook/parameters.js";
import { runNotebook } from "../../src/notebook/run.js";
import { requires } from "../support/requires.js";
import { repository } from "../support/shared.js";
import { errorOf, plainText, printed, readCells, scratchFolder, writeCells } from "./support.js";

const folder = scratchFolder();

/** The Python that runs this machine's Jupyter: the first line of its program names it. */
function jupyterPython(): string {
  const programs = (process.env.PATH ?? "").split(delimiter).map((place) => join(place, "jupyter"));
  const program = programs.find((path) => existsSync(path)) ?? "";
  const first = readFileSync(program, "utf8").split("\n")[0] ?? "";
  return first.startsWith("#!") && !first.includes("env") ? first.slice(2).trim() : "python3";
}

describe.runIf(requires("jupyter"))("a real Jupyter", () => {
  let environment: NodeJS.ProcessEnv;
  beforeAll(async () => {
    const data = join(await folder(), "data");
    await mkdir(data, { recursive: true });
    process.env.JUPYTER_DATA_DIR = data; // this file has a process of its own
    await installKernel();
    environment = { ...process.env, JUPYTER_DATA_DIR: data };
  });

  const python = (script: string, ...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(jupyterPython(), ["-c", script, ...args], {
      env: environment,
      encoding: "utf8",
    });
    expect(status, stderr).toBe(0);
    return stdout;
  };

  const nbconvert = async (path: string, ...flags: string[]) => {
    const where = ["--output", "done.ipynb", "--output-dir", await folder()];
    return spawnSync("jupyter", ["nbconvert", "--to", "notebook", "--execute", ...where, ...flags, path], {
      env: environment,
      encoding: "utf8",
    });
  };

  it("lists the kernel", () => {
    const script = "from jupyter_client.kernelspec import find_kernel_specs; print(*find_kernel_specs())";
    expect(python(script)).toContain("wise-lab");
  });

  it("executes: 20,000 lines whole, an error with name, message and line, the next cell runs", async () => {
    const path = await writeCells(join(await folder(), "cells.ipynb"), [
      'for (let i = 0; i < 20_000; i++) console.log("line " + i);',
      'import { displayTable } from "wise-lab";\ndisplayTable([{ T: 1 }]);',
      'const shape = 1;\n\nthrow new RangeError("too large");',
      '"next"',
    ]);
    const stopped = await nbconvert(path);
    expect(stopped.status).not.toBe(0);
    expect(stopped.stderr).toMatch(/RangeError: too large[\s\S]*cell 3, line 3, column 7/);
    const allowed = await nbconvert(path, "--allow-errors");
    expect(allowed.status, allowed.stderr).toBe(0);
    const cells = await readCells(join(await folder(), "done.ipynb"));
    expect(printed(cells[0])).toBe(Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`).join(""));
    expect(plainText(cells[1])).toBe("T\n-\n1");
    expect(errorOf(cells[2])).toMatchObject({ ename: "RangeError", evalue: "too large" });
    expect(plainText(cells[3])).toBe("'next'");
    expect(cells.map((cell) => cell.execution_count)).toEqual([1, 2, 3, 4]);
  }, 180_000);

  // Fewer edits than the notebook makes by default: npm start makes those, and Jupyter does not care how many they are.
  it.each([
    ["01-one-edit", {}, 2],
    ["02-t-rollback", { settings: "n_iter=2", limit: 2, Ts: "1 all" }, 6],
    ["03-llama-3-8b-results", {}, 2],
  ])(
    "executes %s of the project, given %j, with %i pictures",
    async (name, parameters, pictures) => {
      const source = join(repository, "notebooks", `${name}.ipynb`);
      const path = join(await folder(), `${name}.ipynb`);
      await writeNotebook(path, injectParameters(await readNotebook(source), parameters, source));
      const done = await nbconvert(path);
      expect(done.status, done.stderr).toBe(0);
      const cells = await readCells(join(await folder(), "done.ipynb"));
      expect(cells.flatMap(({ outputs }) => outputs).filter((output) => output.output_type === "error")).toEqual([]);
      expect(
        cells.filter(({ outputs }) => outputs.some((output) => "data" in output && "image/png" in output.data)),
      ).toHaveLength(pictures);
    },
    300_000,
  );

  it("interrupts a long awaited loop within a second, and the kernel lives", () => {
    const [waited, name, after] = JSON.parse(python(INTERRUPT_SCRIPT)) as [number, string, string];
    expect(name).toBe("Interrupted");
    expect(waited).toBeLessThan(1);
    expect(after).toBe("42");
  }, 180_000);

  it("finds the notebooks written here valid, and would write the same bytes", async () => {
    const path = await writeCells(join(await folder(), "valid.ipynb"), [
      'console.log("é");\n({ a: 1 })',
      'throw new Error("x");',
    ]);
    const { output } = await runNotebook(path);
    const check =
      "import nbformat, sys; n = nbformat.read(sys.argv[1], 4); nbformat.validate(n); sys.stdout.write(nbformat.writes(n) + '\\n')";
    expect(python(check, output)).toBe(await readFile(output, "utf8"));
  }, 180_000);
});

const INTERRUPT_SCRIPT = `
import json, time
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name="wise-lab", startup_timeout=120)
def reply_to(request):
    while True:
        message = client.get_shell_msg(timeout=60)
        if message["parent_header"].get("msg_id") == request:
            return message["content"]
def run(code, interrupt_after=None):
    request = client.execute(code)
    if not interrupt_after:
        return reply_to(request), None
    while client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
        pass
    time.sleep(interrupt_after)
    manager.interrupt_kernel()
    sent = time.time()
    return reply_to(request), time.time() - sent
run('import { interruptSignal } from "wise-lab"; const answer = 41;')
reply, waited = run('console.log(1); const s = interruptSignal(); for (;;) { s.throwIfAborted(); await new Promise((r) => setTimeout(r, 10)); }', 0.5)
client.execute("answer + 1")
result = None
while result is None:
    message = client.get_iopub_msg(timeout=60)
    if message["msg_type"] == "execute_result":
        result = message["content"]["data"]["text/plain"]
print(json.dumps([waited, reply["ename"], result]))
manager.shutdown_kernel()
client.stop_channels()
`;

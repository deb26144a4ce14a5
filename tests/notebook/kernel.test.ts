import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type * as TypeScript from "typescript";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { isRunning } from "../../src/core/child.js";
import { KernelClient, newConnection } from "../../src/notebook/client.js";
import { kernelCommand } from "../../src/notebook/kernelspec.js";
import type { Message } from "../../src/notebook/wire.js";
import { temporaryFolder } from "../model/support.js";
import { TINY_MODEL } from "../run/support.js";
import { repository } from "../support/shared.js";

vi.setConfig({ testTimeout: 180_000 });

let kernel: KernelClient;
beforeAll(async () => {
  kernel = await KernelClient.start(tmpdir());
}, 180_000);
afterAll(() => kernel.close());

/**
 * Runs a cell; with `interruptAfter` it is interrupted that many milliseconds after its first print.
 * Tells the reply, its messages and the milliseconds from the interrupt to the end.
 */
async function execute(
  code: string,
  { interruptAfter, stopOnError = true }: { interruptAfter?: number; stopOnError?: boolean } = {},
) {
  const messages: Message[] = [];
  let interruptedAt = 0;
  const interrupt = () => {
    interruptedAt = performance.now();
    kernel.interrupt();
  };
  const onOutput = (message: Message) => {
    const isFirstPrint = message.header.msg_type === "stream" && !messages.some((m) => m.header.msg_type === "stream");
    messages.push(message);
    if (isFirstPrint && interruptAfter !== undefined) setTimeout(interrupt, interruptAfter);
  };
  const reply = await kernel.execute(code, { stopOnError, onOutput });
  return { content: reply.content, messages, waited: performance.now() - interruptedAt };
}

describe("a cell that waits outside functions", () => {
  beforeAll(async () => {
    await execute('async function f() { console.log("ran"); return 1; }');
  });

  it.each([
    "await f();",
    "await (f());",
    "await (f)();",
    'await (async () => { console.log("ran"); })();',
    "const one = 1; await (f());",
    "const a = await (f());",
    "const [b] = [await (f())];",
    "let d; d = await (f());",
    "if (true) { await (f()); }",
    "for (const x of [1]) { await (f()); }",
    "for await (const x of [f()]) {}",
    "while (await (f()) > 1) {}",
    "switch (await (f())) { default: }",
    "try { await (f()); } finally {}",
    "label: { await (f()); }",
    "await [f()][0];",
    `await \`\${await f()}\`;`,
    "await +1; await -1; await f();",
    "await /x/; await f();",
    "f(); await\n(f());",
    "void await (f());",
    "!(await (f()));",
    "await (f()), await (f());",
    "await (await f(), f());",
    "await (f() as Promise<number>);",
    "await (f() satisfies Promise<number>);",
    "await <Promise<number>>f();",
    "const g = async () => { await (f()); }; await g();",
  ])("%s", async (code) => {
    const { content, messages } = await execute(code, { stopOnError: false });
    expect(content, String(content.evalue)).toMatchObject({ status: "ok" });
    const printed = messages
      .filter(({ header }) => header.msg_type === "stream")
      .map((message) => message.content.text);
    expect(printed.join("")).toMatch(/^(ran\n)+$/);
  });

  it("and one that waits only within them has its value at once", async () => {
    const { messages } = await execute("const late = async () => { await (f()); };\n7");
    expect(messages.at(-1)?.content.data).toEqual({ "text/plain": "7" });
  });
});

describe("an interrupt", () => {
  it("stops a loop that takes the cell's signal within a second, awaited in whatever way", async () => {
    await execute('import { interruptSignal } from "wise-lab";');
    const pauses = ["new Promise((r) => setTimeout(r, 20))", "Promise.resolve(1)"];
    for (const pause of pauses) {
      const code = `console.log(1); const s = interruptSignal(); for (;;) { s.throwIfAborted(); await ${pause}; }`;
      const { content, waited } = await execute(code, { interruptAfter: 500 });
      expect(content).toMatchObject({ status: "error", ename: "Interrupted" });
      expect(waited).toBeLessThan(1000);
    }
  });

  it("stops a running edit within a second and leaves no trace of it", async () => {
    const model = JSON.stringify(TINY_MODEL);
    await execute(`import { openLab } from "wise-lab";\nconst lab = await openLab({ model: ${model} });`);
    const fact = '{ prompt: "In which city was Tadeo Quill born?", target: "Oslo" }';
    const code = `console.log(1); for (;;) { lab.rollback(); await lab.edit(${fact}, { signal: interruptSignal() }); }`;
    const { content, waited } = await execute(code, { interruptAfter: 3000 });
    expect(content).toMatchObject({ status: "error", ename: "Interrupted" });
    expect(waited).toBeLessThan(1000);
    const { messages } = await execute("lab.edits");
    expect(messages.at(-1)?.content.data).toEqual({ "text/plain": "0" });
  });

  it("leaves an awaited loop that takes no signal within a second", async () => {
    const code = "console.log(1); for (let i = 0; i < 40; i++) await new Promise((r) => setTimeout(r, 50));";
    const { content, waited } = await execute(code, { interruptAfter: 300 });
    expect(content).toMatchObject({ ename: "Interrupted", evalue: expect.stringContaining("still runs") });
    expect(waited).toBeLessThan(1000);
  });

  it("ends even a loop that never awaits, and the kernel lives with its variables", async () => {
    await execute("const kept = 41;");
    for (const pause of ["", "await new Promise((r) => setTimeout(r, 20));"]) {
      const { content, waited } = await execute(`console.log(1); ${pause} for (;;) {}`, { interruptAfter: 500 });
      expect(content).toMatchObject({ ename: "Interrupted", evalue: expect.stringContaining("in the middle") });
      expect(waited).toBeLessThan(8000);
    }
    const { messages } = await execute("await new Promise((r) => setTimeout(r, 20));\nkept + 1");
    expect(messages.at(-1)?.content.data).toEqual({ "text/plain": "42" });
  });

  it("between cells does nothing to the next one", async () => {
    kernel.interrupt();
    const { content } = await execute("await new Promise((r) => setTimeout(r, 300));");
    expect(content.status).toBe("ok");
  });
});

describe("cells sent together", () => {
  const send = (code: string, stopOnError: boolean) => execute(code, { stopOnError });

  it("are aborted behind a failed one", async () => {
    const replies = await Promise.all([
      send("await null; throw new Error('x');", true),
      send("1", true),
      send("2", true),
    ]);
    expect(replies.map(({ content }) => content.status)).toEqual(["error", "aborted", "aborted"]);
    expect((await send("3", true)).content.status).toBe("ok");
  });

  it("run on where errors are allowed", async () => {
    const replies = await Promise.all([send("throw new Error('x');", false), send("1", false)]);
    expect(replies.map(({ content }) => content.status)).toEqual(["error", "ok"]);
  });
});

describe("the editor's questions", () => {
  it("complete and explain names of the package from its declarations", async () => {
    const code = 'import { displayTable } from "wise-lab";\ndisplayTa';
    const { content } = await kernel.ask("complete_request", { code, cursor_pos: code.length });
    expect(content.matches).toContain("displayTable");
    const info = await kernel.ask("inspect_request", { code, cursor_pos: 12, detail_level: 0 });
    expect((info.content.data as Record<string, string>)["text/plain"]).toMatch(
      /function displayTable\(input: [\s\S]*small static table/,
    );
  });

  it("say who the kernel is, whether code is complete, and that there are no widgets", async () => {
    expect(kernel.info).toMatchObject({ implementation: "wise-lab", language_info: { name: "typescript" } });
    expect((await kernel.ask("is_complete_request", { code: "function f() {" })).content.status).toBe("incomplete");
    const comms = await kernel.ask("comm_info_request", {});
    expect([comms.header.msg_type, comms.content.comms]).toEqual(["comm_info_reply", {}]);
  });
});

describe("the declarations of the package", () => {
  it("hold under the TypeScript that notebooks use", () => {
    const entry = join(repository, "dist/index.d.ts");
    expect(existsSync(entry), "build first").toBe(true);
    const load = createRequire(createRequire(import.meta.url).resolve("tslab"));
    const ts = load("@tslab/typescript-for-tslab") as typeof TypeScript;
    const program = ts.createProgram([entry], {
      strict: true,
      noEmit: true,
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.ESNext,
      moduleResolution: ts.ModuleResolutionKind.Bundler,
      lib: ["lib.es2023.d.ts"],
      types: ["node"],
    });
    const ours = program.getSourceFiles().filter(({ fileName }) => fileName.startsWith(join(repository, "dist")));
    const faults = ours.flatMap((file) => [
      ...program.getSyntacticDiagnostics(file),
      ...program.getSemanticDiagnostics(file),
    ]);
    expect(
      faults.map(({ file, messageText }) => `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, " ")}`),
    ).toEqual([]);
  });
});

it("a kernel ends whose client died before it was up", { skip: process.platform === "win32" }, async () => {
  const file = join(await temporaryFolder(), "connection.json");
  await writeFile(file, JSON.stringify(await newConnection()));
  const starting = `
    const env = { ...process.env, JPY_PARENT_PID: String(process.pid) };
    const [program, ...args] = ${JSON.stringify(kernelCommand(file))};
    const kernel = require("node:child_process").spawn(program, args, { env, stdio: "ignore", detached: true });
    console.log(kernel.pid);
    process.exit();`;
  const pid = Number(execFileSync(process.execPath, ["-e", starting], { encoding: "utf8" }));
  await vi.waitFor(() => expect(isRunning(pid)).toBe(false), { timeout: 150_000, interval: 200 });
});

describe("a port that was taken meanwhile", () => {
  it.each(["shell_port", "control_port"] as const)("is answered by another start, on others: %s", async (port) => {
    const taken = createServer();
    taken.listen(0, "127.0.0.1");
    await once(taken, "listening");
    let asked = 0;
    const connect = async () => {
      const free = await newConnection();
      return ++asked === 1 ? { ...free, [port]: (taken.address() as { port: number }).port } : free;
    };
    const second = await KernelClient.start(tmpdir(), connect);
    await second.close();
    taken.close();
    expect(asked).toBe(2);
  });

  it("is told when it is so every time", async () => {
    const taken = createServer();
    taken.listen(0, "127.0.0.1");
    await once(taken, "listening");
    const { port } = taken.address() as { port: number };
    const connect = async () => ({ ...(await newConnection()), shell_port: port });
    await expect(KernelClient.start(tmpdir(), connect)).rejects.toThrow(/the kernel cannot listen: .*in use/i);
    taken.close();
  });
});

import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, cpSync, existsSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { Interrupted, LabFailure } from "../../src/core/errors.js";
import type { RecordScore } from "../../src/eval/types.js";
import { readEnvironments, readRun } from "../../src/run/folder.js";
import { savedEditsFile } from "../../src/run/folder-files.js";
import type { Lab } from "../../src/run/lab.js";
import { type Owner, thisProcess } from "../../src/run/lock.js";
import type { RunProgress } from "../../src/run/pace.js";
import type { RunRequest } from "../../src/run/request.js";
import { errorOf } from "../edit/support.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { asOrdinaryUser } from "../support/ordinary-user.js";
import { requires } from "../support/requires.js";
import { mountSmallDisk } from "../support/small-disk.js";
import { bytesOfRun, openFolderOf, openQuickLab, recordsFile, rewriteSealed } from "./support.js";

const REQUEST = { T: 2, limit: 5 }; // three blocks, the last of one record

let lab: Lab;
let finished: string;
beforeAll(async () => {
  lab = await openQuickLab("n_iter=1");
  finished = await mkdtemp(join(tmpdir(), "wise-lab-run-"));
  await lab.run({ ...REQUEST, out: finished });
});
afterAll(async () => {
  lab.close();
  await rm(finished, { recursive: true });
});

/** A copy of the finished run. */
async function copyOfRun(): Promise<string> {
  const out = join(await temporaryFolder(), "run");
  await cp(finished, out, { recursive: true });
  return out;
}

const lines = async (path: string) => (await readFile(path, "utf8")).split("\n").slice(0, -1);

/** Cuts a file to its first lines and some bytes of the next. */
async function cutTo(path: string, whole: number, more = 0): Promise<void> {
  const kept = (await lines(path)).slice(0, whole).map((line) => `${line}\n`);
  await truncate(path, Buffer.byteLength(kept.join("")) + more);
}

/** Lines that a kill left in each file; in a list, and bytes of the next one. */
type Left = Record<"blocks" | "edits" | "timings" | "scores", number | [number, number]>;

async function leave(out: string, left: Left): Promise<void> {
  for (const [name, lines] of Object.entries(left)) {
    const [whole, more] = typeof lines === "number" ? [lines, 0] : lines;
    await cutTo(join(out, `${name}.jsonl`), whole, more);
  }
}

const ALL: Left = { blocks: 3, edits: 5, timings: 5, scores: 5 };

describe("taken up again, wherever it was cut off, a run gives the same bytes", () => {
  test.each<[string, Left, number]>([
    ["before the first line", { blocks: 0, edits: 0, timings: 0, scores: 0 }, 0],
    ["before the first block ended", { blocks: 0, edits: 2, timings: 2, scores: 2 }, 0],
    ["in the middle of the line that ends a block", { blocks: [1, 7], edits: 4, timings: 4, scores: 4 }, 1],
    ["in the middle of an edit", { blocks: 2, edits: [4, 20], timings: 4, scores: 4 }, 2],
    ["between an edit and its seconds", { blocks: 1, edits: 3, timings: 2, scores: 2 }, 1],
    ["in the middle of a score", { blocks: 1, edits: 4, timings: 4, scores: [3, 100] }, 1],
    ["after everything was done", ALL, 3],
  ])("%s", async (_, left, blocks) => {
    const out = await copyOfRun();
    await leave(out, left);
    expect((await readRun(out)).scores).toHaveLength(Math.min(2 * blocks, 5));
    const told: RunProgress[] = [];
    await lab.run({ ...REQUEST, out, onProgress: (progress) => told.push(progress) });
    expect(told.filter(({ phase }) => phase === "editing")).toHaveLength(5 - Math.min(2 * blocks, 5));
    expect(await bytesOfRun(out)).toEqual(await bytesOfRun(finished));
    expect(await lines(join(out, "timings.jsonl"))).toHaveLength(5);
    expect((await readdir(out)).sort()).toEqual([
      "blocks.jsonl",
      "checkpoints.jsonl",
      "edits.jsonl",
      "environment.jsonl",
      "run.json",
      "scores.jsonl",
      "steps.jsonl",
      "timings.jsonl",
      "tokens.jsonl",
    ]);
  });
});

describe("killed within a block, a run goes on from its last safe point", () => {
  /** Every safe point that a run of one block passes, as copies of its folder. */
  async function safePoints(request: Partial<RunRequest>): Promise<{ copies: string[]; out: string }> {
    const out = join(await temporaryFolder(), "run");
    const copies: string[] = [];
    const onProgress = () => {
      if (!existsSync(join(out, "open-block/block.json"))) return;
      const copy = `${out}-${copies.length}`;
      cpSync(out, copy, { recursive: true });
      rmSync(join(copy, "run.lock"));
      copies.push(copy);
    };
    await lab.run({ ...request, out, keepEvery: 0, onProgress } as RunRequest);
    expect(existsSync(join(out, "open-block"))).toBe(false);
    return { copies, out };
  }

  test.each([
    ["scored at the end", { T: "all", when: "after-all" as const }, 13],
    ["scored after each edit", { T: "all", when: "after-each" as const }, 4],
  ])("%s", async (_, request, limit) => {
    const data = await recordsFile(limit);
    const { copies, out } = await safePoints({ ...request, data });
    expect(copies.length).toBeGreaterThan(limit); // after each edit, and after each score but those of the last group
    const straight = await bytesOfRun(out);
    // Nothing of it hangs on how often it was kept.
    const seldom = join(await temporaryFolder(), "seldom");
    await lab.run({ ...request, data, out: seldom });
    expect(await bytesOfRun(seldom)).toEqual(straight);
    for (const copy of copies.filter((_, i) => i % 4 === 1 || i === copies.length - 1)) {
      const told: RunProgress[] = [];
      const { edits } = JSON.parse(await readFile(join(copy, "open-block/block.json"), "utf8")) as { edits: number };
      await lab.run({ ...request, data, out: copy, onProgress: (progress) => told.push(progress) });
      expect(told.filter(({ phase }) => phase === "editing")).toHaveLength(limit - edits);
      expect(await bytesOfRun(copy)).toEqual(straight);
    }
  });

  test("with shards and merges that stand, retrieve and merge", async () => {
    for (const retrieve of [true, false]) {
      const quick = await openQuickLab("n_iter=1", "save_freq=1", "merge_freq=2", `retrieve=${retrieve}`);
      const data = await recordsFile(6);
      const out = join(await temporaryFolder(), "run");
      const controller = new AbortController();
      const request = { T: "all", data, keepEvery: 0, saveEdits: true } as const;
      const stopped = quick.run({
        ...request,
        out,
        signal: controller.signal,
        onProgress: ({ edited }) => edited === 4 && controller.abort(),
      });
      await expect(stopped).rejects.toThrow(Interrupted);
      expect(existsSync(join(out, "open-block/block.json"))).toBe(true);
      await quick.run({ ...request, out });
      const straight = join(await temporaryFolder(), "straight");
      await quick.run({ ...request, out: straight });
      expect(await bytesOfRun(out)).toEqual(await bytesOfRun(straight));
      // The edits of the block, kept when asked for, answer as the run says.
      await quick.restore(savedEditsFile(out, 0));
      expect(quick.edits).toBe(6);
      const [score] = (await readRun(out)).scores as [RecordScore];
      const { prompt, answer, post, route } = score.rewrite;
      expect((await quick.score([{ kind: "rewrite", prompt, answer }]))[0]).toMatchObject({ post, route });
      quick.close();
    }
  });

  test.each<[string, (open: string) => Promise<void>, RegExp]>([
    ["its position is no JSON", (open) => writeFile(join(open, "block.json"), "{"), /block\.json/],
    ["its position is not whole", (open) => writeFile(join(open, "block.json"), '{"block":0}'), /block\.json/],
    ["its edits are cut short", (open) => truncate(join(open, "3-edits.safetensors"), 5000), /3-edits\.safetensors/],
  ])("a damaged one is refused as it stands: %s", async (_, damage, where) => {
    const { copies } = await safePoints({ T: "all", limit: 4 });
    const copy = copies[2] as string;
    await damage(join(copy, "open-block"));
    expect((await refusal(() => lab.run({ T: "all", limit: 4, out: copy }))).where).toMatch(where);
    expect(existsSync(join(copy, "open-block/block.json"))).toBe(true);
  });
});

describe("what a run was computed with", () => {
  test("stands in its folder, once however often it is taken up", async () => {
    const out = await copyOfRun();
    await leave(out, { ...ALL, blocks: 1, edits: 4, scores: 4 });
    await lab.run({ ...REQUEST, out });
    const environments = await readEnvironments(out);
    expect(environments).toEqual([expect.objectContaining({ fromEdit: 0, node: process.version })]);
    expect(environments[0]?.backend).toContain(`${lab.backend.name} ${lab.backend.version} ${lab.backend.device}`);
  });

  test("another environment is told of and written down, from where it took over; a finished run has none to add", async () => {
    const out = await copyOfRun();
    await leave(out, { ...ALL, blocks: 1, edits: 4, scores: 4 });
    const inVersion18 = (line: object) => ({ ...line, node: "v18.0.0" });
    await rewriteSealed(out, "environment", inVersion18);
    const told: string[] = [];
    await lab.run({ ...REQUEST, out, onNotice: (line) => told.push(line) });
    expect(told.join("\n")).toContain(`node: ${process.version}, before v18.0.0`);
    expect(await readEnvironments(out)).toMatchObject([
      { fromEdit: 0, node: "v18.0.0" },
      { fromEdit: 2, node: process.version },
    ]);
    await rewriteSealed(out, "environment", inVersion18);
    const before = await bytesOfRun(out);
    await lab.run({ ...REQUEST, out });
    expect(await bytesOfRun(out)).toEqual(before);
  });
});

describe("another configuration is refused, with the fields that differ", () => {
  test.each([
    ["scores after some steps", { T: 2, scoreSteps: [1] }, "score-steps", "T = 2"],
    ["a number of steps that is none", { T: 1, scoreSteps: [0] }, "score-steps", 0],
  ])("%s", async (_, change, where, found) => {
    const out = join(await temporaryFolder(), "run");
    expect(await refusal(() => lab.run({ ...REQUEST, ...change, out }))).toMatchObject({ where, found });
    expect(existsSync(out) ? await readdir(out) : []).toEqual([]);
  });

  test("edits to be saved of a run in memory", async () => {
    expect((await refusal(() => lab.run({ ...REQUEST, saveEdits: true }))).hint).toBe("--out FOLDER");
  });

  test.each([
    ["whether edits are kept", { saveEdits: true }, "saveEdits: true", "saveEdits: false"],
    ["T", { T: 1 }, "T: 1", "T: 2"],
    ["when", { when: "after-each" as const }, 'when: "after-each"', 'when: "after-all"'],
    ["number of records", { limit: 4 }, "records: 4", "records: 5"],
  ])("%s", async (_, change, found, expected) => {
    const out = await copyOfRun();
    const error = await refusal(() => lab.run({ ...REQUEST, ...change, out }));
    expect(error).toMatchObject({ where: join(out, "run.json"), found, expected, hint: "another --out folder" });
    expect(await bytesOfRun(out)).toEqual(await bytesOfRun(finished));
  });

  test("one option of the method", async () => {
    const other = await openQuickLab("n_iter=1", "mask_ratio=0.3");
    const out = join(await temporaryFolder(), "run");
    await other.run({ ...REQUEST, out });
    other.close();
    const error = await refusal(() => lab.run({ ...REQUEST, out }));
    expect(error).toMatchObject({ found: "options.mask_ratio: 0.2", expected: "options.mask_ratio: 0.3" });
  });

  test("templates that the model did not write", async () => {
    const out = join(await temporaryFolder(), "run");
    const { protocol } = await readRun(finished);
    (await openFolderOf(out, { protocol, templates: ["So {}"] })).close();
    expect((await refusal(() => lab.run({ ...REQUEST, out }))).expected).toContain("templates");
  });
});

describe("a damaged folder is refused as it stands", () => {
  test.each<[string, (out: string) => Promise<void>, string]>([
    ["a file is shorter than its finished blocks", (out) => cutTo(join(out, "edits.jsonl"), 2), "edits.jsonl"],
    ["the seconds are gone", (out) => rm(join(out, "timings.jsonl")), "timings.jsonl"],
    ["a block is missing", (out) => writeFile(join(out, "blocks.jsonl"), '{"block":1}\n'), "blocks.jsonl:1"],
    ["run.json is another file", (out) => writeFile(join(out, "run.json"), "{}"), "run.json"],
  ])("%s", async (_, damage, where) => {
    const out = await copyOfRun();
    await damage(out);
    const sizes = async () => Promise.all((await readdir(out)).map(async (name) => (await stat(join(out, name))).size));
    const before = await sizes();
    expect((await refusal(() => lab.run({ ...REQUEST, out }))).where).toContain(where);
    expect((await refusal(() => readRun(out))).where).toContain(where);
    expect(await sizes()).toEqual(before);
  });

  test("a folder that holds no run cannot be read as one", async () => {
    const folder = await temporaryFolder();
    expect((await refusal(() => readRun(folder))).where).toBe(join(folder, "run.json"));
  });
});

const lockOf = (owner: Partial<Owner>) => JSON.stringify({ ...thisProcess(), ...owner });

describe("one process per folder", () => {
  const open = async (path: string) =>
    openFolderOf(path, { protocol: (await readRun(finished)).protocol, templates: lab.templates });

  test("a folder in use is refused, and free again when it is closed", async () => {
    const out = await temporaryFolder();
    const first = await open(out);
    const error = await refusal(() => open(out));
    expect(error).toMatchObject({ where: join(out, "run.lock"), found: `process ${process.pid} is writing to it` });
    first.close();
    (await open(out)).close();
    expect(await readdir(out)).not.toContain("run.lock");
  });

  test.each([
    ["a process that is gone", () => lockOf({ pid: 4194304, start: "123" })],
    ["an earlier process of the same number, as in a container started again", () => lockOf({ start: "1" })],
    ["a process that was killed before it could write its number", () => ""],
  ])("the lock of %s is taken over", async (_, owner) => {
    const out = await temporaryFolder();
    await writeFile(join(out, "run.lock"), owner());
    (await open(out)).close();
    expect(await readdir(out)).not.toContain("run.lock");
  });

  test.runIf(process.platform === "linux")(
    "so is that of a process that ended and that nobody waited for",
    async () => {
      // The shell turns into `sleep`, which never asks after the child that it got with the process.
      const parent = spawn("sh", ["-c", "sleep 1 & echo $!; exec sleep 30"], { stdio: ["ignore", "pipe", "ignore"] });
      onTestFinished(() => void parent.kill());
      const [said] = (await once(parent.stdout, "data")) as [Buffer];
      const pid = Number(said.toString());
      const fields = () => readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") as string[];
      const out = await temporaryFolder();
      await writeFile(join(out, "run.lock"), lockOf({ pid, start: fields()[19] as string }));
      expect((await refusal(() => open(out))).found).toBe(`process ${pid} is writing to it`);
      await expect.poll(() => fields()[0]).toBe("Z");
      (await open(out)).close();
      expect(await readdir(out)).not.toContain("run.lock");
    },
  );
});

/** Takes all the room there is. */
function fill(path: string): void {
  const file = openSync(path, "w");
  try {
    for (;;) writeSync(file, Buffer.alloc(512));
  } catch (error) {
    expect((error as NodeJS.ErrnoException).code).toBe("ENOSPC");
  } finally {
    closeSync(file);
  }
}

describe("an output folder that cannot take the run", () => {
  test("read-only: refused before the first edit", async () => {
    const folder = await temporaryFolder();
    await chmod(folder, 0o755);
    const out = join(folder, "run");
    await mkdir(out, { mode: 0o555 });
    const told: RunProgress[] = [];
    const error = await asOrdinaryUser(() =>
      refusal(() => lab.run({ ...REQUEST, out, onProgress: (progress) => told.push(progress) })),
    );
    expect(error.where).toBe(out);
    expect(told).toEqual([]);
    expect(await readdir(out)).toEqual([]);
  });

  test.runIf(requires("small-disk"))(
    "full: refused when it is full at the start; stopped with everything before kept when it fills up",
    async () => {
      const disk = mountSmallDisk();
      try {
        const out = join(disk.path, "run");
        const filler = join(disk.path, "filler");
        await mkdir(out);
        fill(filler);
        expect((await refusal(() => lab.run({ ...REQUEST, out }))).message).toMatch(/ENOSPC/);
        await rm(filler);
        let filled = false;
        const onProgress = ({ block, phase }: RunProgress) => {
          if (block === 1 && phase === "editing" && !filled) {
            filled = true;
            fill(filler);
          }
        };
        const error = await errorOf(lab.run({ ...REQUEST, out, onProgress }));
        expect(error).toBeInstanceOf(LabFailure);
        expect(error.message).toMatch(/cannot append to .*jsonl: (ENOSPC|disk full)/);
        expect((await readRun(out)).scores.map(({ record }) => record)).toEqual([0, 1]);
        await rm(filler);
        await lab.run({ ...REQUEST, out });
        expect(await bytesOfRun(out)).toEqual(await bytesOfRun(finished));
      } finally {
        disk.release();
      }
    },
  );
});

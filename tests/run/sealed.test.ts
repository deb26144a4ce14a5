import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import {
  cp,
  link,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RefusedInput } from "../../src/core/errors.js";
import { sha256Bytes } from "../../src/core/hash.js";
import { createRng, type Rng } from "../../src/core/rng.js";
import { withSeal } from "../../src/core/seal.js";
import { reportHtml } from "../../src/report/report.js";
import { checkRun } from "../../src/run/check.js";
import { isFinished, readRun, readRunConfig } from "../../src/run/folder.js";
import { anchorOf, fileOf, savedEditsFile } from "../../src/run/folder-files.js";
import type { Lab } from "../../src/run/lab.js";
import { renderSummary } from "../../src/tables/format.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { bytesOfRun, openQuickLab } from "./support.js";

const FLIPS = 200;
const FINISHED = { T: 2, limit: 5, saveEdits: true } as const; // three blocks
const KILLED = { T: "all", limit: 3 } as const; // one block
const KEPT = 2; // edits of it before it is killed

let lab: Lab;
let folder: string;
let finished: string;
let killed: string;
let straight: string;
beforeAll(async () => {
  lab = await openQuickLab("n_iter=1");
  folder = await mkdtemp(join(tmpdir(), "wise-lab-sealed-"));
  [finished, straight, killed] = [join(folder, "finished"), join(folder, "straight"), join(folder, "killed")];
  await lab.run({ ...FINISHED, out: finished });
  await lab.run({ ...KILLED, out: straight });
  const out = join(folder, "being made");
  const controller = new AbortController();
  const onProgress = ({ edited }: { edited: number }) => edited === KEPT && controller.abort();
  await lab.run({ ...KILLED, out, keepEvery: 0, signal: controller.signal, onProgress }).catch(() => undefined);
  await rename(out, killed);
});
afterAll(async () => {
  lab.close();
  await rm(folder, { recursive: true });
});

async function filesOf(run: string): Promise<string[]> {
  const entries = await readdir(run, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(run, join(entry.parentPath, entry.name)))
    .sort();
}

async function copyOf(run: string): Promise<string> {
  const out = join(await temporaryFolder(), "run");
  await cp(run, out, { recursive: true });
  return out;
}

/** A copy with one bit flipped: in any file, at any byte. */
async function flipped(run: string, rng: Rng): Promise<{ out: string; file: string; place: string }> {
  const out = await copyOf(run);
  const names = await filesOf(out);
  const file = names[Math.floor(rng.uniform() * names.length)] as string;
  const bytes = await readFile(join(out, file));
  const at = Math.floor(rng.uniform() * bytes.length);
  bytes[at] = (bytes[at] as number) ^ (1 << Math.floor(rng.uniform() * 8));
  await writeFile(join(out, file), bytes);
  return { out, file, place: `${file}, byte ${at}` };
}

/** What `table` and `report` say of a run; null when they refuse it. Anything but a refusal is a fault. */
async function said(run: string): Promise<{ scores: number; table: string; report: string } | null> {
  try {
    const result = await readRun(run);
    const scores = result.scores.length;
    if (scores === 0) return null;
    const table = renderSummary([{ ...result, folder: null }], "text");
    return { scores, table, report: await reportHtml(result, "run") };
  } catch (error) {
    if (error instanceof RefusedInput) return null;
    throw error;
  }
}

/** True when the command goes on to its end, false when it refuses. */
async function goesOn(request: Parameters<Lab["run"]>[0]): Promise<boolean> {
  try {
    await lab.run(request);
    return true;
  } catch (error) {
    if (error instanceof RefusedInput) return false;
    throw error;
  }
}

describe("one bit flipped anywhere is refused, or changes nothing", () => {
  test("in a finished run", { timeout: 600_000 }, async () => {
    const rng = createRng(14);
    const [right, bytes] = [await said(finished), await bytesOfRun(finished)];
    expect(right).not.toBeNull();
    expect(await checkRun(finished)).toBe(3);
    let refused = 0;
    for (let i = 0; i < FLIPS; i++) {
      const { out, file, place } = await flipped(finished, rng);
      const inSaved = file.startsWith("saved-edits");
      const now = await said(out);
      if (now?.scores === 5) expect(now, place).toEqual(right);
      const whole = await checkRun(out).then(
        (blocks) => blocks === 3,
        (error: unknown) => (error instanceof RefusedInput ? false : Promise.reject(error)),
      );
      if (inSaved) {
        expect(whole, place).toBe(false);
        expect(await refusal(() => lab.restore(join(out, file))), place).toBeInstanceOf(RefusedInput);
        refused += 1;
      } else if (await goesOn({ ...FINISHED, out })) {
        expect(await bytesOfRun(out), place).toEqual(bytes);
      } else {
        expect(whole, place).toBe(false);
        refused += 1;
      }
      await rm(out, { recursive: true });
    }
    expect(refused).toBeGreaterThan(FLIPS / 2); // else the flips hit nothing
  });

  test("in a run that was killed within a block", { timeout: 600_000 }, async () => {
    const rng = createRng(15);
    const bytes = await bytesOfRun(straight);
    let refused = 0;
    for (let i = 0; i < FLIPS; i++) {
      const { out, place } = await flipped(killed, rng);
      expect(await said(out), place).toBeNull();
      if (await goesOn({ ...KILLED, out })) expect(await bytesOfRun(out), place).toEqual(bytes);
      else refused += 1;
      await rm(out, { recursive: true });
    }
    expect(refused).toBeGreaterThan(FLIPS / 4);
  });
});

describe("nothing but a run's own files is read or written", () => {
  const places = ["run.json", "edits.jsonl", "scores.jsonl", "blocks.jsonl", "timings.jsonl", "environment.jsonl"];

  test.each([...places, "saved-edits/block-0001.safetensors"])("%s that is a symbolic link", async (name) => {
    const out = await copyOf(finished);
    const elsewhere = join(await temporaryFolder(), "elsewhere");
    await rename(join(out, name), elsewhere);
    await symlink(elsewhere, join(out, name));
    const before = await readFile(elsewhere);
    for (const act of [() => readRun(out), () => lab.run({ ...FINISHED, out })]) {
      expect(await refusal(act)).toMatchObject({ where: join(out, name), found: "a symbolic link" });
    }
    expect(await readFile(elsewhere)).toEqual(before);
  });

  test("a folder of saved edits that is a link", async () => {
    const out = await copyOf(finished);
    const elsewhere = join(await temporaryFolder(), "elsewhere");
    await rename(join(out, "saved-edits"), elsewhere);
    await symlink(elsewhere, join(out, "saved-edits"));
    expect(await refusal(() => lab.run({ ...FINISHED, out }))).toMatchObject({ found: "a symbolic link" });
  });

  test("a file with a second name, which a run would change too; reading it is harmless", async () => {
    const out = await copyOf(finished);
    await link(join(out, "edits.jsonl"), join(await temporaryFolder(), "backup"));
    expect((await refusal(() => lab.run({ ...FINISHED, out }))).found).toContain("hard link");
    expect((await readRun(out)).edits).toHaveLength(5);
  });

  test.runIf(process.platform !== "win32").each([...places, "run.lock"])(
    "%s that is a pipe: nothing waits for it",
    async (name) => {
      const out = await copyOf(finished);
      await rm(join(out, name), { force: true });
      execFileSync("mkfifo", [join(out, name)]);
      for (const act of [() => readRun(out), () => lab.run({ ...FINISHED, out })]) {
        expect(await refusal(act)).toMatchObject({ where: join(out, name), found: "a pipe (FIFO)" });
      }
    },
  );
});

describe("what is missing is refused, and nothing is begun again", () => {
  test.each([
    "run.json",
    "edits.jsonl",
    "scores.jsonl",
    "tokens.jsonl",
    "blocks.jsonl",
    "timings.jsonl",
    "environment.jsonl",
    "saved-edits/block-0001.safetensors",
  ])("%s", async (name) => {
    const out = await copyOf(finished);
    await rm(join(out, name));
    const before = await bytesOfRun(out);
    if (name.startsWith("saved-edits")) expect((await refusal(() => readRun(out))).where).toBe(join(out, name));
    else expect(await refusal(() => lab.run({ ...FINISHED, out }))).toBeInstanceOf(RefusedInput);
    expect(await bytesOfRun(out)).toEqual(before);
  });

  test("blocks.jsonl that was emptied: lines of several blocks stand behind it", async () => {
    const out = await copyOf(finished);
    await truncate(join(out, "blocks.jsonl"));
    const before = await bytesOfRun(out);
    const error = await refusal(() => lab.run({ ...FINISHED, out }));
    expect(error).toMatchObject({
      where: join(out, "blocks.jsonl"),
      found: "0 blocks, and record 2 in edits.jsonl behind them",
    });
    expect(await bytesOfRun(out)).toEqual(before);
  });
});

describe("what belongs to another run is refused", () => {
  test.each(["blocks", "timings", "environment"] as const)("%s.jsonl of one with other options", async (name) => {
    const other = await openQuickLab("n_iter=1", "edit_lr=0.5");
    const foreign = join(await temporaryFolder(), "foreign");
    await other.run({ ...FINISHED, out: foreign });
    other.close();
    const out = await copyOf(finished);
    await cp(fileOf(foreign, name), fileOf(out, name));
    expect((await refusal(() => checkRun(out))).where).toBe(`${fileOf(out, name)}:1`);
  });

  test("saved edits of another block", async () => {
    const out = await copyOf(finished);
    await cp(savedEditsFile(out, 0), savedEditsFile(out, 1));
    expect((await refusal(() => checkRun(out))).where).toBe(savedEditsFile(out, 1));
  });

  test("the safe point of another run, with as many edits", async () => {
    const foreign = join(await temporaryFolder(), "foreign");
    const other = await openQuickLab("n_iter=2", "edit_lr=0.9");
    const controller = new AbortController();
    const onProgress = ({ edited }: { edited: number }) => edited === KEPT && controller.abort();
    await other.run({ ...KILLED, out: foreign, keepEvery: 0, signal: controller.signal, onProgress }).catch(() => {});
    other.close();
    const out = await copyOf(killed);
    const states = await readdir(join(out, "open-block"));
    for (const name of states) await cp(join(foreign, "open-block", name), join(out, "open-block", name));
    expect((await refusal(() => lab.run({ ...KILLED, out }))).where).toBe(join(out, "open-block/block.json"));
  });
});

test("a score that does not follow from its tokens is refused even where the seal was made anew", async () => {
  const out = await copyOf(finished);
  const file = fileOf(out, "scores");
  const lines = (await readFile(file, "utf8")).split("\n");
  const score = JSON.parse(lines[1] as string) as { rewrite: { score: number; exact: boolean } };
  score.rewrite.score = score.rewrite.score === 1 ? 0 : 1;
  lines[1] = JSON.stringify(score);
  await writeFile(file, lines.join("\n"));

  const { seal } = JSON.parse(await readFile(join(out, "run.json"), "utf8")) as { seal: string };
  const blocks = (await readFile(fileOf(out, "blocks"), "utf8")).split("\n").slice(0, -1);
  let last = anchorOf(seal, "blocks");
  let ends = 0;
  const resealed = blocks.map((line, i) => {
    const { seal: _, ...block } = JSON.parse(line) as {
      seal: string;
      files: Record<string, { bytes: number; sha256: string }>;
    };
    ends = i === 2 ? 5 : 2 * (i + 1);
    const text = `${lines.slice(0, ends).join("\n")}\n`;
    block.files.scores = { bytes: Buffer.byteLength(text), sha256: sha256Bytes(text) };
    const sealed = withSeal(block, last);
    last = sealed.seal;
    return `${JSON.stringify(sealed)}\n`;
  });
  await writeFile(fileOf(out, "blocks"), resealed.join(""));
  const error = await refusal(() => readRun(out));
  expect(error.where).toContain(`${file}:2, score of "`);
});

describe("a wrong --out is refused before a model is read", () => {
  test.each<[string, (path: string) => Promise<unknown>]>([
    ["a file", (path) => writeFile(path, "")],
    ["a folder of something else", (path) => mkdir(path).then(() => writeFile(join(path, "thesis.tex"), ""))],
    ["a folder of runs", (path) => cp(finished, join(path, "one"), { recursive: true })],
    [
      "a run of an older form",
      (path) => mkdir(path).then(() => writeFile(join(path, "run.json"), '{"format": "wise-lab run, version 3"}')),
    ],
  ])("%s", async (_, make) => {
    const out = join(await temporaryFolder(), "out");
    await make(out);
    const { openLab } = await import("../../src/run/lab.js");
    const error = await refusal(() => openLab({ planFor: { T: 1, out }, model: lab.model.folder }));
    expect(error.where).toContain(out);
  });

  test("what a process left that was killed before its first line is no hindrance", async () => {
    const out = join(await temporaryFolder(), "out");
    await mkdir(out);
    await writeFile(join(out, "run.json.123.part"), "{");
    await lab.run({ ...FINISHED, out });
    expect(await isFinished(out, (await readRunConfig(finished)).protocol)).toBe(true);
    expect(existsSync(join(out, "run.json.123.part"))).toBe(false);
  });
});

import { cp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { checkRun } from "../../src/run/check.js";
import { convert } from "../../src/run/convert.js";
import { hashRun, readRun } from "../../src/run/folder.js";
import { savedEditsFile } from "../../src/run/folder-files.js";
import { openLab } from "../../src/run/lab.js";
import { summarizeRun } from "../../src/run/summary.js";
import { readRunSummary, writeRunSummary } from "../../src/run/summary-file.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { repository } from "../support/shared.js";
import { bytesOfRun, TINY_MODEL, TINY_RECORDS, wiseLab } from "./support.js";

/** Made by wise-lab at 5c7eb72: run --T 2 --limit 3 --set n_iter=1 --backend cpu --save-edits, on the tiny checkpoint. */
const OLD = join(repository, "tests/fixtures/run-version-3");

async function copyOfOld(): Promise<string> {
  const copy = join(await temporaryFolder(), "old");
  await cp(OLD, copy, { recursive: true });
  return copy;
}

test("a run of the form before is converted whole, and is a run of today: finished, and its edits are restored", async () => {
  const to = join(await temporaryFolder(), "new");
  expect(await convert(OLD, to)).toBe("2 finished blocks of a run");
  expect(await checkRun(to)).toBe(2);
  for (const name of ["edits", "scores", "steps", "tokens"]) {
    expect(await readFile(join(to, `${name}.jsonl`))).toEqual(await readFile(join(OLD, `${name}.jsonl`)));
  }
  const { edits } = await readRun(to);
  const spent = JSON.parse((await readFile(join(OLD, "timings.jsonl"), "utf8")).split("\n")[2] as string) as object;
  expect({ record: 2, ...edits[2]?.seconds }).toEqual(spent);

  const lab = await openLab({ model: TINY_MODEL, hparams: { set: ["n_iter=1"] }, backend: "cpu" });
  const before = await bytesOfRun(to);
  await lab.run({ data: TINY_RECORDS, T: 2, limit: 3, saveEdits: true, out: to });
  expect(await bytesOfRun(to)).toEqual(before);
  await lab.restore(savedEditsFile(to, 0));
  expect(lab.edits).toBe(2);
  const old = savedEditsFile(OLD, 1);
  expect((await refusal(() => lab.restore(old))).hint).toBe(`wise-lab convert ${old} NEWFILE`);
  const one = join(await temporaryFolder(), "one.safetensors");
  await convert(old, one);
  await lab.restore(one);
  expect(lab.edits).toBe(1);
  lab.close();
});

test("what was not finished is left out", async () => {
  const from = await copyOfOld();
  const blocks = await readFile(join(from, "blocks.jsonl"), "utf8");
  await writeFile(join(from, "blocks.jsonl"), blocks.split("\n").slice(0, 1).concat("").join("\n"));
  const to = join(await temporaryFolder(), "new");
  expect(await convert(from, to)).toBe("1 finished blocks of a run");
  expect((await readRun(to)).scores).toHaveLength(2);
});

test("a run from before there were precisions is of float32", async () => {
  const from = await copyOfOld();
  await replaceIn(join(from, "run.json"), /,\s*"precision":\s*"float32"/, "");
  expect(await readFile(join(from, "run.json"), "utf8")).not.toContain("precision");
  const to = join(await temporaryFolder(), "new");
  await convert(from, to);
  expect((await readRun(to)).protocol.precision).toBe("float32");
});

test("the summary of a run keeps every number, and the sha256 of the run", async () => {
  const run = join(await temporaryFolder(), "run");
  await convert(OLD, run);
  const now = join(await temporaryFolder(), "now.json");
  await writeRunSummary(await summarizeRun(run, "wise-lab run --T 2"), now);
  const { seal: _, ...content } = JSON.parse(await readFile(now, "utf8")) as Record<string, unknown>;
  const [old, to] = [join(await temporaryFolder(), "old.json"), join(await temporaryFolder(), "new.json")];
  await writeFile(old, JSON.stringify({ ...content, format: "wise-lab run summary, version 3" }));
  expect((await refusal(() => readRunSummary(old))).hint).toBe(`wise-lab convert ${old} NEWFILE`);
  expect(await convert(old, to)).toBe("the summary of a run");
  expect(await readFile(to, "utf8")).toBe(await readFile(now, "utf8"));
  expect((await readRunSummary(to)).sha256).toEqual(await hashRun(run));
});

test.each<[string, (from: string) => Promise<void>, RegExp]>([
  [
    "a score that does not follow from its tokens",
    (from) => replaceIn(join(from, "scores.jsonl"), /"score":[^,]+/, '"score":0.123'),
    /scores\.jsonl:1, score/,
  ],
  ["a file that was cut", (from) => truncate(join(from, "edits.jsonl"), 300), /edits\.jsonl/],
  ["a run without a finished block", (from) => truncate(join(from, "blocks.jsonl"), 0), /old$/],
  ["saved edits that are gone", (from) => rm(savedEditsFile(from, 1)), /block-0001/],
  ["an older form", (from) => replaceIn(join(from, "run.json"), /version 3/, "version 2"), /run\.json/],
])("%s: refused by file and reason", async (_, damage, where) => {
  const from = await copyOfOld();
  await damage(from);
  const error = await refusal(() => convert(from, `${from}-new`));
  expect(error.where).toMatch(where);
});

test("nothing is written over, and reading an older run names the command, which works", async () => {
  const from = await copyOfOld();
  const to = `${from}-new`;
  const error = await refusal(() => readRun(from));
  expect(error).toMatchObject({ found: "wise-lab run, version 3", hint: `wise-lab convert ${from} NEWFOLDER` });
  const ended = await wiseLab("convert", from, to);
  expect(ended, ended.stderr).toMatchObject({ status: 0, stdout: `${to}: 2 finished blocks of a run\n` });
  expect((await wiseLab("check", to)).stdout).toBe(`${to}: 2 finished blocks, as they were written\n`);
  expect((await wiseLab("convert", from, to)).stderr).toContain("a conversion is written to a new place");
});

async function replaceIn(file: string, what: RegExp, by: string): Promise<void> {
  await writeFile(file, (await readFile(file, "utf8")).replace(what, by));
}

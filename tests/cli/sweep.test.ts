import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type SweepArguments, sweepCommand } from "../../src/cli/sweep.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { TINY_MODEL, TINY_RECORDS, wiseLab } from "../run/support.js";
import { golden } from "../support/shared.js";

const COMMON = { model: TINY_MODEL, data: TINY_RECORDS, limit: 1, backend: "wasm" } as const;

/** Runs the command in this process, which must refuse it and leave the output folder empty. */
async function refusedSweep(args: Partial<SweepArguments>) {
  const out = join(await temporaryFolder(), "sweep");
  const error = await refusal(() => sweepCommand({ T: ["1"], ...COMMON, out, ...args }, new AbortController().signal));
  expect(existsSync(out) ? await readdir(out) : []).toEqual([]);
  return error;
}

describe("wise-lab sweep refuses before the first run", () => {
  test.each<
    [what: string, args: Partial<SweepArguments>, refused: { where?: RegExp; found: string; expected: RegExp }]
  >([
    ["a T of 0", { T: ["1", "0"] }, { where: /^T,/, found: "0", expected: /a whole number from 1/ }],
    ["a T given twice", { T: ["1", "01"] }, { found: "T1 and T01", expected: /every point once/ }],
    ["no values", { grid: ["n_iter="] }, { where: /--grid/, found: "n_iter=", expected: /without empty values/ }],
    ["an empty value", { grid: ["n_iter=1,,2"] }, { found: "n_iter=1,,2", expected: /without empty values/ }],
    ["no key", { grid: ["1,2"] }, { found: "1,2", expected: /key=value/ }],
    ["an unknown key", { grid: ["n_itr=1"] }, { where: /--set/, found: "n_itr", expected: /nearest is n_iter/ }],
    ["a value of the wrong kind", { grid: ["n_iter=1,few"] }, { found: "few", expected: /a whole number above 0/ }],
    [
      "a list that is too short",
      { grid: ["act_margin=[1,4,2],[1,4]"] },
      { where: /key act_margin/, found: "[1,4]", expected: /three numbers/ },
    ],
    ["a key twice", { grid: ["n_iter=1", "n_iter=2"] }, { found: "n_iter", expected: /each key in one --grid/ }],
    ["a key of --set", { grid: ["n_iter=1"], set: ["n_iter=2"] }, { found: "n_iter", expected: /each key in one/ }],
    ["a value twice", { grid: ["n_iter=1,2,1"] }, { found: "T1,n_iter=1 and T1,n_iter=1", expected: /every point/ }],
    [
      "one value in two forms",
      { grid: ["act_ratio=0.5,5e-1"] },
      { found: "T1,act_ratio=0.5 and T1,act_ratio=5e-1", expected: /every point once/ },
    ],
    ["a folder that holds no model", { model: golden }, { where: /golden/, found: "", expected: /config\.json/ }],
    ["records that are not there", { data: "no.json" }, { where: /no\.json/, found: "ENOENT", expected: /readable/ }],
  ])("%s", async (_, args, { where, found, expected }) => {
    const error = await refusedSweep(args);
    if (where) expect(error.where).toMatch(where);
    expect(typeof error.found === "string" ? error.found : JSON.stringify(error.found)).toContain(found);
    expect(error.expected).toMatch(expected);
  });

  test("with status 1 and the refusal on stderr, as a process", async () => {
    const { status, stdout, stderr } = await wiseLab("sweep", "--T", "1", "--grid", "n_iter=", "--out", "nowhere");
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    expect(stderr).toMatch(/^wise-lab: a grid axis is not understood\n {2}where: --grid\n {2}found: n_iter=\n/);
  });
});

test("wise-lab study refuses to save a part of itself as the study", async () => {
  const { status, stdout, stderr } = await wiseLab("study", "--limit", "5", "--save");
  expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
  expect(stderr).toMatch(/^ {2}found: --limit 5\n {2}expected: --save without --limit$/m);
});

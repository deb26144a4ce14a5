import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { methods } from "../../../src/edit/registry.js";
import { methodNotes, methodRows } from "../../../src/workshop/bench/method-report.js";
import {
  benchMethods,
  differencesOf,
  type MethodResult,
  type MethodsMeasured,
  methodAlike,
} from "../../../src/workshop/bench/methods.js";
import type { BenchReport } from "../../../src/workshop/bench/report.js";
import { goldenRecords } from "../../edit/support.js";
import { TINY_MODEL, wiseLab } from "../../run/support.js";
import { requires } from "../../support/requires.js";
import { goldenMethods } from "../../support/shared.js";
import { tinyFact } from "./support.js";

const reference = requires("transformers");
process.env.OMP_NUM_THREADS = "1"; // PyTorch: threads that wait for each other on busy cores take many times as long

const names = Object.keys(methods);
const requests = [0, 1].map((i) => ({
  ...tinyFact(i).request,
  subject: goldenRecords.records[i]?.subject as string,
}));
const stats = join(goldenMethods, "locate-stats");
/** Nothing that PyTorch would draw otherwise. */
const settings = { wise: ["mask_ratio=1"], grace: ["val_init=warm"] };
const tiny = { model: TINY_MODEL, preset: "tiny", requests, stats, settings, reference };

describe("every method and its released algorithm in PyTorch", () => {
  test("compute the same edit", async () => {
    const { methods: measured, runsOn } = await benchMethods(names, { ...tiny, steps: 4 });
    expect(measured.map(({ name }) => name)).toEqual(names);
    expect(runsOn).toHaveLength(reference ? 2 : 1);
    for (const method of measured) {
      const { name, ours, torch, differences } = method;
      const steps = methods[name as keyof typeof methods].stepLimit === undefined ? 1 : 4;
      expect(ours.steps, name).toEqual([steps, steps]);
      expect(Math.min(...ours.edit), name).toBeGreaterThan(0);
      expect(torch?.steps ?? null, name).toEqual(reference ? [steps, steps] : null);
      expect(differences !== null).toBe(reference);
      expect(methodAlike(method), `${name}: ${JSON.stringify(differences)}`).toBe(true);
    }
  }, 120_000);
});

describe("a method is unlike", () => {
  test.each<[what: string, losses: [number[], number[]], after: [number, number], found: object]>([
    [
      "by a loss",
      [
        [2, 1],
        [2, 1.001],
      ],
      [1, 1],
      { steps: expect.closeTo(0.001, 5) },
    ],
    ["by a step", [[2, 1], [2]], [1, 1], { steps: Number.POSITIVE_INFINITY }],
    [
      "by a loss that is no number",
      [
        [2, 1],
        [2, Number.NaN],
      ],
      [1, 1],
      { steps: Number.NaN },
    ],
    ["by what it leaves", [[2], [2]], [1, 1.1], { after: expect.closeTo(0.0909, 4) }],
  ])("%s", (_, losses, after, found) => {
    const differences = differencesOf(losses, after);
    expect(differences).toMatchObject(found);
    expect(methodAlike({ differences })).toBe(false);
  });
});

const side = (edit: number[], frozen: number[] | null = null) => ({ edit, frozen, steps: edit.map(() => 10) });

function measured(change: Partial<MethodResult> = {}): MethodsMeasured {
  const method: MethodResult = {
    name: "ft-m",
    title: "FT-M",
    rows: 1,
    tokens: 11.5,
    ours: side([1, 3, 2], [0.5, 1, 1]),
    torch: side([4, 40, 5]),
    differences: { steps: 2e-6, after: 3e-5 },
    ...change,
  };
  return { modelSha256: "0123456789abcdef", runsOn: ["tensorflow", "PyTorch"], device: "cpu", methods: [method] };
}

describe("the table of methods", () => {
  test("has medians over edits, and their ratio", () => {
    expect(methodRows(measured())).toEqual([
      {
        method: "FT-M",
        "tokens of an edit": "11.5",
        steps: "10",
        "s/edit": "2",
        "of it frozen part": "1",
        "s/step": "0.1",
        "s/edit, PyTorch": "5",
        "s/step, PyTorch": "0.5",
        "times faster than PyTorch": "2.5",
      },
    ]);
    expect(methodNotes(measured()).join()).toMatch(/three steps.*FT-M 2\.0e-6 and 3\.0e-5\./);
  });

  test("compares no times of unlike computations, and says so", () => {
    const unlike = measured({ differences: { steps: 1e-3, after: 0 } });
    expect(methodRows(unlike)[0]).toMatchObject({ "times faster than PyTorch": null });
    expect(methodNotes(unlike).join()).toContain("FT-M: that is not the same computation");
  });

  test("is there without PyTorch, too", async () => {
    vi.stubEnv("WISE_LAB_PYTHON", "/nowhere");
    onTestFinished(() => void vi.unstubAllEnvs());
    const args = ["--only", "methods", "--methods", "ft-m,mend", "--steps", "2", "--rounds", "1", "--json"];
    const { status, stdout, stderr } = await wiseLab("bench", ...args);
    expect(status, stderr).toBe(0);
    const report = JSON.parse(stdout) as BenchReport;
    expect(report).toMatchObject({
      command: "npm run bench -- --only methods --methods ft-m,mend --steps 2 --rounds 1",
      shapes: [],
      methods: {
        methods: [
          { name: "ft-m", torch: null, differences: null },
          { name: "mend", torch: null },
        ],
      },
      skipped: [expect.stringMatching(/^PyTorch was not run beside the methods: no Python with torch/)],
    });
  });

  test("is asked for by names that there are", async () => {
    const { status, stderr } = await wiseLab("bench", "--only", "methods", "--methods", "ft-n");
    expect(status).toBe(1);
    expect(stderr).toMatch(/no such editing method[\s\S]*ft-n/);
  });
});

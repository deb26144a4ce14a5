import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Interrupted } from "../../src/core/errors.js";
import { loadRecords } from "../../src/data/load.js";
import type { EditRecord } from "../../src/data/records.js";
import type { OptionSource } from "../../src/edit/option-table.js";
import { methods } from "../../src/edit/registry.js";
import type { RecordScore } from "../../src/eval/types.js";
import { editByEvery } from "../../src/run/everyMethod.js";
import { type Lab, openLab } from "../../src/run/lab.js";
import { editedFrame } from "../../src/tables/answers.js";
import { errorOf } from "../edit/support.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { goldenMethods } from "../support/shared.js";
import { expectTidy } from "../support/tensor-matcher.js";
import { recordsFile, TINY_MODEL, TINY_RECORDS } from "./support.js";

let lab: Lab;
let records: EditRecord[];
beforeAll(async () => {
  lab = await openLab({ model: TINY_MODEL });
  records = (await loadRecords(TINY_RECORDS, {})).records;
});
afterAll(() => lab.close());

const names = Object.keys(methods) as (keyof typeof methods)[];

/** Side data of the golden checkpoint, and two steps an edit where steps are limited. */
function optionsOf(name: keyof typeof methods): OptionSource {
  const { options, stepLimit } = methods[name];
  const stats = "stats_dir" in options ? [`stats_dir=${join(goldenMethods, "locate-stats")}`] : [];
  return { set: [...stats, ...(stepLimit === undefined ? [] : [`${stepLimit}=2`])] };
}

const quick = Object.fromEntries(names.map((name) => [name, optionsOf(name)]));

test("lab.methods names them all", () => {
  expect(lab.methods).toEqual(names);
});

describe("T = 1", () => {
  /** What was said and scored, without the place it had. */
  const said = ({ rewrite, rephrase, locality }: RecordScore) =>
    [rewrite, rephrase, ...locality].map(
      (probe) => probe && { post: probe.post, score: probe.score, route: probe.route },
    );

  /** Irrelevant prompts, the one of record `first` at the front. */
  async function irrelevantFrom(first: number): Promise<string> {
    const prompts = Array.from({ length: 24 }, (_, i) => `who wrote the song number ${i}`);
    const path = join(await temporaryFolder(), "irrelevant.json");
    await writeFile(path, JSON.stringify([...prompts.slice(first), ...prompts.slice(0, first)]));
    return path;
  }

  test.each(names)("%s: record 18 alone is record 18 among 24, as nothing survives a rollback", async (name) => {
    const own = await lab.with({ method: name, hparams: optionsOf(name) });
    const among = await own.run({ data: await recordsFile(24), irrelevant: await irrelevantFrom(0), T: 1 });
    const file = await recordsFile(24);
    const one = JSON.stringify([JSON.parse(await readFile(file, "utf8"))[18]]);
    await writeFile(file, one);
    const alone = await own.run({ data: file, irrelevant: await irrelevantFrom(18), T: 1 });
    own.close();
    expect(said(alone.scores[0] as RecordScore)).toEqual(said(among.scores[18] as RecordScore));
    const lossOf = (run: typeof among, i: number) => run.edits[i]?.steps.at(-1)?.loss as number;
    expect(lossOf(alone, 0)).toBeCloseTo(lossOf(among, 18), 4);
  });
});

describe("one record by every method", () => {
  test("is a row each: scores, answer, steps and seconds; the lab's own edits stay", async () => {
    await lab.edit({ prompt: "The city of Tadeo Quill", target: "born" });
    const hash = await lab.hash();
    const told: string[] = [];
    const edited = await expectTidy(() =>
      editByEvery(lab, records[1] as EditRecord, { hparams: quick, onMethod: ({ method }) => told.push(method.name) }),
    );
    expect(told).toEqual(names);
    expect(await lab.hash()).toBe(hash);
    const frame = editedFrame(edited);
    expect(frame.columns).toEqual([
      "method",
      "rewrite",
      "rephrase",
      "locality",
      "free answer",
      "route",
      "steps",
      "seconds",
    ]);
    expect(frame.column("method").values).toEqual(names.map((name) => methods[name].title));
    for (const { method, trace } of edited)
      expect(trace.steps).toHaveLength(method.method.stepLimit === undefined ? 1 : 2);
  });

  test("can be some of them, and be stopped; one that there is not is refused", async () => {
    const record = records[0] as EditRecord;
    const some = await editByEvery(lab, record, { methods: ["ft-m", "grace"], hparams: quick });
    expect(some.map(({ method }) => method.name)).toEqual(["ft-m", "grace"]);
    const signal = AbortSignal.abort();
    expect(await errorOf(editByEvery(lab, record, { signal }))).toBeInstanceOf(Interrupted);
    expect((await refusal(() => editByEvery(lab, record, { methods: ["grase"] }))).hint).toBe("grace");
  });
});

describe("a lab with another method", () => {
  test("has edits of its own on the same weights, and closing it leaves the other", async () => {
    const before = await lab.hash();
    const other = await lab.with({ method: "grace", hparams: optionsOf("grace") });
    expect(other.model).toBe(lab.model);
    await other.edit({ prompt: "The city of Tadeo Quill", target: "born" });
    expect([other.edits, other.method.name]).toEqual([1, "grace"]);
    other.close();
    expect(await lab.hash()).toBe(before);
    expect((await lab.ask("The city of Tadeo Quill")).tokens.length).toBeGreaterThan(0);
  });

  test("is refused where the weights that it needs are not in memory", async () => {
    const late = await openLab({
      model: TINY_MODEL,
      method: "ft-m",
      hparams: { set: ["layers=[3]"] },
      weights: "streamed",
    });
    const refused = await refusal(() => late.with({ method: "lora", hparams: optionsOf("lora") }));
    expect(refused.message).toContain("not in memory");
    late.close();
  });
});

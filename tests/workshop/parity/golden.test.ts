import { cp, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { selectBackend } from "../../../src/tensor/backend.js";
import { runGolden } from "../../../src/workshop/parity/golden.js";
import { type GoldenRecords, openGolden } from "../../../src/workshop/parity/golden-files.js";
import { scenarios } from "../../../src/workshop/parity/scenarios.js";
import type { ParityItem } from "../../../src/workshop/parity/tally.js";
import type { GoldenEdit, GoldenWise } from "../../../src/workshop/parity/wise.js";
import { refusal } from "../../model/support.js";
import { golden } from "../../support/shared.js";
import { expectTidy } from "../../support/tensor-matcher.js";
import { changeJson, changeTensor, copyOf, failed, filesOf, hideTensor } from "./support.js";

beforeAll(() => selectBackend());

/** A golden folder with one checkpoint and some scenarios, which a test may change. */
const smallFolder = (...scenarios: string[]) =>
  copyOf(golden, [
    "records.json",
    "tiny-llama3",
    "forward-tiny-llama3.safetensors",
    ...scenarios.flatMap((scenario) => filesOf(`wise-${scenario}`)),
  ]);

const changeRecords = (folder: string, change: (records: GoldenRecords) => void) =>
  changeJson(join(folder, "records.json"), change);

const changeWise = (folder: string, name: string, change: (wise: GoldenWise) => void) =>
  changeJson(join(folder, `wise-${name}.json`), change);

describe("the golden folder of the project", () => {
  test("passes in everything it holds", { timeout: 180_000 }, async () => {
    const shown: ParityItem[] = [];
    const { items, passed } = await expectTidy(() => runGolden(golden, { onItem: (item) => shown.push(item) }));
    expect(failed(items)).toEqual({});
    expect(passed).toBe(true);
    expect(shown).toEqual(items);
    expect([...new Set(items.map(({ scenario }) => scenario))].sort()).toEqual([
      "forward-tiny-llama3",
      "forward-tiny-llama3-tied",
      "tiny-llama3",
      "tiny-llama3-tied",
      "wise-early-stop",
      "wise-merge",
      "wise-one-edit-paper",
      "wise-one-edit-released",
      "wise-retrieve",
      "wise-retrieve-released",
    ]);
    expect(items.every(({ compared, worst }) => compared > 0 && Number.isFinite(worst))).toBe(true);
    // The tolerances are the README's; a float32 implementation stays well inside those of a single edit.
    const strict = items.filter(({ scenario, tolerance }) => scenario === "wise-one-edit-paper" && tolerance >= 1e-3);
    for (const { item, worst, tolerance } of strict) expect(worst, item).toBeLessThan(tolerance / 10);
  });
});

describe("one altered number fails, and its item and place are named", () => {
  const SCENARIO = "one-edit-paper";

  test("unaltered, the small folder passes", async () => {
    expect(failed((await runGolden(await smallFolder(SCENARIO))).items)).toEqual({});
  });

  test("in the texts", async () => {
    const folder = await smallFolder(SCENARIO);
    let text = "";
    await changeRecords(folder, (records) => {
      text = Object.keys(records.tokens)[3] as string;
      bump(records.tokens[text]);
      bump(records.greedy["tiny-llama3"]);
      records.chat.rendered += "!";
    });
    expect(failed((await runGolden(folder)).items)).toEqual({
      "tiny-llama3: token ids": text,
      "tiny-llama3: chat template": expect.any(String),
      "tiny-llama3: greedy continuation": expect.any(String),
    });
  });

  test.each<[what: string, change: (edit: GoldenEdit) => void, item: string, where: string]>([
    ["a loss", ({ steps }) => onePercent(steps[5], "ft"), "loss ft", "edit 0, step 5"],
    ["a routing loss", ({ steps }) => onePercent(steps[2], "act"), "loss act", "edit 0, step 2"],
    ["the sum of both", ({ steps }) => onePercent(steps[0], "loss"), "loss", "edit 0, step 0"],
    ["a distance", ({ steps }) => onePercent(steps[11], "in_scope"), "distance in scope", "edit 0, step 11"],
    ["another one", ({ steps }) => onePercent(steps[9], "out_of_scope"), "distance out of scope", "edit 0, step 9"],
    ["min_act", (edit) => onePercent(edit, "min_act"), "min_act", "edit 0"],
    [
      "the number of steps",
      (edit) => {
        edit.n_steps += 1;
      },
      "steps",
      "edit 0",
    ],
    [
      "the number of memories",
      (edit) => {
        edit.memories += 1;
      },
      "memories saved",
      "edit 0",
    ],
    ["a token", ({ ids }) => bump(ids[2]), "edit rows", "edit 0, row 2"],
    [
      "where the target starts",
      ({ labels }) => {
        (labels[0] as number[]).fill(-100);
      },
      "edit rows",
      "edit 0, row 0",
    ],
  ])("in an edit: %s", async (_, change, item, where) => {
    const folder = await smallFolder(SCENARIO);
    await changeWise(folder, SCENARIO, ({ edits }) => change(edits[0] as GoldenEdit));
    const { items, passed } = await runGolden(folder);
    expect(failed(items)).toEqual({ [`wise-${SCENARIO}: ${item}`]: where });
    expect(passed).toBe(false);
  });

  test("in the evaluation", async () => {
    const folder = await smallFolder(SCENARIO);
    await changeWise(folder, SCENARIO, ({ evaluation, mean }) => {
      const [first] = evaluation as [Evaluated];
      bump(first.rephrase.ids);
      bump(first.rewrite.target);
      bump(first.loc.pre);
      bump(first.loc.post);
      first.rewrite.score += 0.25;
      first.rephrase.pre_score = 0.9;
      (first.loc.distances[0] as [number, number])[0] *= 1.01;
      mean.loc -= 0.01;
    });
    const expected = {
      "probe tokens": "record 0, rephrase",
      "target tokens": "record 0, rewrite",
      "predictions before": "record 0, loc",
      "predictions and routes after": "record 0, loc",
      score: "record 0, rewrite",
      "score before": "record 0, rephrase",
      "distances and thresholds": "record 0, loc, distances[0]",
      "mean loc": "loc",
    };
    expect(failed((await runGolden(folder)).items)).toEqual(
      Object.fromEntries(Object.entries(expected).map(([item, where]) => [`wise-${SCENARIO}: ${item}`, where])),
    );
  });

  test("in a route", async () => {
    const folder = await smallFolder(SCENARIO);
    await changeWise(folder, SCENARIO, ({ evaluation }) => {
      (evaluation[0] as Evaluated).rewrite.route = -1;
    });
    expect(failed((await runGolden(folder)).items)).toEqual({
      [`wise-${SCENARIO}: predictions and routes after`]: "record 0, rewrite",
    });
  });

  test("in the tensors", async () => {
    const folder = await smallFolder(SCENARIO);
    const wise = join(folder, `wise-${SCENARIO}.safetensors`);
    await changeTensor(wise, "first_gradient", (value) => 1.01 * value);
    await changeTensor(wise, "side.0", (value) => 1.01 * value);
    const forward = join(folder, "forward-tiny-llama3.safetensors");
    const input = "1.layers.2.mlp.down_proj.in";
    await changeTensor(forward, "2.logits", (value) => value + 0.01);
    await changeTensor(forward, input, (value) => value + 0.01);
    await changeTensor(forward, "0.layers.2.mlp.down_proj.out", () => Number.NaN);
    expect(failed((await runGolden(folder)).items)).toEqual({
      "forward-tiny-llama3: logits": "2.logits",
      "forward-tiny-llama3: value matrix input": input,
      "forward-tiny-llama3: value matrix output": "0.layers.2.mlp.down_proj.out",
      [`wise-${SCENARIO}: first gradient`]: "edit 0, step 0",
      [`wise-${SCENARIO}: side memory`]: "edit 0",
    });
  });

  test("in a merged memory", async () => {
    const folder = await smallFolder("merge");
    await changeTensor(join(folder, "wise-merge.safetensors"), "merged", (value) => 1.01 * value);
    expect(failed((await runGolden(folder)).items)).toEqual({ "wise-merge: merged memory": "merged" });
  });
});

type Evaluated = GoldenWise["evaluation"][number];

/** Changes the last token. */
function bump(ids: number[] | undefined): void {
  const last = ids?.pop() as number;
  ids?.push((last + 1) % 1024);
}

/** Makes a number of an object one percent larger. */
function onePercent<K extends string>(object: Record<K, number> | undefined, key: K): void {
  if (object !== undefined) object[key] *= 1.01;
}

describe("any names, any number of records", () => {
  test("one record, other names, nothing but one scenario", async () => {
    const folder = await smallFolder("one-edit-released");
    await rm(join(folder, "forward-tiny-llama3.safetensors"));
    await rename(join(folder, "tiny-llama3"), join(folder, "some-llama"));
    for (const end of ["json", "safetensors"]) {
      await rename(join(folder, `wise-one-edit-released.${end}`), join(folder, `wise-x.${end}`));
    }
    await changeWise(folder, "x", (wise) => {
      wise.model = "some-llama";
      wise.evaluation.splice(1);
      const { rewrite, rephrase, loc } = wise.evaluation[0] as Evaluated;
      wise.mean = { rewrite: rewrite.score, rephrase: rephrase.score, loc: loc.score };
    });
    await changeRecords(folder, (content) => {
      content.records.splice(1);
      content.irrelevant.splice(1);
      content.greedy = { "some-llama": content.greedy["tiny-llama3"] as number[] };
    });
    const { items } = await runGolden(folder);
    expect(failed(items)).toEqual({});
    expect(new Set(items.map(({ scenario }) => scenario))).toEqual(new Set(["some-llama", "wise-x"]));
  });
});

describe("what is not compared is named", () => {
  test("methods that are not built, with all of their files, and files that no scenario has", async () => {
    const folder = await smallFolder("one-edit-paper");
    const scenario = { method: "Conjure", model: "a-model-that-is-nowhere", options: {} };
    await writeFile(join(folder, "conjure-twice.json"), JSON.stringify(scenario));
    await writeFile(join(folder, "some-name.json"), JSON.stringify(scenario));
    for (const file of ["conjure-twice.safetensors", "conjure-twice-archive.pt", "wise-two.safetensors", "notes.txt"]) {
      await writeFile(join(folder, file), "");
    }
    await mkdir(join(folder, "conjure-twice"));
    await writeFile(join(folder, "other.json"), "[]");
    const { notBuilt, unread, passed } = await runGolden(folder);
    expect(notBuilt).toEqual([
      {
        name: "conjure-twice",
        files: ["conjure-twice", "conjure-twice-archive.pt", "conjure-twice.json", "conjure-twice.safetensors"],
      },
      { name: "some-name", files: ["some-name.json"] },
    ]);
    expect(unread).toEqual(["notes.txt", "other.json", "wise-two.safetensors"]);
    expect(passed).toBe(true);
  });

  test("a folder of nothing that is built has not passed, whatever it holds", async () => {
    const folder = await copyOf(golden, ["records.json"]);
    await writeFile(join(folder, "conjure.json"), JSON.stringify({ model: "tiny-llama3" }));
    expect(await runGolden(folder)).toMatchObject({ items: [], passed: false, notBuilt: [{ name: "conjure" }] });
  });

  test("the project's own folder has no such files", async () => {
    expect(await openGolden(golden, { methods: Object.keys(scenarios) })).toMatchObject({ notBuilt: [], unread: [] });
  });
});

describe("the checkpoint of the vectors", () => {
  const SCENARIO = "wise-one-edit-paper";

  test('lies in the folder, or in a folder "golden" beside it, with records.json', async () => {
    const beside = await copyOf(golden, ["records.json", "tiny-llama3"]);
    const folder = join(beside, "../vectors");
    await mkdir(folder);
    for (const file of filesOf(SCENARIO)) await cp(join(golden, file), join(folder, file));
    const { items } = await runGolden(folder);
    expect(failed(items)).toEqual({});
    expect(items.map(({ scenario }) => scenario)).toContain(SCENARIO);
  });

  test("is the one that --model names, with the records.json beside it, wherever that is", async () => {
    const folder = await copyOf(golden, filesOf(SCENARIO));
    const elsewhere = await copyOf(golden, ["records.json", "tiny-llama3-tied"]);
    await rename(join(elsewhere, "tiny-llama3-tied"), join(elsewhere, "another"));
    const error = await refusal(() => runGolden(folder));
    expect(error).toMatchObject({
      where: join(folder, `${SCENARIO}.json`),
      found: "tiny-llama3",
      hint: "--model FOLDER",
    });
    const right = await runGolden(folder, { model: join(golden, "tiny-llama3") });
    expect(failed(right.items)).toEqual({});
    const { items } = await runGolden(folder, { model: join(elsewhere, "another") });
    expect(Object.keys(failed(items))).toContain(`${SCENARIO}: loss ft`); // other weights
  });

  test("cannot be one for scenarios of several", async () => {
    const folder = await smallFolder("one-edit-paper", "early-stop");
    await changeWise(folder, "early-stop", (wise) => {
      wise.model = "tiny";
    });
    const error = await refusal(() => runGolden(folder, { model: join(golden, "tiny-llama3") }));
    expect(error.where).toBe("--model");
  });
});

describe("refused: what cannot be compared must not look as if it had passed", () => {
  const JSON_FILE = "wise-one-edit-paper.json";
  const TENSORS = "wise-one-edit-paper.safetensors";

  test.each([
    ["a folder that is not there", () => join(golden, "missing")],
    ["a file", () => join(golden, "records.json")],
    ["a folder without vectors", () => join(golden, "tiny-llama3")],
  ])("%s", async (_, folder) => {
    const error = await refusal(() => runGolden(folder()));
    expect(error.where).toBe(folder());
  });

  test.each<[string, (folder: string) => Promise<void>, string]>([
    [
      "a scenario of a checkpoint that is not there",
      (folder) =>
        changeWise(folder, "one-edit-paper", (wise) => {
          wise.model = "tiny";
        }),
      JSON_FILE,
    ],
    [
      "forward vectors of a checkpoint that is not there",
      (folder) => rename(join(folder, "forward-tiny-llama3.safetensors"), join(folder, "forward-tiny.safetensors")),
      "forward-tiny.safetensors",
    ],
    [
      "edits of records that are not there",
      (folder) => changeRecords(folder, ({ records }) => records.splice(0)),
      JSON_FILE,
    ],
    [
      "a number that became a text",
      (folder) =>
        changeWise(folder, "one-edit-paper", ({ edits }) => {
          Object.assign(edits[0]?.steps[3] as object, { ft: "9.05" });
        }),
      "edits.0.steps.3.ft",
    ],
    [
      "a scenario that does not say its checkpoint",
      (folder) =>
        changeWise(folder, "one-edit-paper", (wise) => {
          Object.assign(wise, { model: undefined });
        }),
      `${JSON_FILE}, model`,
    ],
    ["a tensor that is missing", (folder) => hideTensor(join(folder, TENSORS), "side.0"), TENSORS],
    ["a mask that is missing", (folder) => hideTensor(join(folder, TENSORS), "mask.0"), TENSORS],
    ["all tensors of a scenario missing", (folder) => rm(join(folder, TENSORS)), TENSORS],
  ])("%s", async (_, damage, where) => {
    const folder = await smallFolder("one-edit-paper");
    await damage(folder);
    const error = await expectTidy(() => refusal(() => runGolden(folder)));
    expect(error.where).toContain(where);
  });
});

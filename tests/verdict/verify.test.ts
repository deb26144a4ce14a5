import { join } from "node:path";
import { expect, it } from "vitest";
import { prepareNamed } from "../../src/edit/registry.js";
import { publishedProtocol, readPublished } from "../../src/published/published.js";
import { rowsOf } from "../../src/tables/tables.js";
import { publishedCell, verifyCommandOf, verifyFrame, verifyingRun } from "../../src/verdict/verify.js";
import { modelOf } from "../edit/model-of.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { recordsFile, TINY_MODEL, wiseLab } from "../run/support.js";

it("the headline is one row, and its run is that of its protocol", async () => {
  const row = await publishedCell({ source: "easyedit-issue-474" });
  expect(await verifyingRun(row)).toMatchObject({
    T: "10",
    limit: 10,
    method: "wise",
    when: "after-all",
    metrics: ["teacher-forced"],
    set: expect.arrayContaining(["n_iter=30", "act_margin=[2,20,10]", "act_ratio=0.5", 'merge_alg="ties"']),
    data: expect.stringContaining("zsre_mend_edit"),
  });
});

it("every command names its row and no other", async () => {
  const rows = await readPublished();
  for (const row of rows) {
    const [source, ...options] =
      verifyCommandOf(row, rows)
        .replace("npx wise-lab verify ", "")
        .match(/'[^']*'|\S+/g) ?? [];
    const value = (name: string) => options[options.indexOf(name) + 1]?.replaceAll("'", "");
    const given = (name: string) => (options.includes(name) ? value(name) : undefined);
    const T = given("--T");
    const request = {
      source: source as string,
      method: given("--method"),
      T: T === undefined ? undefined : Number(T),
      ofModel: given("--of-model"),
      dataSet: given("--data-set"),
      metric: given("--metric"),
    };
    if (T === "unknown") continue; // such a row cannot be run
    expect(await publishedCell(request)).toEqual(row);
  }
});

it("refuses a source, a row and several rows, with what tells them apart", async () => {
  expect((await refusal(() => publishedCell({ source: "paper" }))).expected).toContain("easyedit-issue-474");
  const none = await refusal(() => publishedCell({ source: "mirage-syn", method: "MEND" }));
  expect(none.message).toContain("no published row");
  const several = await refusal(() => publishedCell({ source: "mirage-syn", method: "ROME" }));
  expect(several.expected).toBe(
    "--method ROME --T 1 --of-model LLaMA-3-8B --data-set zsRE; or --method ROME --T 1000 --of-model LLaMA-3-8B --data-set zsRE",
  );
});

it("says in words why a row cannot be run", async () => {
  const rows = await readPublished({ model: "LLaMA-3-8B" });
  const reasons = new Set(
    await Promise.all(rows.map(async (row) => (typeof (await verifyingRun(row)) === "string" ? row.method : null))),
  );
  expect(reasons).toContain("MEMOIR");
  expect(reasons).not.toContain("ROME");
});

it.each([
  ["ladderedit-table-1", "AdaLoRA", 100, "lora", ['lora_type="adalora"']],
  ["wise-table-6", "WISE-Merge", 2000, "wise", ["retrieve=false"]],
  [
    "wise-table-11",
    "WISE, merge Slerp",
    100,
    "wise",
    ["save_freq=50", "merge_freq=100", "retrieve=false", 'merge_alg="slerp"'],
  ],
])("%s, %s: a form of a method is a run of it with the options that the source states", async (...row) => {
  const [source, form, T, method, set] = row;
  expect(await verifyingRun(await publishedCell({ source, method: form, T }))).toMatchObject({ method, set });
});

it.each([
  ["wise-table-6", "WISE-Retrieve-oracle", 2000, "a router that is told which memory holds the edit"],
  ["wise-table-7", "WISE without L_a", 10, "training without the routing loss"],
  ["wise-table-11", "WISE, merge Dare", 100, "which of the released dare merges it is"],
  ["wise-table-13", "WISE, k = 3, rho = 0.33", 1000, "after how many edits a shard ends"],
  ["wise-table-13", "WISE with knowledge anchor, k = 3, rho = 0.33", 1000, "the knowledge anchor loss"],
])("%s, %s cannot be made here: it lacks a part", async (source, method, T, lacks) => {
  const row = await publishedCell({ source, method, T });
  expect(await verifyingRun(row)).toBe(`not to be made here: ${lacks}`);
  expect(publishedProtocol(row)).toContainEqual({ field: "lacks", value: lacks });
});

it("the options of every row that can be run are such as its method takes", async () => {
  for (const model of ["LLaMA-2-7B", "LLaMA-3-8B"]) {
    for (const row of await readPublished({ model })) {
      const run = await verifyingRun(row);
      if (typeof run === "string") continue;
      const method = await prepareNamed(run.method, { preset: model.toLowerCase(), set: run.set }, modelOf(32));
      expect(method.options, row.method).toMatchObject(row.options);
    }
  }
});

it("lists what can be run with its command, the headline first, and what cannot by its reason", async () => {
  const { frame, without } = await verifyFrame(await readPublished({ model: "LLaMA-3-8B" }));
  const rows = rowsOf(frame);
  expect(rows[0]).toMatchObject({ method: "WISE", T: 10, command: "npx wise-lab verify easyedit-issue-474" });
  expect(without.get("no method of this project")).toContain("MEMOIR");
  const others = [...without.values()].flat().length;
  expect(rows.length + others).toBe((await readPublished({ model: "LLaMA-3-8B" })).length);
});

it("foretells that a row of more records than there are will not be comparable", async () => {
  const args = [
    "verify",
    "mirage-syn",
    "--method",
    "FT-M",
    "--T",
    "1",
    "--of-model",
    "LLaMA-3-8B",
    "--data-set",
    "zsRE",
  ];
  const { status, stdout, stderr } = await wiseLab(
    ...[...args, "--model", TINY_MODEL, "--preset", "tiny", "--data", await recordsFile(4)],
    ...["--as", "LLaMA-3-8B", "--set", "num_steps=1", "--dry-run"],
  );
  expect(status, stderr).toBe(0);
  expect(stdout).toContain("All 4 would take about");
  expect(stdout).toMatch(/They will not be comparable: .*records is 4, published 10000/);
});

it("runs the protocol of a row on a model at hand, and says why it is not comparable", async () => {
  const data = await recordsFile(12);
  const out = join(await temporaryFolder(), "verified");
  const args = ["verify", "easyedit-issue-474", "--model", TINY_MODEL, "--preset", "tiny", "--data", data];
  const set = ["--set", "layer=2", "--set", "n_iter=1", "--set", "use_chat_template=false"];
  const foretold = await wiseLab(...args, ...set, "--dry-run");
  expect(foretold.stdout).toContain("3 records took");
  expect(foretold.stdout).toContain("All 10 would take about");
  expect(foretold.stdout).toMatch(/not be comparable: model is tiny-llama3, published LLaMA-3-8B; dataSha256 is/);
  const { status, stdout, stderr } = await wiseLab(...args, ...set, "--out", out);
  expect(status, stderr).toBe(0);
  expect(stdout).toMatch(/rewrite\s+0\.874/);
  expect(stdout).toMatch(/verdict: not comparable: model is tiny-llama3/);
});

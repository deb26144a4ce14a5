import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { checkRun } from "../../src/run/check.js";
import { readRun } from "../../src/run/folder.js";
import { openLab } from "../../src/run/lab.js";
import { probesOf as probesOfScore } from "../../src/run/measures.js";
import { scoreEdited } from "../../src/run/score-edited.js";
import { copyOfGolden, refusal, temporaryFolder } from "../model/support.js";
import { QUICK, TINY_RECORDS, wiseLab } from "./support.js";

const DATA = { data: TINY_RECORDS };

/** A copy of a golden model with one of its matrices scaled, as if somebody had edited it. */
async function editedModel(factor: number, name = "model.layers.2.mlp.down_proj.weight"): Promise<string> {
  const folder = await copyOfGolden("tiny-llama3-tied");
  const file = join(folder, "model.safetensors");
  const bytes = await readFile(file);
  const header = 8 + Number(bytes.readBigUInt64LE(0));
  const { dtype, data_offsets: at } = JSON.parse(bytes.subarray(8, header).toString())[name];
  expect(dtype).toBe("F32");
  for (let i = header + at[0]; i < header + at[1]; i += 4) bytes.writeFloatLE(factor * bytes.readFloatLE(i), i);
  await writeFile(file, bytes);
  return folder;
}

describe("a model that was edited elsewhere", { timeout: 120_000 }, () => {
  test("is scored by what it says, and by what the model before it said", async () => {
    const before = await copyOfGolden("tiny-llama3-tied");
    const model = await editedModel(-3);
    const metrics = { metrics: ["free-em", "log-prob"], maxNewTokens: 3 };
    const run = await scoreEdited({ model, before, ...DATA, ...metrics });
    expect(run.protocol).toMatchObject({ method: "edited elsewhere", T: "all", when: "after-all", records: 6 });
    expect(run.edits).toEqual([]);

    // What each model says by itself, before an edit of its own.
    const said: Record<string, number[][]> = {};
    for (const folder of [before, model]) {
      const lab = await openLab({
        model: folder,
        hparams: { preset: "tiny", set: [...QUICK, "use_chat_template=false"] },
      });
      const plain = await lab.run({ ...DATA, T: 1 });
      said[folder] = plain.scores.flatMap((score) => probesOfScore(score, "rewrite").map(({ pre }) => pre));
      lab.close();
    }
    const rewrites = run.scores.map(({ rewrite }) => rewrite);
    expect(rewrites.map(({ pre }) => pre)).toEqual(said[before]);
    expect(rewrites.map(({ post }) => post)).toEqual(said[model]);
    expect(said[model]).not.toEqual(said[before]);
    const agree = (one: number[], other: number[]) => one.filter((token, i) => token === other[i]).length / one.length;
    for (const { rewrite, locality } of run.scores) {
      expect(rewrite.score).toBe(agree(rewrite.target, rewrite.post));
      expect(rewrite.preScore).toBe(agree(rewrite.target, rewrite.pre));
      for (const probe of locality) expect(probe.score).toBe(agree(probe.pre, probe.post));
    }
  });

  test("keeps everything where nothing was edited, whole or streamed", async () => {
    const before = await copyOfGolden("tiny-llama3-tied");
    const whole = await scoreEdited({ model: before, before, ...DATA });
    for (const { rewrite, locality } of whole.scores) {
      expect(rewrite.post).toEqual(rewrite.pre);
      for (const probe of locality) expect(probe.score).toBe(1);
    }
    const cache = join(await temporaryFolder(), "cache");
    const streamed = await scoreEdited({ model: before, before, ...DATA, weights: "streamed", cache });
    expect(streamed.scores).toEqual(whole.scores);
  });

  test("stands in a run folder that tables read", async () => {
    const [before, model] = [await copyOfGolden("tiny-llama3-tied"), await editedModel(1.5)];
    const out = join(await temporaryFolder(), "theirs");
    const words = [`--model=${model}`, `--before=${before}`, `--data=${TINY_RECORDS}`, `--out=${out}`];
    const first = await wiseLab("score", ...words);
    expect(first, first.stderr).toMatchObject({ status: 0, stdout: expect.stringContaining("edited elsewhere") });
    expect(await checkRun(out)).toBe(1);
    expect((await readRun(out)).scores).toEqual((await scoreEdited({ model, before, ...DATA })).scores);
    const again = await wiseLab("score", ...words);
    expect(again.status).toBe(0);
    const table = await wiseLab("table", out);
    expect(table, table.stderr).toMatchObject({ status: 0, stdout: expect.stringContaining("edited elsewhere") });
    const other = await wiseLab("score", ...words.with(0, `--model=${before}`));
    expect(other.stderr).toContain("modelSha256");
  });

  test("is refused where its tokenizer is another", async () => {
    const before = await copyOfGolden("tiny-llama3-tied");
    const model = await copyOfGolden("tiny-llama3-tied");
    const file = join(model, "tokenizer.json");
    const tokenizer = JSON.parse(await readFile(file, "utf8"));
    tokenizer.model.merges = tokenizer.model.merges.slice(0, 5);
    await writeFile(file, JSON.stringify(tokenizer));
    const error = await refusal(() => scoreEdited({ model, before, ...DATA }));
    expect(error.expected).toContain("one tokenizer");
  });
});

import { join } from "node:path";
import { expect, test } from "vitest";
import { openLab } from "../../src/run/lab.js";
import { precisionOf } from "../../src/run/plan.js";
import { readStudy } from "../../src/run/study.js";
import { caption } from "../../src/tables/protocols.js";
import { refusal, temporaryFolder } from "../model/support.js";
import { sampleRun } from "../tables/sample.js";
import { openQuickLab, QUICK, TINY_MODEL, TINY_RECORDS } from "./support.js";

test.each([
  ["float32", false, "float32"],
  ["bf16", false, "bf16 weights"],
  ["float32", true, "float32, bf16 products"],
  ["bf16", true, "bf16 weights, bf16 products"],
] as const)("weights %s with fast math %s are %s", (precision, fastMath, text) => {
  expect(precisionOf({ precision }, { fastMath })).toBe(text);
});

test("a run records its precision, and does not go on in another", async () => {
  const request = { data: TINY_RECORDS, T: 1, limit: 1, out: join(await temporaryFolder(), "run") };
  const lab = await openLab({ model: TINY_MODEL, hparams: { set: QUICK }, precision: "bf16" });
  const { protocol } = await lab.run(request);
  lab.close();
  expect(protocol.precision).toBe("bf16 weights");
  const other = await openQuickLab();
  const error = await refusal(() => other.run(request));
  other.close();
  expect(error).toMatchObject({ found: 'precision: "float32"', expected: 'precision: "bf16 weights"' });
});

test("the study that comes with the project is of float32", async () => {
  const study = await readStudy();
  expect(new Set(study.map(({ protocol }) => protocol.precision))).toEqual(new Set(["float32"]));
  expect(caption(study)).not.toContain("float32");
});

test("a caption names any other precision", () => {
  const packed = sampleRun({ precision: "bf16 weights" });
  expect(caption([packed])).toContain("computed with cpu, bf16 weights;");
  expect(caption([sampleRun(), packed])).toContain("computed with cpu or cpu, bf16 weights;");
});

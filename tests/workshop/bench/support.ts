import { join } from "node:path";
import { openCheckpoint } from "../../../src/model/folder.js";
import type { Fact } from "../../../src/workshop/bench/protocol.js";
import { type BenchModel, SHAPES } from "../../../src/workshop/bench/shapes.js";
import { goldenRecords, tinyOptions } from "../../edit/support.js";
import { golden } from "../../support/shared.js";

/** A golden checkpoint to be measured. */
export async function tinyBench(name: "tiny-llama3" | "tiny-llama3-tied", ...set: string[]): Promise<BenchModel> {
  const options = await tinyOptions("mask_ratio=0.5", ...set);
  const { config, close } = await openCheckpoint(join(golden, name));
  await close();
  return { shape: SHAPES.lab, folder: join(golden, name), standIn: false, config, options };
}

/** A golden record with its three probes. */
export function tinyFact(index = 0): Fact {
  const record = goldenRecords.records[index] as (typeof goldenRecords.records)[number];
  const { src, rephrase, alt, loc, loc_ans } = record;
  return {
    request: {
      record: index,
      prompt: src,
      target: alt,
      subject: null,
      irrelevant: goldenRecords.irrelevant[index] as string,
    },
    probes: [
      { kind: "rewrite", prompt: src, answer: alt },
      { kind: "rephrase", prompt: rephrase, answer: alt },
      { kind: "locality", prompt: loc, answer: loc_ans },
    ],
  };
}

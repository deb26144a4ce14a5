import { createRng, type Rng } from "../../src/core/rng.js";
import { marginOf } from "../../src/edit/overlay.js";
import type { EditTrace } from "../../src/edit/trace.js";
import type { ProbeScore, RecordScore } from "../../src/eval/types.js";
import type { RunResult } from "../../src/run/types.js";
import { sampleProtocol, sampleTrace } from "./sample.js";

const LIMIT = 20;
const CHOSEN = [1, 2, 3, 5, 8, 10, 15];
const RECORDS = 40;

/** An invented run at T = 1 with scores at chosen steps: some edits stop early, and scores rise with the steps. */
export function sampleStepsRun(): RunResult {
  const rng = createRng(11);
  const edits = Array.from({ length: RECORDS }, (_, record): EditTrace => {
    const length = Math.min(LIMIT, 7 + rng.integer(20));
    return { ...sampleTrace(rng.fork("edit", record), record, length), stoppedEarly: length < LIMIT };
  });
  const at = (edit: EditTrace, steps: number) => scoreAt(rng.fork("score", edit.record), edit, steps);
  return {
    protocol: {
      ...sampleProtocol,
      records: RECORDS,
      T: 1,
      options: { n_iter: LIMIT, act_ratio: 0.5, retrieve: true, edit_lr: 0.5, mask_ratio: 0.5 },
    },
    edits,
    scores: edits.map((edit) => at(edit, edit.steps.length)),
    stepScores: edits.flatMap((edit) =>
      CHOSEN.filter((steps) => steps < edit.steps.length).map((steps) => ({ ...at(edit, steps), steps })),
    ),
    scoreSteps: CHOSEN,
    tokens: new Map(),
    folder: null,
  };
}

function scoreAt(rng: Rng, edit: EditTrace, steps: number): RecordScore {
  const minAct = edit.steps[steps - 1]?.numbers.in_scope as number;
  const probe = (kind: "rewrite" | "rephrase" | "locality"): ProbeScore => {
    const draw = rng.fork(kind);
    const reach = { rewrite: 1, rephrase: 0.75, locality: 0.25 }[kind] * (1 + 0.25 * draw.normal());
    const patience = 1 + 5 * draw.uniform(); // steps until the answer begins to come
    const learned = Math.round(4 * (1 - Math.exp(-steps / patience)));
    const kept = kind === "locality" ? draw.integer(4) : learned;
    const target = Array.from({ length: 4 }, () => draw.integer(1000));
    const pre = target.map((id, i) => (kind === "locality" || i === 0 ? id : id + 1));
    const predicted = target.map((id, i) => (i < kept ? id : id + 2));
    const threshold = 0.5 * minAct;
    const delta = minAct * reach;
    const isSide = delta >= threshold;
    const score = isSide ? kept / 4 : kind === "locality" ? 1 : 0.25;
    return {
      prompt: `${kind} prompt of record ${edit.record}`,
      answer: `answer ${edit.record}`,
      target,
      pre,
      post: isSide ? predicted : pre,
      score,
      preScore: kind === "locality" ? null : 0.25,
      exact: score === 1,
      route: isSide ? "side" : "main",
      readings: [
        {
          variant: "side",
          margin: marginOf(delta, threshold),
          numbers: { delta, min_act: minAct },
          predicted,
          score: kept / 4,
        },
      ],
    };
  };
  return {
    record: edit.record,
    block: edit.record,
    subject: `Subject ${edit.record}`,
    rewrite: probe("rewrite"),
    rephrase: probe("rephrase"),
    locality: [probe("locality")],
    portability: [],
  };
}

import { createRng, type Rng } from "../../src/core/rng.js";
import { marginOf, UNROUTED } from "../../src/edit/overlay.js";
import type { EditStep, EditTrace } from "../../src/edit/trace.js";
import { LADDER } from "../../src/eval/metrics.js";
import type { ProbeScore, RecordScore } from "../../src/eval/types.js";
import type { Protocol, RunResult, ScoredRun } from "../../src/run/types.js";

// Invented runs with the shape of real ones, for tests of tables and figures. No number here was measured.

export const sampleProtocol: Protocol = {
  data: "invented",
  dataSha256: "0".repeat(64),
  records: 60,
  irrelevant: "invented",
  irrelevantSha256: "2".repeat(64),
  assets: {},
  T: 10,
  when: "after-all",
  metric: "teacher-forced token accuracy",
  metrics: ["teacher-forced"],
  generation: null,
  unedited: null,
  targetStop: "none",
  locality: "agreement with the model before the edit",
  chatTemplate: true,
  doubleBos: false,
  method: "wise",
  options: { act_ratio: 0.5, n_iter: 30, act_margin: [2, 20, 10], retrieve: true, released_label_cut: false },
  model: "invented",
  modelSha256: "1".repeat(64),
  seed: 7,
  backend: "cpu",
  precision: "float32",
};

/** An invented run: quality falls as more edits share a block. */
export function sampleRun(protocol: Partial<Protocol> = {}): RunResult {
  const full = { ...sampleProtocol, ...protocol };
  const perBlock = full.T === "all" ? full.records : full.T;
  const rng = createRng(full.seed).fork("sample", perBlock);
  const edits = Array.from({ length: full.records }, (_, record) => sampleTrace(rng.fork("edit", record), record));
  const scores = edits.map((edit) => {
    const block = Math.floor(edit.record / perBlock);
    const threshold =
      Math.min(...edits.filter((e) => Math.floor(e.record / perBlock) === block).map((e) => minActOf(e))) / 2;
    return sampleScore(rng.fork("score", edit.record), { edit, block, threshold, crowd: Math.log10(perBlock) });
  });
  return { protocol: full, scores, edits, stepScores: [], scoreSteps: [], tokens: new Map(), folder: null };
}

/** An invented run of blocks of 30, scored after all, with checkpoints: a rewrite is lost when ten more edits stand. */
export function sampleCheckpointRun(every = 10): RunResult {
  const run = sampleRun({ T: 30 });
  const checkpointScores = run.scores.flatMap((score) => {
    const position = (score.record % 30) + 1;
    const times = Array.from({ length: 30 }, (_, i) => i + 1).filter((edits) => edits >= position);
    return times
      .filter((edits) => edits === position || (edits % every === 0 && edits < 30))
      .map((edits) => ({ edits, ...score, rewrite: { ...score.rewrite, score: edits - position < 10 ? 1 : 0 } }));
  });
  return { ...run, checkpointScores: checkpointScores.sort((a, b) => a.block - b.block || a.edits - b.edits) };
}

/** The smallest in-scope activation that an invented edit left. */
export function minActOf({ numbers }: EditTrace): number {
  return numbers.min_act as number;
}

/** The same quality of a method whose edits always answer: with side data, and without irrelevant prompts. */
export function sampleUnroutedRun(protocol: Partial<Protocol> = {}): RunResult {
  const { scores, edits, ...run } = sampleRun(protocol);
  const probe = (score: ProbeScore): ProbeScore => ({ ...score, route: UNROUTED, readings: [] });
  return {
    ...run,
    protocol: {
      ...run.protocol,
      irrelevant: null,
      irrelevantSha256: null,
      assets: { "covariance layers.5.down": "3".repeat(64) },
      method: "rome",
      options: { layer: 5, v_num_grad_steps: 30, ...protocol.options },
    },
    scores: scores.map((score) => ({
      ...score,
      rewrite: probe(score.rewrite),
      rephrase: score.rephrase && probe(score.rephrase),
      locality: score.locality.map(probe),
    })),
    edits: edits.map(({ steps, ...edit }) => ({
      ...edit,
      numbers: {},
      steps: steps.map(({ step, loss }) => ({ step, loss, terms: { nll: 0.9 * loss, kl: 0.1 * loss }, numbers: {} })),
    })),
  };
}

/** An invented edit: losses that decay, distances that part. */
export function sampleTrace(rng: Rng, record: number, steps = 30): EditTrace {
  const speed = 0.12 + 0.1 * rng.uniform();
  const trace: EditStep[] = [];
  for (let step = 0; step < steps; step++) {
    const ft = 7.5 * Math.exp(-speed * step) * (1 + 0.08 * rng.normal()) + 0.01;
    const inScope = 26 * (1 - Math.exp(-0.2 * step)) + 0.3 * rng.normal() + 0.5;
    const outOfScope = 3.2 * step * Math.exp(-0.22 * step) + 0.5 + 0.1 * rng.uniform();
    const act = positive(outOfScope - inScope + 10) + positive(outOfScope - 2) + positive(20 - inScope);
    trace.push({
      step,
      loss: ft + act,
      terms: { ft, act },
      numbers: { in_scope: inScope, out_of_scope: outOfScope },
    });
  }
  const numbers = { min_act: (trace.at(-1) as EditStep).numbers.in_scope as number };
  const stoppedEarly = steps < 30;
  return { record, steps: trace, stoppedEarly, numbers, seconds: { frozen: 0.2, steps: 0.05 * steps } };
}

interface Situation {
  edit: EditTrace;
  block: number;
  threshold: number;
  /** log10 of the edits per block. */
  crowd: number;
}

function sampleScore(rng: Rng, { edit, block, threshold, crowd }: Situation): RecordScore {
  const forget = 0.05 + 0.12 * crowd;
  const probe = (kind: "rewrite" | "rephrase" | "locality"): ProbeScore => {
    const draw = rng.fork(kind);
    const minAct = minActOf(edit);
    const centre = { rewrite: minAct, rephrase: minAct * (0.82 - 0.06 * crowd), locality: 1.5 + 2 * crowd }[kind];
    const delta = Math.max(0.05, centre * (1 + 0.16 * draw.normal()));
    const routed = delta >= threshold;
    const good = kind === "locality" ? !routed || draw.uniform() > 0.6 : routed && draw.uniform() > forget;
    const target = Array.from({ length: 4 }, () => draw.integer(1000));
    const kept = good ? 4 : draw.integer(4);
    const pre = target.map((id, i) => (kind === "locality" || i === 0 ? id : id + 1));
    const post = target.map((id, i) => (i < kept ? id : id + 2));
    return {
      prompt: `${kind} prompt of record ${edit.record}`,
      answer: `answer ${edit.record}`,
      target,
      pre,
      post,
      score: kept / 4,
      preScore: kind === "locality" ? null : 0.25,
      exact: kept === 4,
      route: routed ? "side" : "main",
      readings: [
        {
          variant: "side",
          margin: marginOf(delta, threshold),
          numbers: { delta, min_act: 2 * threshold },
          predicted: post,
          score: kept / 4,
        },
      ],
    };
  };
  return {
    record: edit.record,
    block,
    subject: `Subject ${edit.record}`,
    rewrite: probe("rewrite"),
    rephrase: probe("rephrase"),
    locality: [probe("locality")],
    portability: [],
  };
}

function positive(x: number): number {
  return Math.max(0, x);
}

/** An invented run with the metrics of the ladder: the less help, the worse. */
export function sampleLadder(protocol: Partial<Protocol>): ScoredRun {
  const { protocol: full, scores } = sampleRun({ ...protocol, metrics: LADDER });
  const at = (rung: number) => sampleRun({ ...protocol, seed: 7 + rung, T: 10 + 10 * rung }).scores;
  const under = LADDER.slice(1).map((name, i) => [name, at(i + 1)] as const);
  return { protocol: full, scores, under: Object.fromEntries(under) };
}

import { mean } from "../core/stats.js";
import { agreement, bare, sameTokens, wordEntropy } from "./compare.js";
import type { Seen, Written } from "./types.js";

/** The probe that something was seen of. */
export interface Asked {
  /** Expected, as a text and as tokens. */
  answer: string;
  target: readonly number[];
  /** For locality, where nothing shall have changed: what was seen before the edit. Null where the answer counts. */
  before: Seen | null;
}

/** Parts of what is seen of an answer that cost something to see. */
export type Need = "logp" | "written";

/** A number for what is seen of an answer. A record has the mean of its probes of a kind, and a run the mean of its records. */
export interface Metric {
  /** On the command line and in protocols: "free-em". */
  name: string;
  /** In tables and captions, after "metric: ". */
  title: string;
  meaning: string;
  /** The parts it reads, but for the arg max tokens, which are always seen. */
  needs: readonly Need[];
  /** Least and largest value; null where there is no bound. */
  range: readonly [number | null, number | null];
  better: "higher" | "lower";
  /** Null where the probe has none. */
  of(seen: Seen, asked: Asked): number | null;
}

const meanLogp = ({ logp }: Seen) => (logp === undefined ? null : mean([...logp]));
const SURE = Math.log(0.8);
const CLIP = 100;

const SHARE = { range: [0, 1], better: "higher" } as const;

function perplexity(seen: Seen): number | null {
  const logp = meanLogp(seen);
  return logp === null ? null : Math.exp(-logp);
}

/** 1 where two free answers are the same, token by token. */
function sameAnswer(one: Written | undefined, other: Written | undefined): 0 | 1 | null {
  if (one === undefined || other === undefined) return null;
  return sameTokens(one.tokens.slice(0, one.end), other.tokens.slice(0, other.end));
}

/** Every metric, in the order of tables: the rungs of the ladder from the mildest to the hardest, then the others. */
const all: readonly Metric[] = [
  {
    name: "teacher-forced",
    title: "teacher-forced token accuracy",
    meaning: "share of the answer's tokens predicted, each behind the answer's own tokens before it",
    needs: [],
    ...SHARE,
    of: ({ predicted }, { target, before }) =>
      predicted === undefined ? null : agreement(predicted, before?.predicted ?? target),
  },
  {
    name: "autoregressive",
    title: "tokens of a free answer of the right length",
    meaning: "share of the answer's tokens written freely, each behind what was written before it",
    needs: ["written"],
    ...SHARE,
    of: ({ written }, { target, before }) =>
      written === undefined
        ? null
        : agreement(written.tokens, before?.written?.tokens.slice(0, target.length) ?? target),
  },
  {
    name: "em-gold-length",
    title: "exact match at the right length",
    meaning: "1 where a free answer, cut at the length of the expected one, is it token by token",
    needs: ["written"],
    ...SHARE,
    of: ({ written }, { target, before }) => {
      if (written === undefined) return null;
      const wanted = before?.written?.tokens.slice(0, target.length) ?? target;
      return sameTokens(written.tokens.slice(0, wanted.length), wanted);
    },
  },
  {
    name: "free-em",
    title: "exact match of the free answer",
    meaning:
      "1 where a free answer, up to where it ends by itself, is the expected one but for case, punctuation and articles; of locality, where it is the one before the edit token by token",
    needs: ["written"],
    ...SHARE,
    of: ({ written }, { answer, before }) => {
      if (written === undefined) return null;
      if (before === null) return bare(written.text) === bare(answer) ? 1 : 0;
      return sameAnswer(written, before.written);
    },
  },
  {
    name: "free-judge",
    title: "free generation, judged by a language model",
    meaning: "1 where the judge takes a free answer, up to where it ends by itself, for right; of locality as free-em",
    needs: ["written"],
    ...SHARE,
    of: ({ written }, { before }) => {
      if (before !== null) return sameAnswer(written, before.written);
      return written?.right === undefined ? null : Number(written.right);
    },
  },
  {
    name: "exact-match",
    title: "teacher-forced exact match",
    meaning: "1 where every token of the answer is predicted, each behind the answer's own tokens before it",
    needs: [],
    ...SHARE,
    of: ({ predicted }, { target, before }) =>
      predicted === undefined ? null : sameTokens(predicted, before?.predicted ?? target),
  },
  {
    name: "log-prob",
    title: "log probability of the answer",
    meaning: "mean of log P over the answer's tokens, in nats",
    needs: ["logp"],
    range: [null, 0],
    better: "higher",
    of: meanLogp,
  },
  {
    name: "perplexity",
    title: "perplexity of the answer",
    meaning: "exp of the mean of -log P over the answer's tokens; a run has the mean of its records' perplexities",
    needs: ["logp"],
    range: [1, null],
    better: "lower",
    of: perplexity,
  },
  {
    name: "perplexity-clip-100",
    title: "perplexity of the answer, each at most 100",
    meaning: "as perplexity; of each answer 100 where it is more, as the WISE paper has it",
    needs: ["logp"],
    range: [1, CLIP],
    better: "lower",
    of: (seen) => {
      const value = perplexity(seen);
      return value === null ? null : Math.min(value, CLIP);
    },
  },
  {
    name: "sure-tokens",
    title: "tokens with a probability above 0.8",
    meaning: "share of the answer's tokens with a probability above 0.8; OOD generalisation of the temporal set",
    needs: ["logp"],
    ...SHARE,
    of: ({ logp }) => (logp === undefined ? null : mean(logp.map((value): number => (value > SURE ? 1 : 0)))),
  },
  {
    name: "fluency",
    title: "fluency",
    meaning: "entropy in bits of the word pairs and triples of 100 freely written tokens: mean of 2/3 H2 and 4/3 H3",
    needs: ["written"],
    range: [0, null],
    better: "higher",
    of: ({ written }) => (written?.whole === undefined ? null : wordEntropy(written.whole)),
  },
];

/** The metric that is always there. */
export const TEACHER_FORCED = all[0] as Metric;

/** By name. */
export const metrics: ReadonlyMap<string, Metric> = new Map(all.map((metric) => [metric.name, metric]));

/** The rungs of the ladder: what of an edit is left, the less one helps the model. */
export const LADDER: readonly string[] = ["teacher-forced", "autoregressive", "em-gold-length", "free-em"];

import { takeTurn } from "../core/errors.js";
import { tf } from "../tensor/tf.js";
import { batchOf, type CutBatch, likeliest, logitsAt, logitsNext, type Sequences } from "./cut.js";
import { batchesOf, requireTokens } from "./frozen.js";
import {
  type KeyValues,
  type LayerPass,
  layerBeforeValue,
  layerForward,
  MASKED,
  type Past,
  type Positions,
  positions,
  rotaryTables,
} from "./llama.js";
import type { LlamaModel } from "./model.js";
import type { CutPoint, Patch } from "./patch.js";

/*
 * Greedy continuations that remember what was read: every layer keeps the keys and values of its positions, and a step
 * runs one token of each sequence. All sequences go through a layer before the next one is read, so that a streamed model
 * reads its file once per token, whatever the number of sequences.
 *
 * A sequence may be continued under several voices, e.g. before and after an edit. They part behind the cut; up to there
 * the new tokens of all voices run together.
 */

/** Changes under which some sequences of a batch are continued. */
export interface Voice {
  name: string;
  /** The sequences, by their place in the batch, rising. */
  rows: readonly number[];
  /** The changes while the prompts are read. */
  patch: Patch;
  /** Those at the tokens that follow. `pick` takes them out of a tensor with a row for each sequence of the batch. */
  later: Patch;
}

export interface GenerateOptions {
  /** Nothing before it is changed. */
  cut: CutPoint;
  maxNewTokens: number;
  /** True where a sequence ends with its newest token, which stays part of it. */
  ends?: ((prompt: number, made: readonly number[]) => boolean) | undefined;
  /** The voices for a batch of prompts; the untouched model, when left out. */
  decide?: ((batch: CutBatch) => Promise<{ voices: readonly Voice[]; dispose(): void }>) | undefined;
  signal?: AbortSignal | undefined;
}

/** A prompt continued under a voice. */
export interface Continuation {
  /** Its place among the prompts. */
  prompt: number;
  voice: string;
  /** The new tokens. */
  tokens: number[];
}

/** Positions of one batch, those to be written included: bounds the memory of its passes. Keys and values stay for all batches. */
const GENERATE_TOKENS = 4096;

/**
 * Continues prompts greedily: the arg max token at each step. A sequence also ends where the model has no more positions.
 * @param prompts token ids, one list per sequence
 * @returns for every prompt its continuations, voice by voice
 * @throws {RefusedInput} for prompts that do not fit the model; {LabFailure} when a logit is NaN
 */
export async function generate(
  model: LlamaModel,
  prompts: Sequences,
  options: GenerateOptions,
): Promise<Continuation[]> {
  const { cut, maxNewTokens, decide = untouched, signal } = options;
  for (const tokens of prompts) requireTokens(model, tokens);
  model.requireCut(cut);
  if (maxNewTokens === 0) return [];
  const lengths = prompts.map(({ length }) => ({ length: length + maxNewTokens }));
  const streams = [...batchesOf(lengths, GENERATE_TOKENS)].map(([start, end]) =>
    newStream(model, prompts.slice(start, end), start),
  );
  const decided: { dispose(): void }[] = [];
  const made: Thread[] = [];
  const ended = ({ prompt, tokens }: Thread) => {
    const full = (prompts[prompt] as readonly number[]).length + tokens.length >= model.config.maxPositions;
    return full || tokens.length >= maxNewTokens || (options.ends?.(prompt, tokens) ?? false);
  };
  try {
    for (const stream of streams) await enterPrompts(model, stream);
    await throughFrozen(model, streams, { cut, signal });
    for (const stream of streams) {
      const batch = batchAt(model, stream, cut);
      try {
        const choice = await decide(batch);
        decided.push(choice);
        made.push(...(await begin(model, stream, { batch, voices: choice.voices })));
      } finally {
        batch.dispose();
      }
    }
    for (;;) {
      for (const stream of streams) close(stream, ended);
      const open = streams.filter(({ voices }) => voices.length > 0);
      if (open.length === 0) break;
      for (const stream of open) await enterTokens(model, stream);
      await throughFrozen(model, open, { cut, signal });
      for (const stream of open) await goOn(model, stream, cut);
    }
  } finally {
    for (const stream of streams) disposeStream(stream);
    for (const choice of decided) choice.dispose();
  }
  return made.sort((a, b) => a.prompt - b.prompt).map(({ prompt, voice, tokens }) => ({ prompt, voice, tokens }));
}

/** A sequence under a voice. */
interface Thread extends Continuation {
  /** Tokens of its prompt. */
  length: number;
}

/** The open threads of a voice: a row each. */
interface OpenVoice {
  voice: Voice;
  threads: Thread[];
  /** The place of each thread's prompt in the batch. */
  rows: number[];
  /** Of every layer; those behind the cut are in use. */
  past: Past[];
}

/** A batch of prompts on its way, with all that was read of it. */
interface Stream {
  prompts: Sequences;
  /** The place of its first prompt among all. */
  start: number;
  /** Tokens of its longest prompt: the others are padded. */
  length: number;
  voices: OpenVoice[];
  /** Of every layer; those up to the cut are in use. A row for each prompt and, from the first new token on, for each open thread. */
  past: Past[];
  /** Tensors of the step that is under way. */
  step: Step | null;
}

interface Step {
  at: Positions;
  /** The stream where the next layer takes it or, at the value matrix, after its attention. */
  x: tf.Tensor2D;
  mlpIn: tf.Tensor2D | null;
}

const noPast = ({ config }: LlamaModel): Past[] => Array.from({ length: config.layers }, () => ({ seen: null }));

const untouched: NonNullable<GenerateOptions["decide"]> = async ({ lengths }) => ({
  voices: [{ name: "main", rows: lengths.map((_, row) => row), patch: [], later: [] }],
  dispose: () => {},
});

function newStream(model: LlamaModel, prompts: Sequences, start: number): Stream {
  const length = Math.max(...prompts.map((tokens) => tokens.length));
  return { prompts, start, length, voices: [], past: noPast(model), step: null };
}

/** Begins the step that reads the prompts. */
async function enterPrompts(model: LlamaModel, stream: Stream): Promise<void> {
  const { prompts, length } = stream;
  const ids = prompts.flatMap((tokens) => [...tokens, ...new Array<number>(length - tokens.length).fill(0)]);
  const x = await model.embed(ids);
  stream.step = { at: positions(model.config, length), x, mlpIn: null };
}

/** Begins the step that reads the newest token of every open thread. */
async function enterTokens(model: LlamaModel, stream: Stream): Promise<void> {
  const threads = stream.voices.flatMap((voice) => voice.threads);
  const x = await model.embed(threads.map(({ tokens }) => tokens.at(-1) as number));
  stream.step = { at: newestPositions(model, threads, stream.length), x, mlpIn: null };
}

/** Position of the newest token of each thread. It sees its prompt, whose padding it does not, and its other new tokens. */
function newestPositions({ config }: LlamaModel, threads: readonly Thread[], longest: number): Positions {
  const n = threads.length;
  const made = (threads[0] as Thread).tokens.length; // the same for all
  const S = longest + made;
  const causal = new Float32Array(n * S);
  for (const [row, { length }] of threads.entries()) causal.fill(MASKED, row * S + length, row * S + longest);
  const { cos, sin } = rotaryTables(
    config,
    threads.map(({ length }) => length + made - 1),
  );
  const shape: [number, number, number, number] = [n, 1, 1, config.headDim];
  return {
    length: 1,
    cos: tf.tensor4d(cos, shape),
    sin: tf.tensor4d(sin, shape),
    causal: tf.tensor4d(causal, [n, 1, 1, S]),
  };
}

/** Takes the steps of all streams through the layers up to the cut; each layer is lent once. */
async function throughFrozen(
  model: LlamaModel,
  streams: readonly Stream[],
  { cut, signal }: Pick<GenerateOptions, "cut" | "signal">,
): Promise<void> {
  for (let index = 0; index < cut.layer + (cut.at === "mlpIn" ? 1 : 0); index++) {
    await model.withLayer(index, async (weights) => {
      for (const { step, past } of streams) {
        await takeTurn(signal, "generation");
        const now = step as Step;
        const pass: LayerPass = { at: now.at, past: past[index] };
        const before = now.x;
        if (index < cut.layer) now.x = layerForward(before, weights, model.config, pass);
        else {
          const { stream, mlpIn } = layerBeforeValue(before, weights, model.config, pass);
          Object.assign(now, { x: stream, mlpIn });
        }
        before.dispose();
      }
    });
  }
  await takeTurn(signal, "generation");
}

/** The prompts at the cut. The batch takes over the tensors of the step. */
function batchAt(model: LlamaModel, stream: Stream, point: CutPoint): CutBatch {
  const { x, mlpIn, at } = stream.step as Step;
  stream.step = null;
  tf.dispose([at.cos, at.sin, at.causal]);
  const lengths = stream.prompts.map((tokens) => tokens.length);
  return batchOf(model, { point, lengths, promptTokens: lengths, answers: "generated", stream: x, mlpIn });
}

/** Reads the prompts behind the cut under every voice. @returns the threads, each with its first token */
async function begin(
  model: LlamaModel,
  stream: Stream,
  { batch, voices }: { batch: CutBatch; voices: readonly Voice[] },
): Promise<Thread[]> {
  for (const voice of voices) {
    const rows = [...voice.rows];
    const open: OpenVoice = { voice, threads: [], rows, past: noPast(model) };
    stream.voices.push(open);
    const spots = rows.map((row) => ({ row, position: (batch.lengths[row] as number) - 1 }));
    const tokens = await likeliest(() => logitsAt(model, batch, { patch: voice.patch, spots, past: open.past }));
    open.threads = rows.map((row, i) => ({
      prompt: stream.start + row,
      voice: voice.name,
      length: batch.lengths[row] as number,
      tokens: [tokens[i] as number],
    }));
  }
  keepRows(
    stream.past,
    stream.voices.flatMap(({ rows }) => rows),
  );
  return stream.voices.flatMap(({ threads }) => threads);
}

/** Reads the newest tokens behind the cut, and adds to each thread the one that follows. */
async function goOn(model: LlamaModel, stream: Stream, point: CutPoint): Promise<void> {
  const { at, x, mlpIn } = stream.step as Step;
  let start = 0;
  for (const { voice, threads, rows, past } of stream.voices) {
    const n = threads.length;
    const own = <T extends tf.Tensor>(all: T) => tf.slice(all, start, n);
    const tokens = await likeliest(() => {
      const here = { length: 1, cos: own(at.cos), sin: own(at.sin), causal: own(at.causal) };
      const next = { point, stream: own(x), mlpIn: mlpIn && own(mlpIn), at: here, past };
      const places = tf.tensor1d(rows, "int32");
      return logitsNext(model, next, { patch: voice.later, pick: (perRow) => tf.gather(perRow, places) });
    });
    for (const [i, thread] of threads.entries()) thread.tokens.push(tokens[i] as number);
    start += n;
  }
  disposeStep(stream);
}

/** Lets go of the threads that have ended. */
function close(stream: Stream, ended: (thread: Thread) => boolean): void {
  const staying: number[] = [];
  let start = 0;
  for (const open of stream.voices) {
    const own = [...open.threads.keys()].filter((i) => !ended(open.threads[i] as Thread));
    staying.push(...own.map((i) => start + i));
    start += open.threads.length;
    if (own.length === open.threads.length) continue;
    keepRows(open.past, own);
    open.threads = own.map((i) => open.threads[i] as Thread);
    open.rows = own.map((i) => open.rows[i] as number);
  }
  if (staying.length < start) keepRows(stream.past, staying);
  stream.voices = stream.voices.filter(({ threads }) => threads.length > 0);
}

/** Takes some rows of every memory, in this order. */
function keepRows(past: readonly Past[], rows: readonly number[]): void {
  for (const layer of past) {
    const { seen } = layer;
    if (seen === null) continue;
    layer.seen = rows.length === 0 ? null : taken(seen, rows);
    tf.dispose([seen.k, seen.v]);
  }
}

function taken({ k, v }: KeyValues, rows: readonly number[]): KeyValues {
  return tf.tidy(() => {
    const places = tf.tensor1d([...rows], "int32");
    return { k: tf.gather(k, places), v: tf.gather(v, places) };
  }) as unknown as KeyValues;
}

function disposeStep(stream: Stream): void {
  const { step } = stream;
  if (step === null) return;
  const { at, x, mlpIn } = step;
  tf.dispose([at.cos, at.sin, at.causal, x, ...(mlpIn === null ? [] : [mlpIn])]);
  stream.step = null;
}

function disposeStream(stream: Stream): void {
  disposeStep(stream);
  for (const past of [stream.past, ...stream.voices.map((open) => open.past)]) keepRows(past, []);
}

import { type Decision, MAIN, type Overlay, type Reading, type RoutedBatch } from "../edit/overlay.js";
import { generateAfresh } from "../model/afresh.js";
import type { CutStore } from "../model/cut-store.js";
import { generate, type Voice } from "../model/generate.js";
import type { LlamaModel } from "../model/model.js";
import { encodeQuestion, type PromptStyle } from "../model/prompt.js";
import type { Routing } from "./generation.js";

/** Tokens that the model writes after a prompt. */
export interface FreeAnswer {
  /** The new tokens, with that at which it ended. */
  tokens: number[];
  /** The variant that wrote: "main" is the untouched model. Where it is decided at each step, the one that began. */
  route: string;
  readings: readonly Reading[];
  /** The new tokens under each variant that was asked for beside, by its name. */
  under: ReadonlyMap<string, number[]>;
}

export interface AnswerSetting {
  model: LlamaModel;
  maxNewTokens: number;
  /** True where the answer to a prompt ends with its newest token. */
  ends(prompt: number, made: readonly number[]): boolean;
  routing: Routing;
  /** For "each-step": the store of what is read again and again. */
  cuts: CutStore;
  /** Variants that write beside the one that answers, where they could: e.g. `MAIN`. None, when left out. */
  beside?: ((decision: Decision, routed: RoutedBatch, row: number) => readonly string[]) | undefined;
  signal?: AbortSignal | undefined;
}

/** Lets the model answer prompts greedily under edits. Reads only. @param prompts token ids */
export function freeAnswers(
  prompts: readonly (readonly number[])[],
  overlay: Overlay,
  setting: AnswerSetting,
): Promise<FreeAnswer[]> {
  return setting.routing === "once"
    ? decidedOnce(prompts, overlay, setting)
    : decidedEachStep(prompts, overlay, setting);
}

async function decidedOnce(
  prompts: readonly (readonly number[])[],
  overlay: Overlay,
  { model, maxNewTokens, ends, beside = () => [], signal }: AnswerSetting,
): Promise<FreeAnswer[]> {
  const decisions: Decision[] = [];
  const written = await generate(model, prompts, {
    cut: overlay.cut,
    maxNewTokens,
    ends,
    signal,
    async decide(batch) {
      const routed = await overlay.route(batch);
      const rows = new Map<string, number[]>();
      for (const [row, decision] of routed.decisions.entries()) {
        decisions.push(decision);
        for (const variant of new Set([decision.variant, ...beside(decision, routed, row)])) {
          rows.set(variant, [...(rows.get(variant) ?? []), row]);
        }
      }
      const voices = [...rows].map(([name, own]): Voice => ({ name, rows: own, ...changesOf(routed, name) }));
      return { voices, dispose: routed.dispose };
    },
  });
  const under = prompts.map(() => new Map<string, number[]>());
  for (const { prompt, voice, tokens } of written) under[prompt]?.set(voice, tokens);
  return decisions.map(({ variant: route, readings }, i) => {
    const own = under[i] as Map<string, number[]>;
    return { tokens: own.get(route) ?? [], route, readings, under: own };
  });
}

function changesOf(routed: RoutedBatch, variant: string): Pick<Voice, "patch" | "later"> {
  if (variant === MAIN) return { patch: [], later: [] };
  return { patch: routed.patch(variant), later: routed.later(variant) };
}

/** One prompt at a time: at every token the sequences of a batch could be answered by different variants. */
async function decidedEachStep(
  prompts: readonly (readonly number[])[],
  overlay: Overlay,
  { model, maxNewTokens, ends, cuts, signal }: AnswerSetting,
): Promise<FreeAnswer[]> {
  const answers: FreeAnswer[] = [];
  for (const [i, prompt] of prompts.entries()) {
    const decisions: Decision[] = [];
    const [tokens] = (await generateAfresh(model, [prompt], {
      maxNewTokens,
      ends: (_, made) => ends(i, made),
      cuts,
      signal,
      edited: {
        cut: overlay.cut,
        async patch(batch) {
          const routed = await overlay.route(batch);
          const [decision] = routed.decisions as [Decision];
          decisions.push(decision);
          return { patch: changesOf(routed, decision.variant).patch, dispose: routed.dispose };
        },
      },
    })) as [number[]];
    const { variant: route, readings } = decisions[0] as Decision;
    answers.push({ tokens, route, readings, under: new Map([[route, tokens]]) });
  }
  return answers;
}

/** A free answer to a question, with the variant that gave it. */
export interface Answer {
  question: string;
  text: string;
  /** Up to the model's end of text, which is left out. */
  tokens: number[];
  /** The variant that answered: "main" is the untouched model. */
  route: string;
  readings: readonly Reading[];
}

/** Asks a question and lets the model answer greedily, up to its end token. */
export async function ask(
  question: string,
  overlay: Overlay,
  setting: Omit<AnswerSetting, "ends" | "beside"> & { style: PromptStyle },
): Promise<Answer> {
  const { tokenizer, config } = setting.model;
  const isEnd = (token: number | undefined) => token !== undefined && config.eosTokenIds.includes(token);
  const prompt = encodeQuestion(tokenizer, question, setting.style);
  const ends = (_: number, made: readonly number[]) => isEnd(made.at(-1));
  const [answer] = (await freeAnswers([prompt], overlay, { ...setting, ends })) as [FreeAnswer];
  const tokens = isEnd(answer.tokens.at(-1)) ? answer.tokens.slice(0, -1) : answer.tokens;
  const { route, readings } = answer;
  return { question, text: tokenizer.decode(tokens, { skipSpecial: true }), tokens, route, readings };
}

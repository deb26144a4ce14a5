import { show } from "../core/errors.js";
import type { EditRecord } from "../data/records.js";
import type { Guide } from "../edit/contract.js";
import { MAIN, type Reading } from "../edit/overlay.js";
import type { EditTrace } from "../edit/trace.js";
import type { Answer } from "../eval/answers.js";
import { recordUnder } from "../explore/recordUnder.js";
import { filesInMemory } from "../model/files.js";
import { readModel } from "../model/model.js";
import { type MeasureName, probesOf, valuesOf } from "../run/measures.js";
import type { ScoredRecord } from "../run/types.js";
import { startInPage } from "../tensor/in-page.js";
import { openPage, type PageLab } from "./lab.js";
import type {
  AnswerView,
  CallName,
  Chosen,
  Dot,
  Example,
  MethodView,
  News,
  PageTexts,
  ReadingView,
  Received,
  Sent,
  Standing,
  TableRow,
  TableView,
} from "./messages.js";
import { pageMethods } from "./methods.js";
import { unpack } from "./packed.js";

type Handlers = { [N in CallName]: (sent: Sent<N>, signal: AbortSignal) => Promise<Received<N>> };

interface Run {
  T: number;
  scores: ScoredRecord[];
}

/** Everything that the page's worker does, call by call. */
export function createEngine(tell: (news: News) => void): Handlers {
  let lab: PageLab | null = null;
  let records: readonly EditRecord[] = [];
  let runs: Run[] = [];

  function ready(): PageLab {
    if (lab === null) throw new Error("the model is not loaded yet");
    return lab;
  }

  return {
    async open({ content, backend }) {
      const started = performance.now();
      tell({ about: "opening", line: "starting the backend" });
      const chosen = await startInPage(backend, await unpack(content.wasm));
      tell({ about: "opening", line: "unpacking the model" });
      const texts = JSON.parse(new TextDecoder().decode(await unpack(content.texts))) as PageTexts;
      const files = new Map<string, Uint8Array>();
      for (const [name, packed] of Object.entries(content.model)) files.set(name, await unpack(packed));
      tell({ about: "opening", line: "loading the model" });
      const model = await readModel(filesInMemory(texts.modelName, files));
      records = texts.records;
      lab = await openPage({
        model,
        irrelevant: texts.irrelevant,
        templates: texts.templates,
        texts: {
          presetPath: (method, preset) => `${method}/${preset}`,
          read: async (path) => texts.presets[path] as string,
        },
      });
      return {
        backend: chosen.name,
        card: chosen.card,
        model: texts.modelName,
        sha256: model.sha256,
        parameters: parametersOf(files.get("model.safetensors")),
        methods: pageMethods.map(methodView),
        examples: records.map(exampleOf),
        seconds: secondsSince(started),
      };
    },
    async choose({ method, set }, signal) {
      await ready().choose(method, set, signal);
      runs = [];
      return chosenView(ready());
    },
    async ask({ question }, signal) {
      const started = performance.now();
      const answer = await ready().byHand.ask(question, { signal });
      return answerView(ready(), answer, secondsSince(started));
    },
    async edit({ prompt, target, irrelevant }, signal) {
      const started = performance.now();
      const { method, byHand } = ready();
      const limit = method.method.stepLimit;
      const most = limit === undefined ? null : Number(method.options[limit]);
      const trace = await byHand.edit(
        { prompt, target, ...(irrelevant !== null && { irrelevant }) },
        {
          signal,
          onStep: (step) => {
            const numbers = method.method.endNumbers?.(step) ?? {};
            tell({ about: "step", step: { ...step, limit: most, guides: guidesOf(ready(), numbers) } });
          },
        },
      );
      return {
        steps: trace.steps.length,
        stoppedEarly: trace.stoppedEarly,
        guides: guidesOf(ready(), trace.numbers),
        seconds: secondsSince(started),
        standing: await standing(ready()),
      };
    },
    async rollback() {
      ready().byHand.rollback();
      return standing(ready());
    },
    async save() {
      const { byHand, method } = ready();
      const { sha256, chunks } = await byHand.file();
      const bytes = new Uint8Array(await new Blob([...chunks] as BlobPart[]).arrayBuffer());
      return { bytes, sha256, name: `${method.name}-${sha256.slice(0, 12)}.safetensors` };
    },
    async restore({ name, bytes }, signal) {
      await ready().restore(name, bytes, signal);
      runs = [];
      return { chosen: chosenView(ready()), standing: await standing(ready()) };
    },
    async run({ records: count, T }, signal) {
      const used = records.slice(0, count);
      const made: Run[] = [];
      for (const each of T) {
        const onProgress = (done: { edited: number; scored: number }) =>
          tell({ about: "run", progress: { T: each, records: used.length, ...done } });
        made.push({ T: each, scores: await ready().run(used, each, { signal, onProgress }) });
      }
      runs = made;
      return tableView(ready(), runs, null);
    },
    at: async ({ value }) => tableView(ready(), runs, value),
  };
}

const secondsSince = (started: number) => (performance.now() - started) / 1000;

/** Numbers in a file of bf16 weights; its header is small beside them. */
function parametersOf(weights: Uint8Array | undefined): number {
  return (weights?.length ?? 0) / 2;
}

function methodView({ name, title, about, source }: MethodView): MethodView {
  return { name, title, about, source };
}

function exampleOf({ prompt, target, rephrase, locality }: EditRecord): Example {
  return { prompt, target, rephrase: rephrase ?? "", unrelated: locality[0]?.prompt ?? "" };
}

function chosenView({ method }: PageLab): Chosen {
  const { terms = {}, measured, router } = method.method;
  const key = router?.inference?.key;
  return {
    ...methodView(method.method),
    options: method.options,
    terms,
    measured: measured === undefined ? null : { title: measured.title, names: measured.names },
    inference: key === undefined ? null : { key, value: Number(method.options[key]) },
  };
}

async function standing({ byHand }: PageLab): Promise<Standing> {
  const { edits } = byHand;
  return { edits, sha256: edits === 0 ? null : await byHand.hash() };
}

function guidesOf({ method }: PageLab, numbers: EditTrace["numbers"]): Guide[] {
  const { measured } = method.method;
  return measured?.guides(method.options, numbers).filter(({ value }) => Number.isFinite(value)) ?? [];
}

function answerView(lab: PageLab, { question, text, route, readings }: Answer, seconds: number): AnswerView {
  const { router } = lab.method.method;
  const edits = lab.byHand.edits > 0;
  const called = (variant: string) => router?.called(variant) ?? "the edited model";
  return {
    question,
    text: text.trim(),
    by: route === MAIN ? "the untouched model" : called(route),
    edited: route !== MAIN,
    readings: edits ? readings.map((reading) => readingView(lab, reading, called(reading.variant))) : [],
    seconds,
  };
}

function readingView(lab: PageLab, { margin, numbers }: Reading, called: string): ReadingView {
  const known = lab.method.method.router?.numbers ?? {};
  const named = Object.entries(numbers).map(([name, value]) => `${known[name]?.symbol ?? name} ${threeDigits(value)}`);
  const levels = guidesOf(lab, numbers).filter(({ kind }) => kind === "threshold");
  return {
    called,
    margin,
    numbers: [...named, ...levels.map(({ name, value }) => `${name} ${threeDigits(value)}`)].join(", "),
  };
}

function threeDigits(value: number): string {
  return Math.abs(value) >= 1e6 ? show(value) : String(Number(value.toPrecision(3)));
}

/** The runs under a value of the router's option; as they were made, where there is none. */
function tableView({ method }: PageLab, runs: readonly Run[], value: number | null): TableView {
  const inference = method.method.router?.inference;
  const own = inference === undefined ? null : Number(method.options[inference.key]);
  const under = inference && value !== null ? { ...method.options, [inference.key]: value } : method.options;
  const at = runs.map(({ T, scores }) => ({
    T,
    scores: inference ? scores.map((score) => recordUnder(score, inference, under)) : scores,
  }));
  const last = at.at(-1);
  const dots = (["rewrite", "rephrase", "locality"] as const).flatMap((kind) =>
    (last?.scores ?? []).flatMap((score) =>
      probesOf(score, kind).flatMap(({ readings, route }): Dot[] =>
        inference === undefined || readings.length === 0
          ? []
          : [{ kind, turn: inference.turn(readings, under), edited: route !== MAIN }],
      ),
    ),
  );
  return { rows: at.map(tableRow), dots, value: value ?? own };
}

function tableRow({ T, scores }: Run): TableRow {
  const meanOf = (name: MeasureName): number | null => {
    const values = valuesOf(scores, name);
    return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
  };
  return {
    T,
    records: scores.length,
    rewrite: meanOf("rewrite"),
    rephrase: meanOf("rephrase"),
    locality: meanOf("locality"),
    average: meanOf("average"),
  };
}

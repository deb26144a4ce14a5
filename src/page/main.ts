import { html } from "../report/app/html.js";
import { type CallEnded, type Client, startClient } from "./client.js";
import { byId, input, say, settingsIn, wishOf } from "./form.js";
import { type LinkedEdit, linkOf, readLink } from "./link.js";
import type { Chosen, News, Opened, PageContent, Standing, StepView, TableView } from "./messages.js";
import { unpack } from "./packed.js";
import { type Asked, answersTable, curves, scoresTable, strip } from "./views.js";

/* The page: what is asked of the worker, and what is shown of it. */

/** Records of a run, and its values of T. */
const RUN = { records: 10, T: [1, 10] };

interface State {
  opened: Opened;
  chosen: Chosen;
  standing: Standing;
  asked: Asked[];
  steps: StepView[];
  linked: LinkedEdit | null;
}

/** Place of the fact that is edited first, as in `npm start`. */
const FIRST = "1";

/** Buttons that start work; while some is at hand, only stopping is possible. */
const STARTERS = ["rollback", "save", "link", "run", "file", "method", "example", "value"];

async function start(): Promise<void> {
  const began = performance.now();
  if (document.readyState === "loading") {
    await new Promise((whole) => document.addEventListener("DOMContentLoaded", whole, { once: true }));
  }
  say("status", "Starting the worker …");
  const script = new TextDecoder().decode(await unpack(dataOf("worker")));
  let state: State | null = null;
  const client = startClient(script, (news) => {
    if (news.about === "opening") say("status", `Loading: ${news.line} …`);
    else if (state !== null) showNews(state, news);
  });
  const content: PageContent = {
    model: Object.fromEntries(
      [...document.querySelectorAll<HTMLElement>("script[data-model]")].map((part) => [
        part.dataset.model as string,
        part.textContent as string,
      ]),
    ),
    wasm: dataOf("wasm"),
    texts: dataOf("texts"),
  };
  const wish = new URLSearchParams(location.search).get("backend");
  const backend = wish === "wasm" || wish === "webgpu" ? wish : "auto";
  const opened = await client.call("open", { content, backend });
  for (const part of document.querySelectorAll("script[type='text/plain']")) part.remove(); // 20 MB of text
  const first = opened.methods[0] as Opened["methods"][number];
  const chosen = await client.call("choose", { method: first.name, set: [] });
  state = { opened, chosen, standing: { edits: 0, sha256: null }, asked: [], steps: [], linked: null };
  showOpened(state, (performance.now() - began) / 1000);
  await wire(client, state);
}

function dataOf(name: string): string {
  return byId(`data-${name}`).textContent as string;
}

function showOpened({ opened }: State, seconds: number): void {
  const where = opened.backend === "webgpu" ? `WebGPU (${opened.card})` : "WebAssembly";
  const millions = (opened.parameters / 1e6).toFixed(1);
  say("status", `${opened.model}, ${millions} million parameters, on ${where}. Ready after ${seconds.toFixed(1)} s.`);
  say(
    "foot",
    `Model ${opened.model}, sha256 ${opened.sha256}. A made-up world: its names say nothing about the real one.`,
  );
  const options = opened.methods.map(({ name, title }) => html`<option value="${name}">${title}</option>`);
  byId("method").innerHTML = html`${options}`.html;
  const examples = opened.examples.map(
    ({ prompt, target }, i) => html`<option value="${i}">${prompt} → ${target}</option>`,
  );
  byId("example").innerHTML = html`${examples}<option value="">one of my own</option>`.html;
}

async function wire(client: Client, state: State): Promise<void> {
  let working = false;

  /** Runs work; whatever is refused is shown where it was asked. */
  async function work(at: string, doing: () => Promise<void>): Promise<void> {
    if (working) return;
    setWorking(true);
    try {
      await doing();
    } catch (error) {
      const { kind = "failed", message } = error as CallEnded;
      say(at, kind === "stopped" ? "Stopped. The edits are as they were before." : message);
      byId(at).classList.toggle("refused", kind !== "stopped");
    } finally {
      setWorking(false);
      showStanding(state);
    }
  }

  function setWorking(on: boolean): void {
    working = on;
    for (const id of STARTERS) input(id).disabled = on;
    for (const button of document.querySelectorAll<HTMLButtonElement>("button[type=submit]")) button.disabled = on;
    input("stop").disabled = !on;
    input("run-stop").disabled = !on;
    byId("curves").setAttribute("aria-busy", String(on));
  }

  async function askAll(): Promise<void> {
    const edited = state.standing.edits > 0;
    for (const asked of state.asked) asked.now = null;
    showAnswers(state);
    for (const asked of state.asked) {
      if (edited) asked.now = await client.call("ask", { question: asked.question });
      else asked.before ??= await client.call("ask", { question: asked.question });
      showAnswers(state);
    }
  }

  /** Takes questions into the list. Their answers before the edit are asked while none stands. */
  async function take(questions: readonly string[]): Promise<void> {
    for (const question of questions.map((text) => text.trim()).filter(Boolean)) {
      if (!state.asked.some((asked) => asked.question === question)) {
        state.asked.push({ question, before: null, now: null });
      }
    }
    await askAll();
  }

  async function choose(method: string, set: string[]): Promise<void> {
    state.chosen = await client.call("choose", { method, set });
    state.standing = { edits: 0, sha256: null };
    state.steps = [];
    byId("curves").innerHTML = "";
    byId("table").innerHTML = "";
    byId("slider").hidden = true;
    showChosen(state);
  }

  async function edit(wish: LinkedEdit): Promise<void> {
    const same = wish.method === state.chosen.name && wish.set.join(" ") === (state.linked?.set ?? []).join(" ");
    if (!same) await choose(wish.method, wish.set);
    if (state.standing.edits === 0) await take([wish.prompt, ...besides(state, wish.prompt)]);
    state.steps = [];
    say("edited", "Writing the fact …");
    const { prompt, target, irrelevant } = wish;
    const made = await client.call("edit", { prompt, target, irrelevant });
    state.standing = made.standing;
    state.linked = wish;
    const early = made.stoppedEarly ? ", where the loss had settled" : "";
    say("edited", `Written in ${made.steps} steps${early} and ${made.seconds.toFixed(1)} s.`);
    await take([wish.prompt]);
  }

  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    void work("status", () => take([input("question").value]));
  });
  byId("edit").addEventListener("submit", (event) => {
    event.preventDefault();
    void work("edited", () => edit(wishOf()));
  });
  byId("method").addEventListener("change", () => {
    void work("edited", async () => {
      await choose(input("method").value, settingsIn());
      state.linked = { ...wishOf() };
      say("edited", "");
      await askAll();
    });
  });
  byId("example").addEventListener("change", () => showExample(state));
  for (const id of ["stop", "run-stop"]) byId(id).addEventListener("click", () => client.stop());
  byId("rollback").addEventListener("click", () => {
    void work("edited", async () => {
      state.standing = await client.call("rollback", null);
      state.steps = [];
      byId("curves").innerHTML = "";
      const before = state.asked.map(({ before }) => before?.text);
      for (const asked of state.asked) asked.before = null;
      await askAll();
      const same = state.asked.every((asked, i) => before[i] === undefined || asked.before?.text === before[i]);
      say(
        "edited",
        same ? "Rolled back: word for word the answers of before." : "Rolled back: NOT the answers of before.",
      );
    });
  });
  byId("save").addEventListener("click", () => {
    void work("kept", async () => {
      const { bytes, sha256, name } = await client.call("save", null);
      const url = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
      const link = Object.assign(document.createElement("a"), { href: url, download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      say("kept", `${name}, sha256 ${sha256}. On the command line: npx wise-lab edits ${name} --ask "…"`);
    });
  });
  byId("file").addEventListener("change", () => {
    const file = input("file").files?.[0];
    if (file === undefined) return;
    void work("kept", async () => {
      const bytes = new Uint8Array(await file.arrayBuffer());
      const before = state.standing.edits > 0 ? [] : state.asked;
      for (const asked of before) asked.now = null;
      const { chosen, standing } = await client.call("restore", { name: file.name, bytes });
      Object.assign(state, { chosen, standing, steps: [], linked: null });
      byId("curves").innerHTML = "";
      showChosen(state);
      say("kept", `${file.name}: ${editsText(standing)} of ${chosen.title} restored.`);
      await askAll();
    }).finally(() => {
      input("file").value = "";
    });
  });
  byId("link").addEventListener("click", () => {
    void work("kept", async () => {
      history.replaceState(null, "", linkOf(state.linked ?? wishOf()));
      const copied = await navigator.clipboard?.writeText(location.href).then(
        () => true,
        () => false,
      );
      say(
        "kept",
        `The address of this page carries the edit now${copied ? ", and was copied" : ""}. Whoever opens it makes it anew.`,
      );
    });
  });
  byId("run").addEventListener("click", () => {
    void work("progress", async () => {
      const view = await client.call("run", RUN);
      say("progress", "");
      showTable(state, view);
    });
  });
  let moved: Promise<unknown> = Promise.resolve();
  byId("value").addEventListener("input", () => {
    const value = Number(input("value").value);
    moved = moved.then(async () => showTable(state, await client.call("at", { value })));
  });

  setWorking(false);
  input("example").value = FIRST;
  showChosen(state);
  showExample(state);
  await work("edited", async () => {
    const linked = readLink(location.hash);
    if (linked === null) {
      await take([input("prompt").value, ...besides(state, input("prompt").value)]);
      return;
    }
    input("method").value = linked.method;
    input("prompt").value = linked.prompt;
    input("target").value = linked.target;
    input("irrelevant").value = linked.irrelevant ?? "";
    input("set").value = linked.set.join(" ");
    const known = state.opened.examples.findIndex(({ prompt }) => prompt === linked.prompt);
    input("example").value = known < 0 ? "" : String(known);
    await edit(linked);
  });
  document.documentElement.dataset.ready = "true";
}

/** Questions to look at beside an edit of the project's own: in other words, and about something else. */
function besides({ opened }: State, prompt: string): string[] {
  const example = opened.examples.find((each) => each.prompt === prompt);
  return example === undefined ? [] : [example.rephrase, example.unrelated];
}

function showExample({ opened }: State): void {
  const example = opened.examples[Number(input("example").value || -1)];
  input("prompt").value = example?.prompt ?? "";
  input("target").value = example?.target ?? "";
  if (input("question").value === "") input("question").value = example?.prompt ?? "";
}

function showChosen(state: State): void {
  const { name, title, about, source, options } = state.chosen;
  input("method").value = name;
  say("about", `${title} ${about} (${source}).`);
  const rows = Object.entries(options).map(
    ([key, value]) =>
      html`<div><dt>${key}</dt><dd>${typeof value === "string" ? value : JSON.stringify(value)}</dd></div>`,
  );
  byId("options").innerHTML = html`${rows}`.html;
  showAnswers(state);
}

function showAnswers({ asked, standing }: State): void {
  byId("answers").innerHTML = answersTable(asked, standing.edits > 0).html;
}

function editsText({ edits, sha256 }: Standing): string {
  return `${edits} ${edits === 1 ? "edit" : "edits"}${sha256 === null ? "" : `, sha256 ${sha256}`}`;
}

function showStanding({ standing }: State): void {
  const none = standing.edits === 0;
  for (const id of ["rollback", "save"]) input(id).disabled = none;
  document.documentElement.dataset.edits = String(standing.edits);
  document.documentElement.dataset.sha256 = standing.sha256 ?? "";
}

function showNews(state: State, news: News): void {
  if (news.about === "step") {
    state.steps.push(news.step);
    const { step, loss, limit } = news.step;
    say("edited", `Step ${step + 1}${limit === null ? "" : ` of at most ${limit}`}: loss ${loss.toFixed(3)}`);
    byId("curves").innerHTML = curves(state.steps, state.chosen).html;
  }
  if (news.about === "run") {
    const { T, edited, scored, records } = news.progress;
    say("progress", `T = ${T}: ${edited} of ${records} records edited, ${scored} scored`);
  }
}

function showTable({ chosen }: State, view: TableView): void {
  byId("table").innerHTML = scoresTable(view).html;
  const { inference } = chosen;
  byId("slider").hidden = inference === null || view.value === null;
  if (inference === null || view.value === null) return;
  const turns = view.dots.map(({ turn }) => turn).filter(Number.isFinite);
  const slider = input("value");
  const most = Math.max(2 * inference.value, ...turns.map((turn) => Math.min(turn, 4 * inference.value)));
  slider.max = String(Number(most.toPrecision(2)));
  slider.step = String(Number(slider.max) / 200);
  slider.value = String(view.value);
  byId("value-label").textContent =
    `${inference.key} = ${Number(view.value.toPrecision(3))}: the same edits, decided anew (made with ${inference.value})`;
  byId("dots").innerHTML = strip(view.dots, { value: view.value, most: Number(slider.max), key: inference.key }).html;
}

start().catch((error: unknown) => {
  say("status", `The page cannot start: ${error instanceof Error ? error.message : String(error)}`);
  byId("status").classList.add("refused");
});

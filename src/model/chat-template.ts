import { createRequire } from "node:module";
import { join } from "node:path";
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from "node:worker_threads";
import { z } from "zod";
import { RefusedInput } from "../core/errors.js";
import { readText } from "../core/files.js";
import { checked } from "./schema.js";

/** A Jinja template that turns a conversation into the text that the model was trained on. */
export interface ChatTemplate {
  source: string;
  /** File, for messages. */
  where: string;
}

const TEMPLATE_FILE = "chat_template.jinja";

const inConfig = z
  .union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))], {
    error: "a template, or a list of {name, template}",
  })
  .nullish();

/**
 * The folder's chat template: chat_template.jinja or, where that is missing, `chat_template` of tokenizer_config.json,
 * of a list the one named "default", as Transformers chooses. Null when the model has none.
 */
export async function findChatTemplate(
  folder: string,
  names: readonly string[],
  tokenizerConfig: Record<string, unknown>,
): Promise<ChatTemplate | null> {
  if (names.includes(TEMPLATE_FILE)) {
    const where = join(folder, TEMPLATE_FILE);
    return { source: await readText(where), where };
  }
  const where = `${join(folder, "tokenizer_config.json")}: chat_template`;
  const found = checked(inConfig, tokenizerConfig.chat_template, where);
  const source = Array.isArray(found) ? found.find(({ name }) => name === "default")?.template : found;
  return source ? { source, where } : null;
}

/** Bounds of a rendering, which takes milliseconds: a template is a program, and a faulty one may never end. */
const RENDER_MS = 10_000;
const RENDER_MB = 128;

/**
 * Renders one user message and the start of the answer, as `apply_chat_template` of Transformers does
 * (trim_blocks, lstrip_blocks, add_generation_prompt). A thread of its own renders, within bounds of time and memory.
 * @param variables special tokens by name (bos_token, ...) and further variables of the template
 * @throws {RefusedInput} when the template has a fault, refuses the message or goes beyond its bounds
 */
export function renderChatTemplate(
  { source, where }: ChatTemplate,
  message: string,
  variables: Readonly<Record<string, unknown>>,
): string {
  const context = {
    messages: [{ role: "user", content: message }],
    tools: null,
    documents: null,
    add_generation_prompt: true,
    ...variables,
  };
  const { text, fault } = renderApart({ source, context });
  if (text !== undefined) return text;
  throw new RefusedInput("the chat template cannot be rendered", {
    where,
    found: fault,
    expected: `a Jinja template that takes one user message, within ${RENDER_MS / 1000} seconds and ${RENDER_MB} MB`,
  });
}

/** A template rendered, or why it is not. */
type Rendered = { text: string; fault?: undefined } | { text?: undefined; fault: string };

/** The thread's program. It answers on the port, then counts up what the other side waits for. */
const RENDERER = `
const { workerData: { port, turn, jinja } } = require("node:worker_threads");
const { Template } = require(jinja);
port.on("message", ({ source, context }) => {
  let answer;
  try { answer = { text: new Template(source).render(context) }; }
  catch (error) { answer = { fault: error instanceof Error ? error.message : String(error) }; }
  port.postMessage(answer);
  Atomics.add(turn, 0, 1);
  Atomics.notify(turn, 0);
});
`;

let renderer: { worker: Worker; port: MessagePort; turn: Int32Array } | null = null;

function startRenderer(): NonNullable<typeof renderer> {
  const { port1: port, port2 } = new MessageChannel();
  const turn = new Int32Array(new SharedArrayBuffer(4));
  const jinja = createRequire(import.meta.url).resolve("@huggingface/jinja");
  const worker = new Worker(RENDERER, {
    eval: true,
    workerData: { port: port2, turn, jinja },
    transferList: [port2],
    resourceLimits: { maxOldGenerationSizeMb: RENDER_MB },
  });
  worker.on("error", () => undefined); // out of memory: whoever waits has been answered by then
  worker.unref();
  port.unref();
  return { worker, port, turn };
}

/** Waits for the thread: a prompt is needed at once, wherever it is encoded. */
function renderApart(job: { source: string; context: Record<string, unknown> }): Rendered {
  renderer ??= startRenderer();
  const { worker, port, turn } = renderer;
  const before = Atomics.load(turn, 0);
  port.postMessage(job);
  Atomics.wait(turn, 0, before, RENDER_MS);
  const received = receiveMessageOnPort(port) as { message: Rendered } | undefined;
  if (received !== undefined) return received.message;
  renderer = null;
  void worker.terminate();
  return { fault: "no end of the rendering, or no memory left for it" };
}

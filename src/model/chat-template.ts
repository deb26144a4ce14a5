import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import { z } from "zod";
import { errorText, RefusedInput } from "../core/errors.js";
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
const TRIAL_MS = 10_000;
const TRIAL_MB = 128;

/**
 * Renders one user message and the start of the answer, as `apply_chat_template` of Transformers does
 * (trim_blocks, lstrip_blocks, add_generation_prompt). A template is first tried in a process of its own.
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
  try {
    if (!tried.has(source)) requireEnd(source, context);
    tried.add(source);
    return new Template(source).render(context);
  } catch (cause) {
    throw new RefusedInput("the chat template cannot be rendered", {
      where,
      found: errorText(cause),
      expected: `a Jinja template that takes one user message, within ${TRIAL_MS / 1000} seconds and ${TRIAL_MB} MB`,
      cause,
    });
  }
}

/** Templates whose rendering has come to an end, well or not. */
const tried = new Set<string>();

const TRIAL = `
const { jinja, source, context } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const { Template } = require(jinja);
try { new Template(source).render(context); } catch {}
`;

/** @throws {Error} when a rendering takes more time or memory than it may: no thread can be kept from that, a process can */
function requireEnd(source: string, context: Record<string, unknown>): void {
  const jinja = createRequire(import.meta.url).resolve("@huggingface/jinja");
  const { status } = spawnSync(process.execPath, [`--max-old-space-size=${TRIAL_MB}`, "--eval", TRIAL], {
    input: JSON.stringify({ jinja, source, context }),
    timeout: TRIAL_MS,
    killSignal: "SIGKILL",
    stdio: ["pipe", "ignore", "ignore"],
  });
  if (status !== 0) throw new Error("no end of the rendering, or no memory left for it");
}

import { Template } from "@huggingface/jinja";
import { z } from "zod";
import { errorText, RefusedInput } from "../core/errors.js";
import type { ModelFiles } from "./files.js";
import { checked } from "./schema.js";

/** A Jinja template that turns a conversation into the text that the model was trained on. */
export interface ChatTemplate {
  source: string;
  /** File, for messages. */
  where: string;
  /** Of the files it stands in. */
  tryTemplate: ModelFiles["tryTemplate"];
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
  files: ModelFiles,
  tokenizerConfig: Record<string, unknown>,
): Promise<ChatTemplate | null> {
  const { tryTemplate } = files;
  if (files.names.includes(TEMPLATE_FILE)) {
    return { source: await files.text(TEMPLATE_FILE), where: files.pathOf(TEMPLATE_FILE), tryTemplate };
  }
  const where = `${files.pathOf("tokenizer_config.json")}: chat_template`;
  const found = checked(inConfig, tokenizerConfig.chat_template, where);
  const source = Array.isArray(found) ? found.find(({ name }) => name === "default")?.template : found;
  return source ? { source, where, tryTemplate } : null;
}

/** Bounds of a rendering, which takes milliseconds: a template is a program, and a faulty one may never end. */
export const TRIAL_MS = 10_000;
export const TRIAL_MB = 128;

/**
 * Renders one user message and the start of the answer, as `apply_chat_template` of Transformers does
 * (trim_blocks, lstrip_blocks, add_generation_prompt). A template of a stranger is tried first.
 * @param variables special tokens by name (bos_token, ...) and further variables of the template
 * @throws {RefusedInput} when the template has a fault, refuses the message or goes beyond its bounds
 */
export function renderChatTemplate(
  { source, where, tryTemplate }: ChatTemplate,
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
    tryTemplate?.(source, context);
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

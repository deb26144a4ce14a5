/** HTML that is ready to be shown: everything put into it was escaped, or is `Html` itself. */
export interface Html {
  readonly html: string;
}

type Part = string | number | Html | readonly Html[];

/** A template whose parts are escaped, in text and in quoted attributes alike; `Html` parts go in as they are. */
export function html(texts: TemplateStringsArray, ...parts: Part[]): Html {
  return { html: texts.reduce((all, text, i) => all + partHtml(parts[i - 1] as Part) + text) };
}

export const nothing: Html = { html: "" };

function partHtml(part: Part): string {
  if (typeof part === "object") return "html" in part ? part.html : part.map((each) => each.html).join("");
  return escapeHtml(String(part));
}

export function escapeHtml(text: string): string {
  const names: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (character) => names[character] as string);
}

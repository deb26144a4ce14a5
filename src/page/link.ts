/** An edit as a link carries it, behind the #: small, and made anew by whoever opens it. */
export interface LinkedEdit {
  method: string;
  set: string[];
  prompt: string;
  target: string;
  irrelevant: string | null;
}

const START = "#edit=";

export function linkOf(edit: LinkedEdit): string {
  return START + encodeURIComponent(JSON.stringify(edit));
}

/** The edit in an address; null where there is none. Whatever stands there may be anyone's text. */
export function readLink(hash: string): LinkedEdit | null {
  if (!hash.startsWith(START)) return null;
  try {
    const found = JSON.parse(decodeURIComponent(hash.slice(START.length))) as Record<string, unknown>;
    const { method, set, prompt, target, irrelevant = null } = found;
    const texts = [method, prompt, target].every((value) => typeof value === "string" && value.length <= 1000);
    const list = Array.isArray(set) && set.length <= 50 && set.every((value) => typeof value === "string");
    if (!texts || !list || (irrelevant !== null && typeof irrelevant !== "string")) return null;
    return { method, set, prompt, target, irrelevant } as LinkedEdit;
  } catch {
    return null;
  }
}

import type { LinkedEdit } from "./link.js";

/* The page's elements, by their ids. */

export const byId = <E extends HTMLElement>(id: string) => document.getElementById(id) as E;
export const input = (id: string) => byId<HTMLInputElement>(id);
/** Shows a line in a place of the page, as no refusal. */
export const say = (id: string, text: string) => {
  byId(id).textContent = text;
  byId(id).classList.remove("refused");
};

/** Options as they stand in the form: "key=value". */
export function settingsIn(): string[] {
  return input("set").value.split(/\s+/).filter(Boolean);
}

/** The edit as it stands in the form. */
export function wishOf(): LinkedEdit {
  return {
    method: input("method").value,
    set: settingsIn(),
    prompt: input("prompt").value.trim(),
    target: input("target").value.trim(),
    irrelevant: input("irrelevant").value.trim() || null,
  };
}

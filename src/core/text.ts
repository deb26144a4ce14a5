import { RefusedInput } from "./errors.js";

/** Characters of a text that a model is given: more than its context holds, and little enough to be tokenized at once. */
export const MAX_CHARACTERS = 100_000;

/** @throws {RefusedInput} naming `where`, when a text is too long to be tokenized */
export function requireShort(text: string, where: string): void {
  if (text.length <= MAX_CHARACTERS) return;
  throw new RefusedInput("a text is too long", {
    where,
    found: text,
    expected: `at most ${MAX_CHARACTERS} characters`,
  });
}

/** @throws {RefusedInput} naming `where`, when a text has nothing but blanks */
export function requireNotBlank(text: string, where: string): void {
  if (/\S/.test(text)) return;
  throw new RefusedInput("a text is blank", {
    where,
    found: JSON.stringify(text),
    expected: "a text that is not blank",
  });
}

/* The command line of a run, from its options. */

/** Options that stand on the command line once for each value; other lists are one word, with commas. */
const REPEATED = ["set", "grid"];

/** Options as words of the command line: `--score-steps=1,2`, `--save-edits`, `--no-cache`. */
export function wordsOf(options: object): string[] {
  return Object.entries(options).flatMap(([name, value]) => {
    const word = `--${name.replaceAll(/(?<=[a-z])[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    if (value === undefined) return [];
    if (typeof value === "boolean") return value ? [word] : [word.replace("--", "--no-")];
    if (!Array.isArray(value)) return [`${word}=${value}`];
    if (REPEATED.includes(name)) return value.map((one) => `${word}=${one}`);
    return value.length === 0 ? [] : [`${word}=${value.join(",")}`];
  });
}

/** A command that a POSIX shell reads as these words. */
export function shellLine(words: readonly string[]): string {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(" ");
}

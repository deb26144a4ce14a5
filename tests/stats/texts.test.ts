import { describe, expect, test } from "vitest";
import { show } from "../../src/core/errors.js";
import { sha256Bytes } from "../../src/core/hash.js";
import { readTexts } from "../../src/stats/texts.js";
import { refusal } from "../model/support.js";
import { madeFile } from "./support.js";

const THREE = ["One text.", 'Two "texts".', "Drei Länder"];

describe("texts are read from", () => {
  test.each([
    ["a JSON list of texts", "a.json", JSON.stringify(THREE, null, 1)],
    ["a JSON list of objects", "a.json", JSON.stringify(THREE.map((text, id) => ({ id, text })))],
    ["a JSON list in a file of any name", "a", `\n\n${JSON.stringify(THREE)}`],
    ["lines of JSON texts", "a.jsonl", THREE.map((text) => JSON.stringify(text)).join("\n")],
    ["lines of JSON objects", "a.jsonl", `${THREE.map((text) => JSON.stringify({ text, url: "-" })).join("\n\n")}\n`],
    ["lines of JSON objects in a .json file", "a.json", THREE.map((text) => JSON.stringify({ text })).join("\n")],
    ["plain lines", "a.txt", THREE.join("\n")],
    ["plain lines of Windows", "a.text", THREE.join("\r\n\r\n")],
    ["lines behind a byte order mark", "a.jsonl", `\ufeff${THREE.map((text) => JSON.stringify(text)).join("\n")}`],
  ])("%s", async (_, name, content) => {
    const path = await madeFile(name, content);
    expect(await readTexts(path)).toEqual({ name: "a", sha256: sha256Bytes(content), texts: THREE });
    expect(await readTexts(path, { samples: 2 })).toEqual({
      name: "a",
      sha256: sha256Bytes(content),
      texts: THREE.slice(0, 2),
    });
  });

  test("plain lines that look like JSON, where the file is named .txt", async () => {
    const lines = ['"Hello," she said.', "[sic]", "{}"];
    expect((await readTexts(await madeFile("a.txt", lines.join("\n")))).texts).toEqual(lines);
  });

  test("a file larger than what is read at a time", async () => {
    const lines = Array.from(
      { length: 30_000 },
      (_, i) => `line ${i} with the same words as all the others, and ${i * i}`,
    );
    expect((await readTexts(await madeFile("a.txt", lines.join("\n")))).texts).toEqual(lines);
  });
});

describe("refused:", () => {
  test.each([
    ["a line that is not JSON", "a.jsonl", '"one"\n{"text": \n"three"', /:2$/, /JSON/],
    ["a line without a text", "a.jsonl", '"one"\n\n{"body": "two"}', /:3$/, /body/],
    ["an empty text", "a.jsonl", '"one"\n""', /:2$/, /^$/],
    ["a number in a list", "a.json", '["one", 2]', /, text 2$/, /^2$/],
    ["a list that does not end", "a.json", '["one",\n"two"', /a\.json$/, /JSON/],
    ["an empty file", "a.txt", "\n \n", /a\.txt$/, /^0 texts$/],
  ])("%s, by its place", async (_, name, content, where, found) => {
    const path = await madeFile(name, content);
    const error = await refusal(() => readTexts(path));
    expect(error.where).toMatch(where);
    expect(show(error.found)).toMatch(found);
  });

  test("bytes that are no UTF-8, with the line", async () => {
    const path = await madeFile("a.txt", Buffer.from("gut\nM\xfcnchen", "latin1"));
    expect((await refusal(() => readTexts(path))).where).toBe(`${path}:2`);
  });

  test("fewer texts than are asked for, and no file", async () => {
    const path = await madeFile("a.txt", THREE.join("\n"));
    expect(await refusal(() => readTexts(path, { samples: 4 }))).toMatchObject({
      found: "3 texts",
      expected: "at least 4 texts",
    });
    expect((await refusal(() => readTexts(`${path}.none`))).found).toMatch(/ENOENT/);
  });
});

import { describe, expect, test } from "vitest";
import { fillTemplate, sequencesOfRows } from "../../src/edit/rows.js";
import { refusal } from "../model/support.js";

test("the sequences of rows are their tokens, in order", () => {
  const rows = [
    { ids: [0, 5, 6], promptTokens: 2 },
    { ids: [0, 7], promptTokens: 2 },
  ];
  expect(sequencesOfRows(rows)).toEqual([
    [0, 5, 6],
    [0, 7],
  ]);
});

describe("templates", () => {
  test("take the prompt as it is, also one with dollar signs", () => {
    expect(fillTemplate("So, {} Yes", "what is $& or $1?")).toBe("So, what is $& or $1? Yes");
  });

  test.each(["no place", "{} twice {}", ""])("%j is refused", async (template) => {
    const error = await refusal(() => fillTemplate(template, "x"));
    expect(error).toMatchObject({ where: "context templates", found: template });
  });
});

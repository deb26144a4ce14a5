import { expect, test } from "vitest";
import { loadRunInputs } from "../../src/run/inputs.js";
import { TINY_MODEL, TINY_RECORDS } from "./support.js";

const notices = async (request: { T: number | "all"; limit?: number }) =>
  (await loadRunInputs({ data: TINY_RECORDS, model: TINY_MODEL, ...request }, { irrelevant: false })).notices;

test.each<[string, { T: number | "all"; limit?: number }, string[]]>([
  ["T and limit within them", { T: 2, limit: 6 }, []],
  ["T = all", { T: "all" }, []],
  ["T beyond them", { T: 7 }, ["T = 7: there are 6 records, so they are one block, as with T = all"]],
  ["a limit beyond them", { T: 1, limit: 1037 }, ["limit 1037: there are 6 records, all are used"]],
])("what goes beyond the records is said: %s", async (_, request, said) => {
  expect(await notices(request)).toEqual(said);
});

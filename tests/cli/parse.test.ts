import { expect, test } from "vitest";
import { gigabytes } from "../../src/cli/parse.js";

test("an amount of gigabytes is read with its unit, as hints write it, and without", () => {
  expect(["8", "8GB", "0.5 gb", "20.0GB"].map(gigabytes)).toEqual([8, 8, 0.5, 20]);
  for (const text of ["", "GB", "0", "-1", "8MB", "1e3", "8 GB or so"]) {
    expect(() => gigabytes(text), text).toThrow("as 8 or 8GB");
  }
});

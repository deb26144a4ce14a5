import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { LabFailure, RefusedInput } from "../../src/core/errors.js";
import { openJsonl, readJsonl } from "../../src/core/jsonl.js";

const folder = mkdtempSync(join(tmpdir(), "wise-lab-jsonl-"));
afterAll(() => rmSync(folder, { recursive: true }));
const fresh = (() => {
  let count = 0;
  return () => join(folder, `lines-${count++}.jsonl`);
})();

describe("line files", () => {
  it("give back what was appended, over several openings", async () => {
    const path = fresh();
    for (const value of [{ record: 0, text: "naïve\nline" }, [1, null], "x"]) {
      const file = openJsonl(path, { fsync: true });
      file.append(value);
      file.close();
    }
    expect(await readJsonl(path)).toEqual({
      values: [{ record: 0, text: "naïve\nline" }, [1, null], "x"],
      goodBytes: readFileSync(path).length,
      torn: false,
    });
  });

  it("survive a cut at every byte: the whole lines come back, and appending goes on after them", async () => {
    const values = [{ a: 1 }, { text: "é🙂" }, [12]];
    const lines = values.map((value) => `${JSON.stringify(value)}\n`);
    const bytes = Buffer.from(lines.join(""));
    for (let cut = 0; cut <= bytes.length; cut++) {
      const path = fresh();
      writeFileSync(path, bytes.subarray(0, cut));
      const { values: kept, goodBytes, torn } = await readJsonl(path);
      expect(kept).toEqual(values.slice(0, kept.length));
      expect(torn).toBe(goodBytes !== cut);
      const file = openJsonl(path, { keepBytes: goodBytes });
      for (const value of values.slice(kept.length)) file.append(value);
      file.close();
      expect(readFileSync(path)).toEqual(bytes);
    }
  });

  it("keep any JSON value", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.jsonValue(), { maxLength: 8 }), async (values) => {
        const path = fresh();
        const file = openJsonl(path);
        for (const value of values) file.append(value);
        file.close();
        expect((await readJsonl(path)).values).toEqual(JSON.parse(JSON.stringify(values)));
      }),
      { numRuns: 30 },
    );
  });

  it("refuse a number that JSON would turn into null", async () => {
    const path = fresh();
    const file = openJsonl(path);
    file.append({ loss: 1 });
    expect(() => file.append({ step: { loss: Number.NaN } })).toThrow('"loss" is NaN');
    file.close();
    expect((await readJsonl(path)).values).toEqual([{ loss: 1 }]);
  });

  it("refuse a broken line in the middle by file and line", async () => {
    const path = fresh();
    writeFileSync(path, '{"a":1}\n{"a":\n{"a":3}\n');
    await expect(readJsonl(path)).rejects.toThrow(`${path}:2`);
    await expect(readJsonl(path)).rejects.toThrow(RefusedInput);
  });

  it("refuse a line that is not UTF-8", async () => {
    const path = fresh();
    writeFileSync(path, Buffer.concat([Buffer.from('"a"\n"'), Buffer.from([0xe9]), Buffer.from('"\n')]));
    await expect(readJsonl(path)).rejects.toThrow(`${path}:2`);
  });

  it("refuse to append behind a line that was cut short", () => {
    const path = fresh();
    writeFileSync(path, '{"a":1}\n{"a"');
    expect(() => openJsonl(path)).toThrow("was cut short");
    expect(readFileSync(path, "utf8")).toBe('{"a":1}\n{"a"');
  });

  it("refuse a folder that is not there, and a missing file", async () => {
    expect(() => openJsonl(join(folder, "nowhere", "lines.jsonl"))).toThrow(RefusedInput);
    await expect(readJsonl(fresh())).rejects.toThrow(RefusedInput);
  });
});

describe.runIf(existsSync("/dev/full"))("a full disk", () => {
  it("is named with the path, and nothing is counted as written", () => {
    const file = openJsonl("/dev/full");
    expect(() => file.append({ a: 1 })).toThrow(LabFailure);
    expect(() => file.append({ a: 1 })).toThrow(/cannot append to \/dev\/full: ENOSPC/);
    file.close();
  });
});

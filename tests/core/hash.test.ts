import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { LabFailure, RefusedInput } from "../../src/core/errors.js";
import { sha256File } from "../../src/core/files.js";
import { canonicalJson, sha256Bytes, sha256Chunks, sha256Json } from "../../src/core/hash.js";

const folder = mkdtempSync(join(tmpdir(), "wise-lab-hash-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("sha256", () => {
  it("gives the published test value of FIPS 180-2", () => {
    const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    expect(sha256Bytes("abc")).toBe(abc);
    expect(sha256Bytes(new TextEncoder().encode("abc"))).toBe(abc);
    expect(sha256Chunks(["a", "", "bc"].map((part) => new TextEncoder().encode(part)))).toBe(abc);
  });

  it("hashes a file of several chunks as its bytes", async () => {
    const bytes = new Uint8Array(3_000_001).map((_, i) => i % 251);
    const path = join(folder, "large.bin");
    writeFileSync(path, bytes);
    expect(await sha256File(path)).toBe(sha256Bytes(bytes));
  });

  it("refuses a missing file by its path", async () => {
    const path = join(folder, "missing.bin");
    await expect(sha256File(path)).rejects.toThrow(RefusedInput);
    await expect(sha256File(path)).rejects.toThrow(path);
  });
});

describe("sha256Json", () => {
  it("does not depend on the order of keys, at any depth", () => {
    expect(canonicalJson({ b: [{ d: 1, c: "x" }], a: null, gone: undefined })).toBe('{"a":null,"b":[{"c":"x","d":1}]}');
    expect(sha256Json({ b: 1, a: { d: 2, c: 3 } })).toBe(sha256Json({ a: { c: 3, d: 2 }, b: 1 }));
    expect(sha256Json([1, 2])).not.toBe(sha256Json([2, 1]));
  });

  it("reads back as the same value", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  it.each([[Number.NaN], [{ a: Number.POSITIVE_INFINITY }], [[undefined]], [{ f: () => 1 }]])(
    "refuses what JSON would turn into null (%#)",
    (value) => {
      expect(() => sha256Json(value)).toThrow(LabFailure);
    },
  );
});

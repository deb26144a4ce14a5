import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createSha256 } from "../../src/core/sha256.js";

describe("SHA-256 in plain JavaScript", () => {
  it("gives Node's bits for any bytes in any parts", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 5 }), (parts) => {
        const own = createSha256();
        const node = createHash("sha256");
        for (const part of parts) {
          own.update(part);
          node.update(part);
        }
        expect(Buffer.from(own.digest()).toString("hex")).toBe(node.digest("hex"));
      }),
    );
  });

  it.each([0, 55, 56, 63, 64, 65, 119, 120, 128, 100_000])("hashes %i bytes at any place of a buffer", (length) => {
    const bytes = new Uint8Array(length + 3).map((_, i) => i * 37).subarray(3);
    const own = createSha256();
    own.update(bytes);
    expect(Buffer.from(own.digest()).toString("hex")).toBe(createHash("sha256").update(bytes).digest("hex"));
  });
});

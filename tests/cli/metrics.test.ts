import { expect, test, vi } from "vitest";
import { metricsCommand } from "../../src/cli/metrics.js";
import { metrics } from "../../src/eval/metrics.js";

test("wise-lab metrics names every metric, with what it means and needs", () => {
  for (const markdown of [false, true]) {
    const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
    expect(metricsCommand({ markdown })).toBe(0);
    const text = write.mock.calls.map(([part]) => String(part)).join("");
    write.mockRestore();
    for (const { name } of metrics.values()) expect(text).toContain(name);
    expect(text).toContain("free answers");
  }
});

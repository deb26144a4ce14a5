import { onTestFinished, vi } from "vitest";
import type { LlamaModel } from "../../src/model/model.js";

/** Every layer that is lent from now to the end of the test, in order. */
export function layersRead(model: LlamaModel): number[] {
  const layers: number[] = [];
  const { withLayer } = model;
  const spy = vi.spyOn(model, "withLayer").mockImplementation((index, use) => {
    layers.push(index);
    return withLayer(index, use);
  });
  onTestFinished(() => spy.mockRestore());
  return layers;
}

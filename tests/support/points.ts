import type { CutPoint } from "../../src/model/patch.js";

/** The input of a layer's value matrix as the point where a model is cut. */
export const atValue = (layer: number): CutPoint => ({ layer, at: "mlpIn" });

/** The start of a layer as the point where a model is cut. */
export const atInput = (layer: number): CutPoint => ({ layer, at: "input" });

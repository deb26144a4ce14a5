import type { Figure } from "../figure.js";

export const figureFormats = ["svg", "png", "pdf"] as const;
export type FigureFormat = (typeof figureFormats)[number];

/** A figure ready to draw: whole pixels, 96 to the inch. */
export interface Drawing {
  figure: Figure;
  formats: readonly FigureFormat[];
  width: number;
  height: number;
  /** Pixels of the PNG per pixel of the figure. */
  scale: number;
}

/** The bytes of each format asked for. */
export type Pictures = Partial<Record<FigureFormat, Buffer>>;

/** A browser that turns figures into pictures until it is closed. */
export interface Engine {
  /** Name that a user would give it, e.g. "Chromium 156.0 (system)". */
  name: string;
  draw(drawing: Drawing): Promise<Pictures>;
  close(): Promise<void>;
}

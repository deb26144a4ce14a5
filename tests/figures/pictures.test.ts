import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRenderer, type Renderer } from "../../src/figures/export.js";
import { figuresIn, readFigure } from "../../src/figures/sources.js";
import { requires } from "../support/requires.js";
import { repository } from "../support/shared.js";

const bases = await figuresIn(join(repository, "figures"));

/** A picture without its fonts: its texts, its drawing without numbers, and the numbers. */
function partsOf(svg: string) {
  const bare = svg.replace(/<style>.*?<\/style>/s, "");
  return {
    texts: [...bare.matchAll(/>([^<>]+)</g)].map(([, text]) => text),
    drawing: bare.replaceAll(NUMBER, "0"),
    numbers: (bare.match(NUMBER) ?? []).map(Number),
  };
}

const NUMBER = /-?\d+(\.\d+)?(e-?\d+)?/g;

/** Pixels by which another version of the browser may place a mark elsewhere. */
const NEAR = 1;

describe.runIf(requires("chromium"))("a committed figure", () => {
  let renderer: Renderer;
  beforeAll(async () => {
    renderer = await createRenderer();
  });
  afterAll(() => renderer.close());

  it.each(bases.map((base) => [basename(base), base]))("%s is the one of its picture", async (_, base) => {
    const { svg } = await renderer.render(await readFigure(base), { formats: ["svg"] });
    const [drawn, committed] = [partsOf(String(svg)), partsOf(await readFile(`${base}.svg`, "utf8"))];
    expect(committed.texts).toEqual(drawn.texts);
    expect(committed.drawing).toBe(drawn.drawing);
    const moved = committed.numbers.filter((number, i) => !(Math.abs(number - (drawn.numbers[i] as number)) <= NEAR));
    expect(moved).toEqual([]);
  });
});

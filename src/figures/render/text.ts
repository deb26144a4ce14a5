/** Width of a text in pixels at a size in pixels. */
export type TextWidth = (text: string, font: { size: number; bold: boolean }) => number;

/** Height over and under the baseline, in sizes of Source Sans 3. */
const ASCENT = 1.024;
const DESCENT = 0.4;
/** Plotly's distance between lines of one text, in sizes of the font. */
const LINE = 1.3;

/** Parts of jsdom's elements that are used. */
interface SvgElement {
  tagName: string;
  textContent: string;
  parentElement: SvgElement | null;
  style: { fontSize: string; fontWeight: string };
  getAttribute(name: string): string | null;
  querySelectorAll(selector: string): Iterable<SvgElement>;
}

interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** A window whose SVG elements can be given a size. */
export interface SvgWindow {
  SVGElement: { prototype: object };
}

/**
 * Gives the SVG elements of a jsdom window the sizes that plotly asks for: jsdom does no layout. A text is as wide as its
 * font says; what holds texts is as large as they are together; nothing else has a size.
 */
export function measureTextIn(window: SvgWindow, widthOf: TextWidth): void {
  Object.assign(window.SVGElement.prototype, {
    getComputedTextLength(this: SvgElement) {
      return localBox(this, widthOf).width;
    },
    getBBox(this: SvgElement) {
      return localBox(this, widthOf);
    },
    getBoundingClientRect(this: SvgElement) {
      const boxes = textsOf(this).map((text) => placed(textBox(text, widthOf), text));
      const { x, y, width, height } = union(boxes);
      return { x, y, width, height, left: x, top: y, right: x + width, bottom: y + height };
    },
  });
}

function localBox(element: SvgElement, widthOf: TextWidth): Box {
  return union(textsOf(element).map((text) => textBox(text, widthOf)));
}

function textsOf(element: SvgElement): SvgElement[] {
  const isText = element.tagName === "text" || element.tagName === "tspan";
  return isText ? [element] : [...element.querySelectorAll("text")];
}

function union(boxes: readonly Box[]): Box {
  if (boxes.length === 0) return { x: 0, y: 0, width: 0, height: 0 };
  const x = Math.min(...boxes.map((box) => box.x));
  const y = Math.min(...boxes.map((box) => box.y));
  const right = Math.max(...boxes.map((box) => box.x + box.width));
  const bottom = Math.max(...boxes.map((box) => box.y + box.height));
  return { x, y, width: right - x, height: bottom - y };
}

/** A box after the transforms of its element and of all around it. Plotly writes translate, rotate and scale only. */
function placed(box: Box, element: SvgElement): Box {
  let corners = [0, 1, 2, 3].map((i): [number, number] => [box.x + (i % 2) * box.width, box.y + (i >> 1) * box.height]);
  for (let at: SvgElement | null = element; at; at = at.parentElement) {
    const steps = [...(at.getAttribute("transform") ?? "").matchAll(/(\w+)\(([^)]*)\)/g)].reverse();
    for (const [, name = "", list = ""] of steps) {
      const numbers = list.split(/[\s,]+/).map(Number);
      corners = corners.map((corner) => transformed(corner, name, numbers));
    }
  }
  return union(corners.map(([x, y]) => ({ x, y, width: 0, height: 0 })));
}

function transformed([x, y]: [number, number], name: string, [a = 0, b, c]: number[]): [number, number] {
  if (name === "translate") return [x + a, y + (b ?? 0)];
  if (name === "scale") return [x * a, y * (b ?? a)];
  const [cos, sin] = [Math.cos((a * Math.PI) / 180), Math.sin((a * Math.PI) / 180)];
  const [dx, dy] = [x - (b ?? 0), y - (c ?? 0)];
  return [(b ?? 0) + dx * cos - dy * sin, (c ?? 0) + dx * sin + dy * cos];
}

function textBox(element: SvgElement, widthOf: TextWidth): Box {
  const size = Number.parseFloat(inherited(element, "fontSize")) || 12;
  const bold = /^(bold|[6-9]00)$/.test(inherited(element, "fontWeight"));
  const lines = [...element.querySelectorAll("tspan.line")];
  const texts = (lines.length > 0 ? lines : [element]).map((line) => line.textContent);
  const width = Math.max(...texts.map((text) => widthOf(text, { size, bold })));
  const anchor = element.getAttribute("text-anchor");
  const shift = anchor === "middle" ? width / 2 : anchor === "end" ? width : 0;
  return {
    x: Number(element.getAttribute("x") ?? 0) - shift,
    y: Number(element.getAttribute("y") ?? 0) - ASCENT * size,
    width,
    height: (ASCENT + DESCENT + LINE * (texts.length - 1)) * size,
  };
}

function inherited(element: SvgElement, property: "fontSize" | "fontWeight"): string {
  for (let at: SvgElement | null = element; at; at = at.parentElement) {
    if (at.style?.[property]) return at.style[property];
  }
  return "";
}

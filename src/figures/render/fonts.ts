import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { FONT_NAME } from "../theme.js";

/** A face of the figures' typeface: the characters of one script in one weight. */
interface FontFace {
  script: "latin" | "greek";
  weight: 400 | 600;
}

/** Characters that stand in the Greek face, such as α, β and Δ. */
const greek = /[\u0370-\u03FF]/;
const semibold = /font-weight: ?(600|bold)/;

/** The faces that an SVG needs: those of its scripts and weights, nothing more. */
function facesOf(svg: string): FontFace[] {
  const weights = semibold.test(svg) ? ([400, 600] as const) : ([400] as const);
  const scripts = greek.test(svg) ? (["latin", "greek"] as const) : (["latin"] as const);
  return weights.flatMap((weight) => scripts.map((script) => ({ script, weight })));
}

/** Every face, for drawing: which ones a figure needs is known only afterwards. */
export const allFaces: readonly FontFace[] = ([400, 600] as const).flatMap((weight) =>
  (["latin", "greek"] as const).map((script) => ({ script, weight })),
);

/** Bytes of a face from @fontsource/source-sans-3 (SIL Open Font License). */
async function readFace(face: FontFace): Promise<Buffer> {
  const root = dirname(createRequire(import.meta.url).resolve("@fontsource/source-sans-3/package.json"));
  return readFile(join(root, "files", `source-sans-3-${face.script}-${face.weight}-normal.woff2`));
}

const ranges = { latin: "U+0000-02FF, U+2000-22FF", greek: "U+0370-03FF" };

/** `@font-face` rules that carry their fonts, so that a page or an SVG file needs no other file. */
export async function fontCss(faces: readonly FontFace[]): Promise<string> {
  const rules = faces.map(async (face) => {
    const data = (await readFace(face)).toString("base64");
    return (
      `@font-face{font-family:'${FONT_NAME}';font-style:normal;font-weight:${face.weight};` +
      `src:url(data:font/woff2;base64,${data}) format('woff2');unicode-range:${ranges[face.script]}}`
    );
  });
  return (await Promise.all(rules)).join("");
}

/** An SVG with the faces it uses inside, for a reader that does not have the typeface. */
export async function selfContained(svg: string): Promise<string> {
  const css = await fontCss(facesOf(svg));
  return svg.replace(/<svg[^>]*>/, (opening) => `${opening}<defs><style>${css}</style></defs>`);
}

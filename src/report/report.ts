import { createHash } from "node:crypto";
import { show } from "../core/errors.js";
import type { EditMethod } from "../edit/contract.js";
import { methodNamed } from "../edit/registry.js";
import { allFaces, fontCss } from "../figures/render/fonts.js";
import type { Protocol, RunResult } from "../run/types.js";
import { probeKinds } from "../tables/values.js";
import { type Html, html, nothing } from "./app/html.js";
import { packCases } from "./app/pack.js";
import { casesOf } from "./case.js";
import { causesChapter, recordsChapter, scoresChapter } from "./chapters.js";
import { pageScript } from "./script.js";
import { reportStyle } from "./style.js";
import { wordsOf } from "./words.js";

/**
 * A run as one page that needs nothing else: its protocol, its scores with their intervals, why probes are not right, and
 * every record in full. Every number leads to its records. A run that is not finished shows what is there, and says so.
 * @param name what the page is called, e.g. the name of the run's folder
 * @param method the run's
 * @throws {RefusedInput} when the project was not compiled: the page's script is part of it
 */
export async function reportHtml(
  run: RunResult,
  name: string,
  method = methodNamed(run.protocol.method),
): Promise<string> {
  const cases = casesOf(run, method);
  const kinds = probeKinds.filter((kind) => cases.some(({ probes }) => probes.some((probe) => probe.kind === kind)));
  const subject = { run, method, cases, kinds };
  const chapters =
    cases.length === 0
      ? html`<p>No block of this run is finished yet: there is no record to show.</p>`
      : html`${scoresChapter(subject)}${causesChapter(subject)}${recordsChapter(subject)}`;
  return page({
    title: `${name}: wise-lab run`,
    style: (await fontCss(allFaces)) + reportStyle,
    body: html`${header(run, name, method)}${chapters}`,
    data: { ...packCases(cases), kinds, words: wordsOf(method) },
    script: cases.length === 0 ? "" : await pageScript(),
  });
}

function page(parts: { title: string; style: string; body: Html; data: unknown; script: string }): string {
  const sha256 = createHash("sha256").update(parts.script).digest("base64");
  // Nothing but the page's own script may run, and nothing may be fetched, whatever stands in a record.
  const policy = [
    "default-src 'none'",
    `script-src 'sha256-${sha256}'`,
    "style-src 'unsafe-inline'",
    "font-src data:",
    "img-src data:",
  ].join("; ");
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
${html`<title>${parts.title}</title>`.html}
<style>${parts.style}</style>
</head>
<body>
<main class="sheet">
${parts.body.html}
</main>
<aside class="detail" id="detail" aria-label="Record" hidden>
<nav id="neighbours" aria-label="Records"></nav>
<div id="case"></div>
</aside>
<script type="application/json" id="cases">${jsonForScript(parts.data)}</script>
<script type="module">${parts.script}</script>
</body>
</html>
`;
}

/** JSON that no text in it can end the script element of, nor begin a comment in. */
function jsonForScript(value: unknown): string {
  const escapes: Record<string, string> = { "<": "\\u003c", "\u2028": "\\u2028", "\u2029": "\\u2029" };
  return JSON.stringify(value).replace(/[<\u2028\u2029]/g, (character) => escapes[character] as string);
}

function header({ protocol, scores }: RunResult, name: string, { title, router }: EditMethod): Html {
  const { T, when, model, data, records, seed } = protocol;
  const rollback =
    T === "all" ? "no rollback in between" : `rolled back after every ${T === 1 ? "edit" : `${T} edits`}`;
  const timing = when === "after-all" ? "by its block's final model" : "right after its own edit";
  const unfinished = html`<p class="unfinished" role="note"><strong>Not finished.</strong> ${scores.length} of ${records}
records are scored, those of the finished blocks. All numbers are of these.</p>`;
  return html`<header>
<p class="over">wise-lab run report</p>
<h1>${name}</h1>
<p class="lead">${title} on ${model}: ${records} records of “${data}”, edited in file order, ${rollback} (T = ${T}). A record is
scored ${timing}. Seed ${seed}.</p>
${router ? nothing : html`<p class="note">${title} has no router: its edits always answer.</p>`}
${scores.length < records ? unfinished : nothing}
${protocolDetails(protocol, title)}
</header>`;
}

function protocolDetails({ options, assets, ...protocol }: Protocol, title: string): Html {
  const list = (fields: object) =>
    html`<dl class="protocol">${Object.entries(fields).map(
      ([name, value]) => html`<div><dt>${name}</dt><dd>${value === null ? "none" : show(value)}</dd></div>`,
    )}</dl>`;
  return html`<details class="whole"><summary>The whole protocol: hashes, options, backend</summary>
${list({ ...protocol, ...assets })}
<h2>Options of ${title}</h2>
${list(options)}</details>`;
}

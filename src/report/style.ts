/** Style sheet of a report, for screens of all sizes, light and dark, and for paper. */
export const reportStyle = `
:root {
  color-scheme: light dark;
  --paper: #fff; --panel: #f6f7f9; --ink: #1f2328; --muted: #59636e; --rule: #dfe3e8;
  --blue: #0072b2; --link: #005a8e; --vermilion: #c04f00; --green: #00785a; --purple: #a84e80; --pale: #b9c4cf;
  --good-ink: #005a8e; --good: #e3f0f8; --part-ink: #6d5200; --part: #fcf1cf; --bad-ink: #9c3d00; --bad: #fdeadd;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #15181c; --panel: #1d2126; --ink: #e6e9ed; --muted: #a0abb6; --rule: #343a42;
    --blue: #56b4e9; --link: #7cc4ef; --vermilion: #f0803c; --green: #3cc79c; --purple: #dd92bd; --pale: #4d5864;
    --good-ink: #8fd0f5; --good: #17303f; --part-ink: #f0cf6a; --part: #3a3113; --bad-ink: #ffb183; --bad: #452411;
  }
}
* { box-sizing: border-box; }
html { font: 16px/1.5 "Source Sans 3", "Helvetica Neue", Arial, sans-serif; background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%; overflow-wrap: break-word; }
body { margin: 0; }
.sheet { max-width: 76rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1, h2, h3 { line-height: 1.2; margin: 0; font-weight: 600; }
h1 { font-size: 2.1rem; letter-spacing: -0.01em; }
.chapter h2 { font-size: 1.3rem; margin: 2.6rem 0 0.7rem; }
p { margin: 0.4rem 0; }
a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: 0.18em; }
:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; border-radius: 3px; }
.title:focus { outline: none; }
.over { color: var(--muted); font-size: 0.9rem; margin: 0 0 0.3rem; }
.lead { color: var(--muted); font-size: 1.1rem; max-width: 48rem; margin: 0.5rem 0 0; }
.note { color: var(--muted); font-size: 0.92rem; }
.arrow { color: var(--muted); }
.unfinished { border-left: 4px solid var(--vermilion); background: var(--bad); padding: 0.6rem 1rem; margin: 1.2rem 0 0; border-radius: 0 4px 4px 0; }

table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { font-weight: 600; text-align: left; }
.wide { overflow-x: auto; }
.wide.more { mask-image: linear-gradient(to left, rgb(0 0 0 / 50%), #000 2.5rem); box-shadow: inset -0.8rem 0 0.7rem -0.6rem var(--muted); }
.grid-table { width: 100%; }
.grid-table th, .grid-table td { padding: 0.5rem 0.7rem; border-bottom: 1px solid var(--rule); vertical-align: baseline; }
.grid-table thead > tr > * { color: var(--muted); font-size: 0.85rem; border-bottom: 1px solid var(--muted); }
.grid-table thead th.number { text-align: right; }
.grid-table th:first-child { min-width: 8rem; }
.grid-table .meant { min-width: 13rem; }
.grid-table th:first-child, .grid-table td:first-child { padding-left: 0; }
.number { text-align: right; white-space: nowrap; }
.meaning { color: var(--muted); font-weight: 400; font-size: 0.92rem; display: block; max-width: 40rem; }
.mean { color: inherit; font-size: 1.25rem; font-weight: 600; }
.interval { color: var(--muted); font-size: 0.9rem; white-space: nowrap; }
.meter { display: block; width: 100%; min-width: 8rem; height: 10px; }
.meter-track { fill: var(--rule); } .meter-fill { fill: var(--blue); } .meter-interval { stroke: var(--ink); stroke-width: 1.5; }
.whole { margin-top: 0.8rem; } .whole h2 { font-size: 1rem; margin: 1rem 0 0; }
details > summary { cursor: pointer; color: var(--link); padding: 0.3rem 0; }
.protocol { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 0.1rem 2rem; margin: 0.5rem 0; font-size: 0.92rem; }
.protocol div { display: flex; justify-content: space-between; gap: 1rem; border-bottom: 1px solid var(--rule); padding: 0.25rem 0; }
.protocol dt { color: var(--muted); } .protocol dd { margin: 0; text-align: right; overflow-wrap: anywhere; }

.controls { display: flex; flex-wrap: wrap; gap: 0.6rem; align-items: end; }
.controls > div { flex: 1 1 7rem; } .controls .search { flex: 3 1 17rem; } .controls .clear { flex: 0 1 6rem; }
.controls label { font-size: 0.82rem; color: var(--muted); display: block; }
.controls input, .controls select, .controls button { font: inherit; font-size: 0.95rem; color: var(--ink); background: var(--paper); border: 1px solid var(--pale); border-radius: 5px; padding: 0.35rem 0.5rem; width: 100%; min-height: 2.4rem; }
.controls button { cursor: pointer; color: var(--link); }
.count { margin: 0.9rem 0 0.4rem; font-weight: 600; }

.badge { border-radius: 4px; padding: 0.08rem 0.42rem; font-size: 0.85rem; font-weight: 600; white-space: nowrap; }
.good { background: var(--good); color: var(--good-ink); }
.part { background: var(--part); color: var(--part-ink); }
.bad { background: var(--bad); color: var(--bad-ink); }

.cause { border: 1px solid var(--pale); color: var(--muted); border-radius: 4px; padding: 0.02rem 0.4rem; font-size: 0.82rem; font-weight: 400; white-space: nowrap; display: inline-block; }
.list { width: 100%; font-size: 0.95rem; }
.list th, .list td { padding: 0.36rem 0.6rem; border-bottom: 1px solid var(--rule); vertical-align: baseline; }
.list thead th { position: sticky; top: 0; background: var(--paper); color: var(--muted); font-size: 0.82rem; box-shadow: 0 1px 0 var(--muted); }
.list tbody th { font-weight: 400; overflow-wrap: anywhere; }
.list tbody a { color: inherit; text-decoration: none; }
.list tbody a:hover { color: var(--link); text-decoration: underline; }
.list .open { background: var(--panel); box-shadow: inset 3px 0 0 var(--blue); }
.score { text-align: center; }
.list .causes { line-height: 1.7; }

.detail { background: var(--paper); }
.case .title { font-size: 1.45rem; }
.detail nav { display: flex; gap: 1.2rem; align-items: center; padding: 0.7rem 0; border-bottom: 1px solid var(--rule); margin-bottom: 1rem; position: sticky; top: 0; background: var(--paper); z-index: 1; }
.step { text-decoration: none; padding: 0.2rem 0; } .step.off { color: var(--muted); opacity: 0.6; } .step.close { margin-left: auto; }
.probe { margin: 1.6rem 0 0; }
.head { font-size: 1.05rem; display: flex; gap: 0.5rem; align-items: center; flex-wrap: wrap; margin-bottom: 0.35rem; }
.asked { font-size: 1.02rem; }
.why { border-left: 3px solid var(--vermilion); padding-left: 0.7rem; }
.tokens { margin: 0.5rem 0 0.7rem; }
.tokens td, .tokens th { padding: 0.16rem 0.55rem; border: 2px solid var(--paper); }
.tokens td { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; font-size: 0.88rem; white-space: nowrap; border-radius: 6px; }
.tokens td:not(.good):not(.bad) { background: var(--panel); }
.tokens th, .readings th { color: var(--muted); font-weight: 400; font-size: 0.88rem; padding-left: 0; }
.readings { font-size: 0.9rem; }
.readings th, .readings td { padding: 0.22rem 0.8rem 0.22rem 0; vertical-align: middle; white-space: nowrap; }
.readings thead .number { text-align: right; }
.readings thead th { border-bottom: 1px solid var(--rule); font-size: 0.82rem; }
.readings .silent td { color: var(--muted); }
.readings .answered th, .readings .answered td { color: var(--ink); font-weight: 600; }
.tag { background: var(--good); color: var(--good-ink); border-radius: 4px; padding: 0 0.35rem; font-size: 0.8rem; }
.bar { display: block; } .losses { display: flex; flex-wrap: wrap; gap: 0.6rem 1.2rem; margin-top: 0.5rem; }
.ink-blue, .text-blue { fill: var(--blue); } .ink-vermilion, .text-vermilion { fill: var(--vermilion); } .ink-pale { fill: var(--pale); }
.ink-green, .text-green { fill: var(--green); } .ink-purple, .text-purple { fill: var(--purple); }
.ink-line { stroke: var(--vermilion); stroke-width: 2; }
.loss polyline { fill: none; stroke-width: 2; } .line-blue { stroke: var(--blue); } .line-vermilion { stroke: var(--vermilion); }
.line-green { stroke: var(--green); } .line-purple { stroke: var(--purple); }
.loss text { font-size: 13px; font-weight: 600; }
.loss .tick { fill: var(--muted); font-size: 12px; font-weight: 400; } .loss .grid { stroke: var(--rule); }
.foot { color: var(--muted); font-size: 0.88rem; margin-top: 3rem; }

@media (min-width: 68rem) {
  .reading { overflow: hidden; padding-right: min(46rem, 56vw); }
  .reading .sheet { height: 100vh; overflow-y: auto; padding: 0 1.5rem; } /* room above would be above sticky heads too */
  .reading .sheet > header { padding-top: 2.5rem; }
  .reading .list .causes, .reading .list .block, .reading .meaning, .reading .meter { display: none; }
  .reading .grid-table .meant { min-width: 0; }
  .detail { position: fixed; top: 0; right: 0; bottom: 0; width: min(46rem, 56vw); overflow-y: auto; padding: 0 2rem 3rem; border-left: 1px solid var(--rule); box-shadow: -6px 0 24px rgb(0 0 0 / 8%); }
}
@media (max-width: 67.99rem) {
  .detail { position: fixed; inset: 0; overflow-y: auto; padding: 0 1.1rem 3rem; }
  .reading { overflow: hidden; }
}
@media (max-width: 44rem) {
  .sheet { padding: 1.5rem 1.1rem 3rem; }
  h1 { font-size: 1.6rem; }
  .controls > div { flex: 1 1 40%; } .controls .search { flex: 1 1 100%; }
  .meter, .picture, .raw, .meaning { display: none; }
  .readings th, .readings td { padding-right: 0.5rem; }
  .grid-table .meant { min-width: 0; } .grid-table th, .grid-table td { padding: 0.5rem 0.4rem; }
  .grid-table th:first-child { min-width: 0; position: sticky; left: 0; background: var(--paper); }
  .list thead { position: absolute; clip-path: inset(50%); }
  .list tr { display: flex; flex-wrap: wrap; gap: 0.15rem 0.6rem; padding: 0.6rem 0; border-bottom: 1px solid var(--rule); }
  .list th, .list td { border: 0; padding: 0; } .list tbody th { order: -1; flex: 0 0 100%; font-weight: 600; }
  .list .number { color: var(--muted); font-size: 0.85rem; } .list .number::before { content: "record "; } .list .block::before { content: "block "; }
  .score[data-kind]::before { content: attr(data-kind) " "; color: var(--muted); font-size: 0.8rem; }
}
@media print {
  :root { color-scheme: light; }
  .controls, .detail nav, .foot { display: none; }
  .sheet { max-width: none; padding: 0; }
  .reading { padding: 0; overflow: visible; } .reading .sheet { display: none; }
  .detail { position: static; width: auto; padding: 0; border: 0; box-shadow: none; overflow: visible; }
  .wide.more { mask-image: none; box-shadow: none; }
  .list thead th { position: static; } tr, .probe { break-inside: avoid; }
}
`;

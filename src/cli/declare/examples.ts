import type { Command } from "commander";

/** One command line that works, for each command. */
const EXAMPLES: Readonly<Record<string, string>> = {
  run: "wise-lab run --T 10 --limit 100 --metrics free-em --out runs/first",
  slurm: "wise-lab slurm runs/many --T 1 --parts 8 --time 60",
  join: "wise-lab join runs/many --against runs/one",
  parts: "wise-lab parts runs/many",
  score: "wise-lab score --model edited-llama --before llama --data edits.json --out runs/theirs",
  sweep: "wise-lab sweep --T 1 --T 10 --limit 50 --out runs/sweep",
  study: "wise-lab study free-answers --limit 20",
  verify: "wise-lab verify easyedit-issue-474 --model FOLDER --dry-run",
  search: "wise-lab search ft-m --out runs/search",
  stats: "wise-lab stats --layers 1-2 --samples 500",
  table: "wise-lab table runs/sweep --format markdown",
  report: "wise-lab report runs/first --out first.html",
  check: "wise-lab check runs/first",
  edits: "wise-lab edits edits.safetensors --ask question",
  convert: "wise-lab convert runs/old runs/new",
  "figures redraw": "wise-lab figures redraw figures",
  "explore router": "wise-lab explore router runs/first --figures runs/first-figures",
  "explore retention": "wise-lab explore retention runs/first --figures runs/first-figures",
  "explore num-steps": "wise-lab explore num-steps --steps 1,2,5,10 --limit 50",
  golden: "wise-lab golden tests/fixtures/golden --backend wasm",
  methods: "wise-lab methods wise",
  metrics: "wise-lab metrics",
  doctor: "wise-lab doctor",
  "data fetch": "wise-lab data fetch zsre_mend_edit",
  "kernel install": "wise-lab kernel install",
  "kernel uninstall": "wise-lab kernel uninstall",
  "kernel path": "wise-lab kernel path",
  "notebook run": "wise-lab notebook run notebooks/01-one-edit.ipynb --out runs/one-edit.ipynb",
  "lab world": "wise-lab lab world --out runs/world",
  "lab practice": "wise-lab lab practice --out runs/practice",
  "lab train": "wise-lab lab train --steps 100 --out runs/lab",
  "train-mend": "wise-lab train-mend --limit 100 --out runs/mend",
  "make-checkpoint": "wise-lab make-checkpoint --like llama-3.2-1b --layers 2 --out runs/small",
  bench: "wise-lab bench --only lab --rounds 1",
  start: "wise-lab start --quick",
};

/** Ends the help of every command with one example. */
export function addExamples(command: Command, path: readonly string[] = []): void {
  for (const inner of command.commands) addExamples(inner, [...path, inner.name()]);
  const example = EXAMPLES[path.join(" ")];
  if (example !== undefined) command.addHelpText("after", `\nExample: ${example}`);
}

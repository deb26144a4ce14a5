import type { DoctorReport } from "./types.js";

type Section = { title: string; rows: [label: string, value: string][] };

/**
 * The report for reading: aligned lines for a terminal, or tables for a Markdown page, which records what is there and
 * leaves out what is missing. Neither names a path of this machine.
 */
export function renderDoctor(report: DoctorReport, format: "text" | "markdown"): string {
  const facts = factSections(report);
  const rendered = format === "text" ? [...facts, missingSection(report)].map(textSection) : facts.map(markdownSection);
  return `${rendered.filter((section) => section !== "").join("\n\n")}\n`;
}

function factSections(report: DoctorReport): Section[] {
  const { data, models, packages } = report;
  const fetched = data.filter(({ sha256 }) => sha256 !== null);
  return [
    { title: "Machine", rows: machineRows(report) },
    { title: "Programs", rows: programRows(report) },
    { title: "Packages", rows: packages.map(({ name, installed }) => [name, installed ?? "not installed"]) },
    { title: "Models", rows: models.map(({ name, sha256 }) => [name, `sha256 ${sha256}`]) },
    { title: "Data", rows: fetched.map(({ name, sha256 }) => [name, `sha256 ${sha256}`]) },
  ];
}

function missingSection({ missing }: DoctorReport): Section {
  return { title: "Missing", rows: missing.map(({ what, why, command }) => [what, `${why}: ${command}`]) };
}

function machineRows({ machine, gpu, backend }: DoctorReport): Section["rows"] {
  const cards = gpu.cards.map(({ name, driver, memory }) => `${name}, ${memory}, driver ${driver}`);
  const speed = `${backend.gflops.toPrecision(3)} GFLOP/s (float32 product of two [${backend.size}, ${backend.size}])`;
  return [
    ["System", machine.os],
    ["CPU", `${machine.cpu}, ${machine.cores} logical cores`],
    ["Memory", `${machine.memoryGiB} GiB`],
    ["GPU", cards.join("; ") || gpu.problem || "none"],
    ["Backend", backend.detail],
    ["Measured", speed],
  ];
}

function programRows({ node, browser, jupyter, kernelInstalled }: DoctorReport): Section["rows"] {
  return [
    ["Node", node],
    ["Browser", browser ? `${browser.version ?? "does not start"} (${browser.source})` : "none"],
    ["Jupyter Notebook", jupyter?.notebook ?? "none"],
    ["nbconvert", jupyter?.nbconvert ?? "none"],
    ["Jupyter kernel", kernelInstalled ? "installed" : "not installed"],
  ];
}

function textSection({ title, rows }: Section): string {
  if (rows.length === 0) return "";
  const width = Math.max(...rows.map(([label]) => label.length));
  return [title, ...rows.map(([label, value]) => `  ${label.padEnd(width)}  ${value}`)].join("\n");
}

function markdownSection({ title, rows }: Section): string {
  if (rows.length === 0) return "";
  const lines = rows.map(([label, value]) => `| ${cell(label)} | ${cell(value)} |`);
  return [`### ${title}`, "", "| | |", "| --- | --- |", ...lines].join("\n");
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|");
}

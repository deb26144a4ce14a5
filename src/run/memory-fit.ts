import { RefusedInput } from "../core/errors.js";
import { type Amount, folderBytes, freeDisk, giga, processMemory } from "../core/memory.js";
import type { Residence } from "../model/model.js";
import { HEAP_BUDGET } from "../tensor/wasm-heap.js";
import { type MemoryPlan, type Part, type Phase, type PlanInput, planMemory } from "./memory-plan.js";

/** Memory and disk that this process may take. */
export interface Machine {
  memory: Amount;
  /** For tensors, where the backend has a limit of its own. */
  tensors: Amount | null;
  /** Disk that the cache may take, what it holds counted in; null for a run without a cache. */
  disk: Amount | null;
}

/**
 * Asks the machine, which does not tell a graphics card's memory.
 * @param options `cacheFolder` need not exist yet; null for a run without a cache. `gpuBytes`: as the user has it
 * @throws {RefusedInput} for memory of a graphics card where none computes
 */
export async function readMachine(
  backend: PlanInput["backend"],
  { cacheFolder, gpuBytes }: { cacheFolder: string | null; gpuBytes?: number | undefined },
): Promise<Machine> {
  return {
    memory: await processMemory(),
    tensors: tensorRoom(backend, gpuBytes),
    disk: cacheFolder === null ? null : await cacheRoom(cacheFolder),
  };
}

/** True where tensors are on a graphics card, or on what plays one. */
function onCard({ name, device }: PlanInput["backend"]): boolean {
  return device === "gpu" || name === "webgpu";
}

function tensorRoom(backend: PlanInput["backend"], gpuBytes: number | undefined): Machine["tensors"] {
  if (gpuBytes === undefined) {
    return backend.name === "wasm" ? { bytes: HEAP_BUDGET, setBy: "the heap of WebAssembly" } : null;
  }
  if (onCard(backend)) return { bytes: gpuBytes, setBy: "--gpu-memory" };
  throw new RefusedInput("no graphics card computes", {
    where: "--gpu-memory",
    found: `the backend ${backend.name} on ${backend.device.toUpperCase()}`,
    expected: "a backend on a graphics card",
    hint: "--backend webgpu",
  });
}

async function cacheRoom(folder: string): Promise<Amount> {
  const free = await freeDisk(folder);
  const held = await folderBytes(folder);
  return held === 0
    ? free
    : { bytes: free.bytes + held, setBy: `${free.setBy}, and ${giga(held)} that the cache holds` };
}

/** Part of the memory there is that a plan may take where nobody insists: others come and go. */
const COMFORTABLE = 0.8;

/** "whole" where that leaves room in memory, else "streamed". */
export function chooseWeights(input: Omit<PlanInput, "weights">, { memory, tensors }: Machine): Residence {
  const whole = planMemory({ ...input, weights: "whole" });
  const fits = whole.memory <= COMFORTABLE * memory.bytes && (tensors === null || whole.tensors <= tensors.bytes);
  return fits ? "whole" : "streamed";
}

/** Processes of the same run that there is room for beside this one. */
export function copiesBeside(plan: MemoryPlan, { memory }: Machine): number {
  return Math.floor((COMFORTABLE * memory.bytes) / plan.memory) - 1;
}

/**
 * @throws {RefusedInput} when a plan does not fit, with the bytes of every part, what there is and what sets it, and as
 *   hint the settings that would fit
 */
export function requireFits(plan: MemoryPlan, machine: Machine): void {
  requireMemory(plan, machine);
  requireDisk(plan, machine);
}

function requireMemory(plan: MemoryPlan, machine: Machine): void {
  const lack = lackOf(plan, machine);
  if (lack === null) return;
  const { phase, place } = lack;
  const parts = [...plan.always, ...phase.parts].filter((part) => lack.what === "memory" || part.held === "tensor");
  const lines = parts.map((part) => `\n  ${partLine(part)}`);
  throw new RefusedInput(`this run does not fit ${place}: while in its ${phase.name}, it holds${lines.join("")}`, {
    where: `memory plan, ${settingsOf(plan.input)}`,
    found: `${giga(lack.needed)} of ${lack.what}`,
    expected: `at most ${giga(lack.there.bytes)}: ${lack.there.setBy}`,
    hint: whatFits(plan, machine, lack),
  });
}

interface Lack {
  needed: number;
  what: "memory" | "tensors";
  there: Amount;
  /** The phase that lacks it. */
  phase: Phase;
  /** Place that lacks it, and something that has more, in words. */
  place: string;
  larger: string;
}

function lackOf(plan: MemoryPlan, { memory, tensors }: Pick<Machine, "memory" | "tensors">): Lack | null {
  const { crowded, fullest, input } = plan;
  const here = { place: "into memory", larger: "a machine with more memory" };
  if (plan.memory > memory.bytes) {
    return { needed: plan.memory, what: "memory", there: memory, phase: crowded, ...here };
  }
  if (tensors === null || plan.tensors <= tensors.bytes) return null;
  const there = onCard(input.backend) ? { place: "on the graphics card", larger: "a card with more memory" } : here;
  return { needed: plan.tensors, what: "tensors", there: tensors, phase: fullest, ...there };
}

/** A smaller form of a run, with the settings that make it so, as the user would give them. */
interface Smaller {
  input: PlanInput;
  flags: readonly string[];
}

/** Every combination of the settings that take less, shorter blocks by falling length. */
function smallerForms(input: PlanInput): Smaller[] {
  const { weights, precision, backend, work } = input;
  const halves: number[] = [];
  for (let block = Math.floor(work.block / 2); block >= 1; block = Math.floor(block / 2)) halves.push(block);
  const changes: [flag: string, change: Partial<PlanInput>][][] = [
    weights === "streamed" ? [] : [["--weights streamed", { weights: "streamed" }]],
    precision === "bf16" ? [] : [["--precision bf16", { precision: "bf16" }]],
    halves.map((block) => [`--T ${block}`, { work: { ...work, block } }]),
    backend.name === "tensorflow"
      ? []
      : [["--backend tensorflow (npm run native)", { backend: { name: "tensorflow", device: "cpu" } }]],
  ];
  const forms: Smaller[] = [{ input, flags: [] }];
  for (const ways of changes) {
    const smaller = ([flag, change]: (typeof ways)[number]) =>
      forms.map((form) => ({ input: { ...form.input, ...change }, flags: [...form.flags, flag] }));
    forms.push(...ways.flatMap(smaller));
  }
  return forms.sort((a, b) => a.flags.length - b.flags.length);
}

/** The settings that would fit, as few at a time as will do, each with what the run then takes. */
function whatFits(plan: MemoryPlan, machine: Machine, { what, larger }: Lack): string {
  const forms = smallerForms(plan.input).map(({ input, flags }) => {
    const smaller = planMemory(input);
    const bytes = what === "tensors" && onCard(input.backend) ? smaller.tensors : smaller.memory;
    return { flags: flags.join(" "), count: flags.length, bytes, fits: fits(smaller, machine) };
  });
  const fewest = forms.find((form) => form.fits)?.count;
  const fitting = forms.filter((form) => form.fits && form.count === fewest);
  const kind = ({ flags }: (typeof forms)[number]) => flags.replace(/--T \d+/, "--T");
  const longest = fitting.filter((form, i) => fitting.findIndex((other) => kind(other) === kind(form)) === i); // blocks
  if (longest.length > 0) return longest.map(({ flags, bytes }) => `${flags} (${giga(bytes)})`).join(", or ");
  const least = forms.reduce((a, b) => (b.bytes < a.bytes ? b : a));
  return `${larger}: none of this fits, ${giga(least.bytes)} are needed at least${least.flags && `, with ${least.flags}`}`;
}

function fits(plan: MemoryPlan, machine: Machine): boolean {
  const { backend } = plan.input;
  const tensors = backend.name === "wasm" || onCard(backend) ? machine.tensors : null; // another has no room of its own
  return lackOf(plan, { ...machine, tensors }) === null;
}

function requireDisk({ disk, input }: MemoryPlan, { disk: free }: Machine): void {
  if (free === null || disk.kept + disk.streams <= free.bytes) return;
  const room = Math.floor((free.bytes - disk.streams) / 1e9);
  throw new RefusedInput("the cache of this run does not fit on the disk", {
    where: `memory plan, ${settingsOf(input)}`,
    found: `${giga(disk.kept)} for results of the frozen part, ${giga(disk.streams)} for a pass on its way`,
    expected: `at most ${giga(free.bytes)}: ${free.setBy}`,
    hint: [...(room >= 1 ? [`--cache-size ${room}GB`] : []), "--cache FOLDER on another disk"].join(", or "),
  });
}

/** Least bytes of a part in the lines: a smaller one is 0.0 in gigabytes of one decimal, and left out. */
const SHOWN_BYTES = 0.05e9;

/** The plan in a few lines, for the user to read before the run starts. */
export function renderPlan(plan: MemoryPlan, { memory, tensors, disk }: Machine): string {
  const rows = [{ name: "always", parts: plan.always }, ...plan.phases].map(({ name, parts }): [string, string] => {
    const shown = parts.filter(({ bytes }) => bytes >= SHOWN_BYTES);
    return [
      name,
      [total(parts), shown.map((part) => `${part.name} ${giga(part.bytes)}`).join(", ")].join("  ").trimEnd(),
    ];
  });
  rows.push(["at most", `${giga(plan.memory)}  in memory, of ${giga(memory.bytes)}: ${memory.setBy}`]);
  if (tensors !== null) {
    rows.push(["", `${giga(plan.tensors)}  of it in tensors, of ${giga(tensors.bytes)}: ${tensors.setBy}`]);
  }
  if (tensors === null && onCard(plan.input.backend)) {
    rows.push(["", `${giga(plan.tensors)}  on the graphics card, not checked: --gpu-memory GIGABYTES tells its size`]);
  }
  if (disk !== null) rows.push(["on disk", diskLine(plan, disk)]);
  const width = Math.max(...rows.map(([name]) => name.length));
  const lines = rows.map(([name, text]) => `  ${name.padEnd(width)}  ${text}`);
  return [`memory plan, ${settingsOf(plan.input)}:`, ...lines].join("\n");
}

function diskLine({ disk }: MemoryPlan, free: Amount): string {
  const dropped = disk.kept < disk.cuts ? ` of ${giga(disk.cuts)}, the rest computed again when needed` : "";
  return `${giga(disk.kept + disk.streams)}  results of the frozen part ${giga(disk.kept)}${dropped}, a pass on its way ${giga(disk.streams)}, of ${giga(free.bytes)}: ${free.setBy}`;
}

function settingsOf({ weights, precision, backend, work }: PlanInput): string {
  return `weights ${weights}, ${precision}, T = ${work.block}, ${backend.name} on ${backend.device.toUpperCase()}`;
}

function partLine({ name, bytes, why }: Part): string {
  return `${giga(bytes).padStart(8)}  ${name}: ${why}`;
}

function total(parts: readonly Part[]): string {
  return giga(parts.reduce((sum, { bytes }) => sum + bytes, 0));
}

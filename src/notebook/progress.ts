import { randomUUID } from "node:crypto";
import { kernelHost } from "./host.js";

/** One output that counts up in place. */
export interface Progress {
  /** @param done how many of the total are finished. @param note what is worked on, shown behind. */
  update(done: number, note?: string): void;
  /** Shows the end of the work, without times, so that saved notebooks do not differ by them. */
  finish(note?: string): void;
}

const REDRAW_EVERY_MS = 200;
const BAR_WIDTH = 24;

/**
 * Shows how far a long piece of work is, with the time left, as one output of a notebook that replaces itself.
 * In a terminal it is one line that is drawn over; where neither is, only the end is printed.
 * @param total number of steps, above 0.
 */
export function progress(label: string, total: number): Progress {
  const draw = chooseDrawing();
  const startedAt = performance.now();
  let drawnAt = Number.NEGATIVE_INFINITY;
  let last = 0;
  return {
    update(done, note = "") {
      last = done;
      const now = performance.now();
      if (now - drawnAt < REDRAW_EVERY_MS && done < total) return;
      drawnAt = now;
      const left = done > 0 ? ` · ${formatDuration(((now - startedAt) / done) * (total - done))} left` : "";
      draw(`${label}  ${bar(done / total)} ${done}/${total}${left}${note ? ` · ${note}` : ""}`, false);
    },
    finish(note = "") {
      draw(`${label}  ${bar(last / total)} ${last}/${total}${note ? ` · ${note}` : ""}`, true);
    },
  };
}

/** Milliseconds as people say them: "850 ms", "12 s", "3 min 20 s", "2 h 05 min". */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = Math.round(milliseconds / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

function chooseDrawing(): (line: string, isLast: boolean) => void {
  const host = kernelHost();
  if (host) {
    const displayId = randomUUID();
    let shown = false;
    return (line) => {
      host.display({ "text/plain": line }, { displayId, update: shown });
      shown = true;
    };
  }
  if (process.stderr.isTTY) return (line, isLast) => process.stderr.write(`\r\u001b[K${line}${isLast ? "\n" : ""}`);
  return (line, isLast) => {
    if (isLast) console.log(line);
  };
}

function bar(share: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * BAR_WIDTH);
  return "█".repeat(filled) + "░".repeat(BAR_WIDTH - filled);
}

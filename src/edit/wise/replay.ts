import { batchCuts, type Cut, mainOutput } from "../../model/cut.js";
import { tf } from "../../tensor/tf.js";
import type { EditSetting } from "../contract.js";
import { sequencesOfRows, type TokenRow } from "../rows.js";
import type { WiseOptions } from "./options.js";
import type { ReplayPair, ReplayRows } from "./step.js";

/** The token rows of one edit: its template rows, then the irrelevant prompt. */
export type EditRows = readonly TokenRow[];

/** The token rows of past edits (paper, appendix B.3). Empty unless replay is on. */
export interface ReplayHistory {
  /** Edits since the last merge. */
  current: readonly EditRows[];
  /** Edits of each merged group, and how many steps have replayed it. */
  merged: readonly { edits: readonly EditRows[]; replayed: number }[];
}

export const NO_HISTORY: ReplayHistory = { current: [], merged: [] };

/** Replay for one session: picks the past edits of each step and remembers new ones. */
export interface Replay {
  /** Past edits that step `step` of the next edit replays; null when replay is off or nothing has been merged yet. */
  pick(
    state: { history: ReplayHistory; edits: number },
    rows: EditRows,
    at: { step: number; signal?: AbortSignal | undefined },
  ): Promise<{ pair: ReplayPair; dispose(): void } | null>;
  /** The history after an edit of `steps` steps. */
  remember(state: { history: ReplayHistory; edits: number }, rows: EditRows, steps: number): ReplayHistory;
}

/** Makes the replay of a session. One past edit per merged group, cycling; one random edit of the current group. */
export function createReplay(setting: EditSetting, options: WiseOptions): Replay {
  const { model, cuts, rng } = setting;

  function toDevice(found: readonly Cut[]): ReplayRows {
    const batch = batchCuts(model, found);
    return { batch, main: tf.tidy(() => mainOutput(model, batch)) };
  }

  return {
    async pick({ history, edits }, rows, { step, signal }) {
      if (!options.replay || history.merged.length === 0) return null;
      const current = [...history.current, rows];
      const drawn = rng.fork("replay", edits, step).integer(current.length);
      const chosen = history.merged.map(
        (group) => group.edits[(group.replayed + step) % group.edits.length] as EditRows,
      );
      chosen.push(current[drawn] as EditRows);
      // All cuts before the first tensor: what an interrupt can end comes before what must be disposed.
      const found: Cut[][] = [];
      for (const past of chosen) {
        const all = await cuts.get(sequencesOfRows(past), signal);
        found.push(all.slice(0, -1));
      }
      const loaded = found.map(toDevice);
      return {
        pair: { merged: loaded.slice(0, -1), current: loaded[loaded.length - 1] as ReplayRows },
        dispose: () => {
          for (const { batch, main } of loaded) {
            batch.dispose();
            main.dispose();
          }
        },
      };
    },

    remember({ history, edits }, rows, steps) {
      if (!options.replay) return NO_HISTORY;
      const current = [...history.current, rows];
      const merged = history.merged.map((group) => ({ ...group, replayed: group.replayed + steps }));
      if ((edits + 1) % options.merge_freq !== 0) return { current, merged };
      return { current: [], merged: [...merged, { edits: current, replayed: 0 }] };
    },
  };
}

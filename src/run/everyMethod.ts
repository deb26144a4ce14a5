import { throwIfAborted } from "../core/errors.js";
import type { EditRecord } from "../data/records.js";
import type { PreparedMethod } from "../edit/contract.js";
import type { OptionSource } from "../edit/option-table.js";
import type { EditTrace } from "../edit/trace.js";
import type { Answer } from "../eval/answers.js";
import { probesOf, recordScore } from "../eval/records.js";
import type { RecordScore } from "../eval/types.js";
import type { Lab } from "./lab.js";

/** One record, edited by one method on the untouched model: T = 1 for it alone. */
export interface EditedBy {
  method: PreparedMethod;
  trace: EditTrace;
  /** Under that edit. */
  score: RecordScore;
  /** The free answer to its question. */
  answer: Answer;
}

/**
 * Edits one record by several methods in turn, on the model of a lab, whose own edits stay.
 * @param options `methods`: their names, all there are by default; `hparams`: of those that shall have others than
 *   their preset's; `onMethod`: told of each when it is done
 * @throws {RefusedInput} for a record that one of them cannot edit
 */
export async function editByEvery(
  lab: Lab,
  record: EditRecord,
  options: {
    methods?: readonly string[] | undefined;
    hparams?: Readonly<Record<string, OptionSource>> | undefined;
    signal?: AbortSignal | undefined;
    onMethod?: ((edited: EditedBy) => void) | undefined;
    onNotice?: ((line: string) => void) | undefined;
  } = {},
): Promise<EditedBy[]> {
  const { signal, onMethod, onNotice } = options;
  const { prompt, target, subject } = record;
  const edited: EditedBy[] = [];
  for (const method of options.methods ?? lab.methods) {
    throwIfAborted(signal, "editing by every method");
    const own = await lab.with({ method, hparams: options.hparams?.[method], signal, onNotice });
    try {
      const trace = await own.edit({ prompt, target, subject }, { signal });
      const score = recordScore(record, { index: 0 }, await own.score(probesOf(record), signal));
      const answer = await own.ask(prompt, { ...(signal && { signal }) });
      const one = { method: own.method, trace, score, answer };
      edited.push(one);
      onMethod?.(one);
    } finally {
      own.close();
    }
  }
  return edited;
}

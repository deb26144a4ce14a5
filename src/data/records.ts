/** A prompt with the answer that it is scored against. */
export interface Probe {
  prompt: string;
  answer: string;
  /** Name of the group in a file that has groups, e.g. "Reasoning". */
  group?: string;
}

/** One fact to edit, with everything it is scored by. Foreign field names end at the loader. */
export interface EditRecord {
  /** 0-based position in its file. */
  index: number;
  subject: string;
  prompt: string;
  /** Answer that the edited model shall give. */
  target: string;
  /** The question in other words. */
  rephrase: string | null;
  /** Further ones, where the file has several. */
  moreRephrases?: string[];
  /** Prompts whose answers must not change; all of them, in file order. */
  locality: Probe[];
  /** Prompts whose answers should follow from the edit; all of them, in file order. */
  portability: Probe[];
  /** Continuation out of the target's distribution (temporal set). */
  oodRephrase: string | null;
  /** Facts that nobody edits, to see what the edits do to them. */
  unedited?: Probe[];
  /** The answer before the edit, where the file states it; the first one, where it states several. */
  groundTruth: string | null;
}

/**
 * Kind of a file, by the fields of its records: `zsre` MEND's form; `knowedit` groups of locality and portability;
 * else EasyEdit's flat form: `temporal` with ood_rephrase, `counterfact` with rephrase_prompt or ground_truth,
 * `hallucination` with neither.
 */
export type DatasetKind = "zsre" | "hallucination" | "temporal" | "counterfact" | "knowedit";

/** The records of one file, in file order, with what identifies it in a table of results. */
export interface Dataset {
  /** File name without its ending. */
  name: string;
  path: string;
  /** SHA-256 of the whole file, also where only some of its records are used. */
  sha256: string;
  kind: DatasetKind;
  records: EditRecord[];
}

/** Unrelated texts, one per edit, that a router trains on; and what identifies their file. */
export interface IrrelevantList {
  name: string;
  path: string;
  sha256: string;
  prompts: string[];
}

/** The irrelevant text of record `index` (from 0): records beyond the end of the list start it again from the top. */
export function irrelevantPrompt(list: IrrelevantList, index: number): string {
  return list.prompts[index % list.prompts.length] as string;
}

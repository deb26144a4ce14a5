import type { TargetStop } from "../edit/target-stop.js";
import type { EditStep } from "../edit/trace.js";
import type { MetricsRequest } from "../eval/seeing.js";
import type { RunPart } from "./blocks.js";
import type { RunProgress } from "./pace.js";
import type { Checkpoints, When } from "./types.js";

/** One run of the T-rollback protocol. */
export interface RunRequest extends MetricsRequest {
  /** Records file; the project's own by default. */
  data?: string | undefined;
  irrelevant?: string | undefined;
  T: number | string;
  when?: When | undefined;
  /** Use the first records only. */
  limit?: number | undefined;
  /** Facts that nobody edits, so many of them with every record: what the edits do to the rest. None by default. */
  unedited?: number | undefined;
  /** File of such facts; by default those of the made-up world that the records are of. */
  uneditedItems?: string | undefined;
  /** Text behind every target that the edits train on; none by default, as released. */
  targetStop?: TargetStop | undefined;
  /** Make this part of its blocks only; see `joinParts`. */
  part?: RunPart | undefined;
  /** Folder to write to and to continue from; in memory when left out. */
  out?: string | undefined;
  /** T = 1: score each record also after these numbers of steps of its edit. */
  scoreSteps?: readonly number[] | undefined;
  /** Score earlier records of a block at these times, too. */
  checkpoints?: Checkpoints | undefined;
  /** Keep the edits of every block in the folder. */
  saveEdits?: boolean | undefined;
  /** Seconds of work between two safe points within a block that this process makes; 60 by default. */
  keepEvery?: number | undefined;
  /** Most other processes to make the blocks; see `handsFor`. By default this one makes them. */
  processes?: number | undefined;
  /** Take `out` over from an owner of which nothing can be known from here: a process on another machine. */
  takeOver?: boolean | undefined;
  signal?: AbortSignal | undefined;
  /** Aborted when the run shall end at its next safe point, which is then kept. */
  pause?: AbortSignal | undefined;
  onProgress?: ((progress: RunProgress) => void) | undefined;
  onStep?: ((step: EditStep) => void) | undefined;
  /** Told what was chosen where nothing was named. */
  onNotice?: ((line: string) => void) | undefined;
}

/** The parts of a request that say what is trained on and scored by. */
export function scoringOf(request: ScoringRequest): ScoringRequest {
  const { metrics, promptContext, freeRouting, maxNewTokens, judge, unedited, uneditedItems, targetStop } = request;
  return { metrics, promptContext, freeRouting, maxNewTokens, judge, unedited, uneditedItems, targetStop };
}

export type ScoringRequest = MetricsRequest & Pick<RunRequest, "targetStop" | "unedited" | "uneditedItems">;

import type { LlamaModel } from "../../model/model.js";
import { compareAlphaedit } from "./alphaedit.js";
import { compareDefer } from "./defer.js";
import { compareEwc } from "./ewc.js";
import { compareFt } from "./ft.js";
import type { GoldenScenario } from "./golden-files.js";
import { compareGrace } from "./grace.js";
import { compareLora } from "./lora.js";
import { compareMemit } from "./memit.js";
import { compareMend } from "./mend.js";
import { compareRome } from "./rome.js";
import type { ParityItem } from "./tally.js";
import { compareUltraedit } from "./ultraedit.js";
import { compareWise } from "./wise.js";

/** Runs one scenario through editing and scoring and compares every recorded quantity. */
export type CompareScenario = (golden: GoldenScenario, model: LlamaModel) => Promise<ParityItem[]>;

/** The methods whose golden files are understood. A new one is one file and one line here. */
export const scenarios: Readonly<Record<string, CompareScenario>> = {
  defer: compareDefer,
  "ft-l": compareFt,
  "ft-m": compareFt,
  "ft-ewc": compareEwc,
  grace: compareGrace,
  lora: compareLora,
  mend: compareMend,
  rome: compareRome,
  memit: compareMemit,
  "memit-mass": compareMemit,
  alphaedit: compareAlphaedit,
  ultraedit: compareUltraedit,
  wise: compareWise,
};

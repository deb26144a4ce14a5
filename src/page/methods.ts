import type { EditMethod } from "../edit/contract.js";
import { defer } from "../edit/defer/defer.js";
import { ftEwc } from "../edit/ft/ewc.js";
import { ftL, ftM } from "../edit/ft/ft.js";
import { grace } from "../edit/grace/grace.js";
import { lora } from "../edit/lora/lora.js";
import { ultraedit } from "../edit/ultraedit/ultraedit.js";
import { wise } from "../edit/wise/wise.js";

/** The methods that need no side data, which only files on disk have. */
export const pageMethods: readonly EditMethod[] = [wise, grace, defer, ftL, ftM, ftEwc, lora, ultraedit];

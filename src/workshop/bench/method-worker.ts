import { LabFailure } from "../../core/errors.js";
import { backendFor } from "../../model/backend.js";
import { loadModel, openCheckpoint } from "../../model/folder.js";
import { createOwnMethods, type OwnMethods } from "./method-own.js";
import type { OursQuestion } from "./method-protocol.js";
import { serve } from "./serve.js";

/* The process of the project's own methods. */

let own: OwnMethods | undefined;
await serve<OursQuestion>(async (question) => {
  if (question.ask === "open") {
    const { config, close } = await openCheckpoint(question.model);
    await close();
    const { detail, device } = await backendFor(config, question);
    const model = await loadModel(question.model);
    own = createOwnMethods(model, question.files);
    return { runsOn: detail.split("; not ")[0], device, modelSha256: model.sha256 };
  }
  if (own === undefined) throw new LabFailure("nothing was opened yet");
  switch (question.ask) {
    case "prepare":
      return own.prepare(question);
    case "edit":
      return own.edit(question.edit);
    case "after":
      return own.after();
  }
});

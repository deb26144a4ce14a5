import type { EditMethod, Router } from "../edit/contract.js";
import { MAIN } from "../edit/overlay.js";
import type { MethodWords } from "./app/types.js";

/** Words that a page has for the numbers of a method. */
export function wordsOf({ title, router, terms = {}, targetTerm }: EditMethod): MethodWords {
  const numbers = router ? Object.values(router.numbers).map(({ symbol, meaning }) => ({ symbol, meaning })) : null;
  return { title, numbers, terms, targetTerm };
}

/** Name of a variant that answers or would, for use in a sentence. */
export function called(variant: string, router: Router | undefined): string {
  if (variant === MAIN) return "the untouched model";
  return router ? router.called(variant) : "the edited model";
}

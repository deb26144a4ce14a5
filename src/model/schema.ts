import type { z } from "zod";
import { RefusedInput } from "../core/errors.js";

/** `value` as `schema` describes it. @throws {RefusedInput} naming `where` and the first field that does not fit. */
export function checked<Schema extends z.ZodType>(schema: Schema, value: unknown, where: string): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0] as z.core.$ZodIssue;
  const field = issue.path.join(".");
  throw new RefusedInput(field ? `${field} cannot be used` : "the content cannot be used", {
    where: field ? `${where}: ${field}` : where,
    found: issue.path.reduce<unknown>((inner, key) => (inner as Record<PropertyKey, unknown>)[key], value),
    expected: issue.message,
  });
}

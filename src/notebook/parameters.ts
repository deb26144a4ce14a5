import { createRequire } from "node:module";
import type * as TypeScript from "typescript";
import { nearest, RefusedInput } from "../core/errors.js";
import type { CodeCell, Notebook } from "./nbformat.js";

/** One variable of the cell tagged `parameters`. */
export interface DeclaredParameter {
  name: string;
  /** Its type as the cell says it, or as its value shows. */
  type: string;
  accepts: (value: unknown) => boolean;
}

/** Parameter values: JSON from code, texts from a command line (read by the declared type). */
export type ParameterValues = Readonly<Record<string, unknown>>;

/** Tags of papermill: https://papermill.readthedocs.io/en/latest/usage-parameterize.html */
const PARAMETERS_TAG = "parameters";
const INJECTED_TAG = "injected-parameters";

/** The parameters a notebook declares, in the order of its tagged cell; none without such a cell. */
export function declaredParameters(notebook: Notebook): DeclaredParameter[] {
  const cell = notebook.cells.find((cell) => cell.cell_type === "code" && hasTag(cell.metadata.tags, PARAMETERS_TAG));
  return cell ? readDeclarations(cell.source) : [];
}

/**
 * A notebook with one cell behind the tagged one that sets the parameters anew. An earlier injected cell goes.
 * @throws {RefusedInput} for a name the cell does not declare (with the nearest it does) and a value of another type.
 */
export function injectParameters(notebook: Notebook, values: ParameterValues, where: string): Notebook {
  const cells = notebook.cells.filter((cell) => !hasTag(cell.metadata.tags, INJECTED_TAG));
  const names = Object.keys(values);
  if (names.length === 0) return { ...notebook, cells };
  const declared = declaredParameters(notebook);
  const lines = names.map((name) => {
    const parameter = findParameter(declared, name, where);
    return `const ${name}: ${parameter.type} = ${literalOf(readValue(parameter, values[name], where))};`;
  });
  const injected: CodeCell = {
    cell_type: "code",
    id: INJECTED_TAG,
    metadata: { tags: [INJECTED_TAG] },
    source: ["// Parameters of this run", ...lines].join("\n"),
    execution_count: null,
    outputs: [],
  };
  const at = cells.findIndex((cell) => hasTag(cell.metadata.tags, PARAMETERS_TAG));
  return { ...notebook, cells: [...cells.slice(0, at + 1), injected, ...cells.slice(at + 1)] };
}

function findParameter(declared: DeclaredParameter[], name: string, where: string): DeclaredParameter {
  const parameter = declared.find((candidate) => candidate.name === name);
  if (parameter) return parameter;
  const names = declared.map((candidate) => candidate.name);
  const near = nearest(name, names);
  throw new RefusedInput("the notebook has no such parameter", {
    where: `${where}, parameter ${name}`,
    found: name,
    expected:
      names.length > 0 ? `one of ${names.join(", ")}` : `a code cell tagged "${PARAMETERS_TAG}" that declares it`,
    ...(near ? { hint: near } : {}),
  });
}

/** A text is read as JSON where the type takes that, and else stands for itself: `10` is a number only where one is wanted. */
function readValue(parameter: DeclaredParameter, value: unknown, where: string): unknown {
  const readings = typeof value === "string" ? [...parseOrNothing(value), value] : [value];
  const accepted = readings.find((reading) => parameter.accepts(reading));
  if (accepted !== undefined && !isExact(accepted)) {
    throw new RefusedInput("a parameter has a number that cannot be held exactly", {
      where: `${where}, parameter ${parameter.name}`,
      found: value,
      expected: "whole numbers up to 9007199254740991, others up to 1.8e308",
    });
  }
  if (accepted !== undefined) return accepted;
  throw new RefusedInput("a parameter has a value of the wrong type", {
    where: `${where}, parameter ${parameter.name}`,
    found: value,
    expected: parameter.type,
  });
}

function parseOrNothing(text: string): unknown[] {
  try {
    return [JSON.parse(text)];
  } catch {
    return []; // no JSON: the text itself is the value
  }
}

/** Source text of exactly this value. */
function literalOf(value: unknown): string {
  if (Object.is(value, -0)) return "-0";
  // Line separators end a line for the compiler; an object literal would take "__proto__" for its prototype.
  const json = JSON.stringify(value).replaceAll(/[\u2028\u2029]/g, (end) => `\\u${end.charCodeAt(0).toString(16)}`);
  return json.includes('"__proto__"') ? `JSON.parse(${JSON.stringify(json)})` : json;
}

/** True for a value without a number that this language cannot hold as it was written. */
function isExact(value: unknown): boolean {
  if (typeof value === "number")
    return Number.isFinite(value) && (!Number.isInteger(value) || Number.isSafeInteger(value));
  return typeof value !== "object" || value === null || Object.values(value).every(isExact);
}

function hasTag(tags: string[] | undefined, tag: string): boolean {
  return tags?.includes(tag) ?? false;
}

function readDeclarations(source: string): DeclaredParameter[] {
  const load = createRequire(createRequire(import.meta.url).resolve("tslab"));
  const ts = load("@tslab/typescript-for-tslab") as typeof TypeScript;
  const file = ts.createSourceFile("parameters.ts", source, ts.ScriptTarget.Latest, true);
  return file.statements.filter(ts.isVariableStatement).flatMap((statement) =>
    statement.declarationList.declarations.flatMap(({ name, type, initializer }) => {
      if (!ts.isIdentifier(name)) return [];
      const node = type ?? initializer;
      const kind = type ? typeKind(ts, type) : initializer ? valueKind(ts, initializer) : ANYTHING;
      return [{ name: name.text, type: type && node ? node.getText(file) : kind.text, accepts: kind.accepts }];
    }),
  );
}

interface Kind {
  text: string;
  accepts: (value: unknown) => boolean;
}

const ANYTHING: Kind = { text: "unknown", accepts: () => true };
const PRIMITIVES: Record<"number" | "string" | "boolean", Kind> = {
  number: { text: "number", accepts: (value) => typeof value === "number" },
  string: { text: "string", accepts: (value) => typeof value === "string" },
  boolean: { text: "boolean", accepts: (value) => typeof value === "boolean" },
};

/** Kind of values that a written type accepts. An unknown type accepts all: the compiler checks when the cell runs. */
function typeKind(ts: typeof TypeScript, type: TypeScript.TypeNode): Kind {
  const text = type.getText();
  const kind = (accepts: Kind["accepts"]): Kind => ({ text, accepts });
  if (type.kind === ts.SyntaxKind.NumberKeyword) return PRIMITIVES.number;
  if (type.kind === ts.SyntaxKind.StringKeyword) return PRIMITIVES.string;
  if (type.kind === ts.SyntaxKind.BooleanKeyword) return PRIMITIVES.boolean;
  if (ts.isLiteralTypeNode(type)) {
    const literal: unknown = literalValue(text);
    return kind((value) => value === literal);
  }
  if (ts.isParenthesizedTypeNode(type)) return kind(typeKind(ts, type.type).accepts);
  if (ts.isTypeOperatorNode(type)) return kind(typeKind(ts, type.type).accepts); // readonly T[]
  if (ts.isUnionTypeNode(type)) {
    const members = type.types.map((member) => typeKind(ts, member));
    return kind((value) => members.some((member) => member.accepts(value)));
  }
  const item = ts.isArrayTypeNode(type) ? type.elementType : arrayArgument(ts, type);
  if (item) {
    const { accepts } = typeKind(ts, item);
    return kind((value) => Array.isArray(value) && value.every(accepts));
  }
  return kind(() => true);
}

function arrayArgument(ts: typeof TypeScript, type: TypeScript.TypeNode): TypeScript.TypeNode | undefined {
  if (!ts.isTypeReferenceNode(type) || !/^(Readonly)?Array$/.test(type.typeName.getText())) return undefined;
  return type.typeArguments?.[0];
}

/** `null`, `true`, `-1`, `"all"` or `'all'` as a value. */
function literalValue(text: string): unknown {
  return JSON.parse(text.startsWith("'") ? `"${text.slice(1, -1)}"` : text);
}

/** The type of a parameter that is declared by its value alone, as TypeScript would widen it. */
function valueKind(ts: typeof TypeScript, value: TypeScript.Expression): Kind {
  if (ts.isNumericLiteral(value) || ts.isPrefixUnaryExpression(value)) return PRIMITIVES.number;
  if (ts.isStringLiteralLike(value)) return PRIMITIVES.string;
  if (value.kind === ts.SyntaxKind.TrueKeyword || value.kind === ts.SyntaxKind.FalseKeyword) return PRIMITIVES.boolean;
  if (ts.isArrayLiteralExpression(value) && value.elements.length > 0) {
    const kinds = value.elements.map((element) => valueKind(ts, element));
    const texts = [...new Set(kinds.map((kind) => kind.text))];
    return {
      text: texts.length === 1 ? `${texts[0]}[]` : `(${texts.join(" | ")})[]`,
      accepts: (given) => Array.isArray(given) && given.every((item) => kinds.some((kind) => kind.accepts(item))),
    };
  }
  return ANYTHING;
}

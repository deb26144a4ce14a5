import type * as TypeScript from "typescript";

/**
 * tslab turns names of earlier cells into `exports.name`, but leaves `{ name }` alone, which then is not defined when
 * it runs. This makes every `{ name }` a `{ name: name }` before tslab sees it, and lets the checker know its meaning.
 * @param builder the compiler's program of one cell; changed in place.
 */
export function repairShorthand(
  ts: typeof TypeScript,
  builder: TypeScript.EmitAndSemanticDiagnosticsBuilderProgram,
): void {
  const checker = builder.getProgram().getTypeChecker();
  const symbolAt = checker.getSymbolAtLocation;
  checker.getSymbolAtLocation = (node) => {
    const { parent } = ts.getOriginalNode(node) as { parent?: TypeScript.Node };
    return parent && ts.isShorthandPropertyAssignment(parent)
      ? checker.getShorthandAssignmentValueSymbol(parent)
      : symbolAt(node);
  };
  const emit = builder.emit;
  builder.emit = (file, write, token, declarationsOnly, transformers) =>
    emit(file, write, token, declarationsOnly, {
      ...transformers,
      before: [expandShorthand(ts), ...(transformers?.before ?? [])],
    });
}

function expandShorthand(ts: typeof TypeScript): TypeScript.TransformerFactory<TypeScript.SourceFile> {
  return (context) => {
    const { factory } = context;
    const visit = (node: TypeScript.Node): TypeScript.Node => {
      const visited = ts.visitEachChild(node, visit, context);
      if (!ts.isShorthandPropertyAssignment(visited)) return visited;
      const name = ts.setTextRange(factory.createIdentifier(visited.name.text), visited.name);
      const value = ts.setOriginalNode(
        ts.setTextRange(factory.createIdentifier(visited.name.text), visited.name),
        visited.name,
      );
      const { objectAssignmentInitializer: fallback } = visited; // `{ name = 1 } = given`
      const target = fallback ? factory.createAssignment(value, fallback) : value;
      return ts.setTextRange(factory.createPropertyAssignment(name, target), visited);
    };
    return (file) => ts.visitEachChild(file, visit, context);
  };
}

/**
 * What src does not use, because Effect has its own: clocks and randomness that tests can replace, failures that types
 * show, fibers that can be interrupted.
 */
import type { Node } from "oxc-parser"
import type { Source } from "./Source.ts"
import { at, visit } from "./Source.ts"

const globals = new Set(["console", "queueMicrotask", "setImmediate", "setInterval", "setTimeout"])
const members = new Set(["Date.now", "Math.random", "process.env"])
const constructors = new Set(["Date", "Promise"])

/** `a.b.c` of a chain of plain members, without a leading `globalThis`. */
const dotted = (node: Node): string => {
  if (node.type === "Identifier") return node.name
  if (node.type !== "MemberExpression") return ""
  const name = node.property.type === "Literal"
    ? String(node.property.value)
    : node.property.type === "Identifier" && !node.computed
    ? node.property.name
    : "?"
  return `${dotted(node.object)}.${name}`.replace(/^globalThis\./, "")
}

export const usesNothingForbidden = (source: Source): ReadonlyArray<string> => {
  const found: Array<string> = []
  const complain = (node: { readonly start: number }, what: string) => found.push(at(source, node, what))
  // The names of properties are nodes like any other; only the ones that stand for a variable count.
  const names = new Set<Node>()
  visit(source, {
    MemberExpression: (node) => {
      if (!node.computed) names.add(node.property)
      const name = dotted(node)
      if (members.has(name) || (globals.has(name) && node.object.type === "Identifier")) complain(node, name)
    },
    Property: (node) => {
      if (!node.computed && !node.shorthand) names.add(node.key)
    },
    Identifier: (node) => {
      if (globals.has(node.name) && !names.has(node)) complain(node, node.name)
    },
    NewExpression: (node) => {
      const name = dotted(node.callee)
      if (constructors.has(name)) complain(node, `new ${name}`)
    },
    FunctionDeclaration: (node) => node.async && complain(node, "async"),
    FunctionExpression: (node) => node.async && complain(node, "async"),
    ArrowFunctionExpression: (node) => node.async && complain(node, "async"),
    AwaitExpression: (node) => complain(node, "await"),
    ForOfStatement: (node) => node.await && complain(node, "await"),
    TryStatement: (node) => complain(node, "try"),
    ThrowStatement: (node) => complain(node, "throw"),
    TSAsExpression: (node) => node.typeAnnotation.type === "TSAnyKeyword" && complain(node, "as any"),
    TSTypeAssertion: (node) => node.typeAnnotation.type === "TSAnyKeyword" && complain(node, "as any")
  })
  for (const comment of source.comments) {
    const directive = /@ts-(ignore|nocheck)/.exec(comment.value)
    if (directive !== null) complain(comment, directive[0])
  }
  return found
}

/**
 * The shape of a file: its name, its size, its imports, and that what it exports is described.
 */
import type { Declaration, Node } from "oxc-parser"
import type { Source } from "./Source.ts"
import { at, visit } from "./Source.ts"

const mostCodeLines = 250
const names = /^(utils?|commons?|helpers?|types|misc|shared)$/i

/** Of any file, and of the folders in src: a folder of tests may well be about types. */
export const hasATellingName = (source: Source): ReadonlyArray<string> => {
  const parts = source.path.startsWith("src/") ? source.path.split("/") : source.path.split("/").slice(-1)
  return parts.some((part) => names.test(part.replace(/\..*$/, "")))
    ? [`${source.path}: the name says nothing about what is in it`]
    : []
}

export const isOneRoom = (source: Source): ReadonlyArray<string> => {
  let code = source.text
  for (const { end, start } of source.comments) {
    code = code.slice(0, start) + code.slice(start, end).replace(/[^\n]/g, " ") + code.slice(end)
  }
  const lines = code.split("\n").filter((line) => line.trim() !== "").length
  return lines > mostCodeLines ? [`${source.path}: ${lines} lines of code, at most ${mostCodeLines}: two rooms`] : []
}

export const importsByName = (source: Source): ReadonlyArray<string> => {
  const found: Array<string> = []
  visit(source, {
    ImportDefaultSpecifier: (node) => {
      found.push(at(source, node, `default import ${node.local.name}`))
    }
  })
  return found
}

const namesOf = (declaration: Declaration): ReadonlyArray<string> => {
  if (declaration.type === "VariableDeclaration") {
    return declaration.declarations.flatMap(({ id }) => id.type === "Identifier" ? [id.name] : [])
  }
  return "id" in declaration && declaration.id?.type === "Identifier" ? [declaration.id.name] : []
}

/** One comment per name is enough: not one per overload, nor for a type that goes with a value. */
export const describesItsExports = (source: Source): ReadonlyArray<string> => {
  const isDescribed = (node: Node) =>
    source.comments.some((comment) =>
      comment.value.startsWith("*") && comment.end <= node.start
      && source.text.slice(comment.end, node.start).trim() === ""
    )
  const described = new Set<string>()
  const exported = new Map<string, Node>()
  const declare = (declaration: Declaration, statement: Node) => {
    if (isDescribed(statement)) { for (const name of namesOf(declaration)) described.add(name) }
  }
  for (const statement of source.program.body) {
    if (statement.type === "ExportNamedDeclaration") {
      if (statement.declaration !== null) {
        declare(statement.declaration, statement)
        for (const name of namesOf(statement.declaration)) exported.set(name, statement)
      } else if (statement.source === null) {
        for (const specifier of statement.specifiers) {
          const { local } = specifier
          const name = local.type === "Literal" ? local.value : local.name
          if (isDescribed(specifier)) described.add(name)
          exported.set(name, specifier)
        }
      }
    } else if (
      statement.type === "VariableDeclaration" || statement.type === "FunctionDeclaration"
      || statement.type === "ClassDeclaration" || statement.type === "TSInterfaceDeclaration"
      || statement.type === "TSTypeAliasDeclaration"
    ) {
      declare(statement, statement)
    }
  }
  return [...exported].flatMap(([name, node]) =>
    described.has(name) ? [] : [at(source, node, `${name} is exported without a doc comment`)]
  )
}

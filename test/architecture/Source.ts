/**
 * A source file, parsed: what the rules of this folder are functions of.
 */
import type { Comment, Node, Program, VisitorObject } from "oxc-parser"
import { parseSync, Visitor } from "oxc-parser"

export interface Source {
  /** From the root of the repository, with `/`. */
  readonly path: string
  readonly text: string
  readonly program: Program
  readonly comments: ReadonlyArray<Comment>
}

export const parse = (path: string, text: string): Source => {
  const { comments, errors, program } = parseSync(path, text, { sourceType: "module" })
  if (errors.length > 0) throw new Error(`${path} can't be parsed: ${errors.map((error) => error.message).join("; ")}`)
  return { path, text, program, comments }
}

export const visit = (source: Source, visitor: VisitorObject): void => new Visitor(visitor).visit(source.program)

/** `path:line: claim`, clickable in most terminals. */
export const at = (source: Source, node: { readonly start: number }, claim: string): string =>
  `${source.path}:${source.text.slice(0, node.start).split("\n").length}: ${claim}`

/** What a file imports, re-exports, loads dynamically or names in a type. */
export const importsOf = (source: Source): ReadonlyArray<{ readonly specifier: string; readonly start: number }> => {
  const found: Array<{ specifier: string; start: number }> = []
  const add = (node: Node | null) => {
    if (node === null) return
    // A computed specifier has no value to judge; its text is no module of ours, so the rules refuse it.
    const specifier = node.type === "Literal" ? String(node.value) : source.text.slice(node.start, node.end)
    found.push({ specifier, start: node.start })
  }
  visit(source, {
    ImportDeclaration: (node) => add(node.source),
    ExportNamedDeclaration: (node) => add(node.source),
    ExportAllDeclaration: (node) => add(node.source),
    ImportExpression: (node) => add(node.source),
    TSImportType: (node) => add(node.source)
  })
  return found
}

/**
 * The names that a program can import, per subpath of the package: what a release must not lose by accident.
 */
import { readdirSync, readFileSync } from "node:fs"
import * as path from "node:path"
import { parseSync } from "oxc-parser"

const root = path.join(import.meta.dirname, "../..")

/** `type` is what exists for the compiler only. */
type Kind = "value" | "type"

const isInternal = (text: string, start: number): boolean => /@internal\b[^]*\*\/\s*$/.test(lastComment(text, start))

const lastComment = (text: string, start: number): string => {
  const before = text.slice(0, start)
  return before.trimEnd().endsWith("*/") ? before.slice(before.lastIndexOf("/**")) : ""
}

const exportsOf = (file: string): ReadonlyMap<string, Kind> => {
  const text = readFileSync(file, "utf8")
  const names = new Map<string, Kind>()
  const add = (name: string, kind: Kind) => names.set(name, names.get(name) === "value" ? "value" : kind)
  for (const statement of parseSync(file, text).module.staticExports) {
    if (isInternal(text, statement.start)) continue
    for (const { exportName, importName, isType, moduleRequest } of statement.entries) {
      const name = exportName.name ?? exportName.kind.toLowerCase()
      if (!moduleRequest?.value.startsWith(".") || importName.kind === "Name") {
        add(name, isType ? "type" : "value")
        continue
      }
      const prefix = exportName.name === null ? "" : `${name}.`
      for (const [member, kind] of exportsOf(path.join(path.dirname(file), moduleRequest.value))) {
        if (prefix !== "" || member !== "default") add(prefix + member, isType ? "type" : kind)
      }
    }
  }
  return names
}

/** Every subpath with the file of src behind it. */
export const subpaths = (): ReadonlyArray<readonly [subpath: string, file: string]> => {
  const { exports, name } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"))
  const found: Array<readonly [string, string]> = []
  for (const [subpath, target] of Object.entries<Record<string, string> | string | null>(exports)) {
    const pattern = typeof target === "object" ? target?.["effect-lock-source"] : undefined
    if (pattern === undefined) continue
    if (!pattern.includes("*")) {
      found.push([path.posix.join(name, subpath), pattern])
      continue
    }
    const [folder = "", ending = ""] = pattern.split("*")
    for (const file of readdirSync(path.join(root, folder)).sort()) {
      if (!file.endsWith(ending)) continue
      const module = file.slice(0, -ending.length)
      found.push([path.posix.join(name, subpath.replace("*", module)), folder + file])
    }
  }
  return found
}

/** The text of `api.txt`. */
export const api = (): string =>
  subpaths().map(([subpath, file]) => {
    const lines = [...exportsOf(path.join(root, file))].map(([name, kind]) => kind === "type" ? `${name} (type)` : name)
    return [subpath, ...lines.sort().map((line) => `  ${line}`), ""].join("\n")
  }).join("\n")

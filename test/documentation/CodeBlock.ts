/**
 * The code blocks of the documentation, and what must be true of them: whatever a reader can paste works.
 *
 * - `ts`: a module of its own; it compiles, runs, and prints what its lines `// prints: …` say, if it has any.
 * - `ts fragment`: a piece that can't be pasted, such as a signature; it parses.
 * - `sh`: commands that exist.
 * - any other language is data.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { parseSync } from "oxc-parser"
import type { Source } from "../architecture/Source.ts"
import { run } from "../command.ts"

const root = path.join(import.meta.dirname, "../..")

export interface CodeBlock {
  readonly file: string
  /** Of the first line of code. */
  readonly line: number
  /** What is written after the fence. */
  readonly info: string
  readonly code: string
}

export const blocksOf = (file: string, markdown: string, firstLine = 1): ReadonlyArray<CodeBlock> => {
  const blocks: Array<CodeBlock> = []
  let open: { fence: string; info: string; line: number; code: Array<string> } | undefined
  for (const [index, text] of markdown.split("\n").entries()) {
    const [, indent = "", fence = "", info = ""] = /^(\s*)(`{3,}|~{3,})\s*(.*?)\s*$/.exec(text) ?? []
    if (open === undefined) {
      if (fence !== "") open = { fence: indent + fence, info, line: firstLine + index + 1, code: [] }
    } else if (info === "" && fence.startsWith(open.fence.trim())) {
      blocks.push({ file, line: open.line, info: open.info, code: `${open.code.join("\n")}\n` })
      open = undefined
    } else {
      const margin = open.fence.length - open.fence.trim().length
      open.code.push(text.slice(0, margin).trim() === "" ? text.slice(margin) : text)
    }
  }
  if (open !== undefined) throw new Error(`${file}:${open.line}: the code block is not closed`)
  return blocks
}

export const blocksOfComments = (source: Source): ReadonlyArray<CodeBlock> =>
  source.comments.filter((comment) => comment.value.startsWith("*")).flatMap((comment) => {
    const markdown = comment.value.split("\n").map((line) => line.replace(/^\s*\*+ ?/, "")).join("\n")
    return blocksOf(source.path, markdown, source.text.slice(0, comment.start).split("\n").length)
  })

/** The complaints about all of them; each starts with the file and line. */
export const complaintsAbout = async (blocks: ReadonlyArray<CodeBlock>): Promise<ReadonlyArray<string>> => {
  const complaints: Array<string> = []
  const complain = (block: CodeBlock, what: string) => complaints.push(`${block.file}:${block.line}: ${what}`)
  const programs: Array<CodeBlock> = []
  for (const block of blocks) {
    const { info } = block
    if (info === "ts") programs.push(block)
    else if (info === "ts fragment") {
      for (const error of parseSync("fragment.ts", block.code).errors) complain(block, error.message)
    } else if (info === "sh") {
      for (const complaint of complaintsAboutCommands(block.code)) complain(block, complaint)
    } else if (/^(ts|typescript|js|javascript|sh|bash|shell|console|zsh)\b/.test(info)) {
      complain(block, `marked "${info}": code is "ts" or "ts fragment", commands are "sh"`)
    }
  }
  if (programs.length > 0) await tryPrograms(programs, complain)
  return complaints
}

const tryPrograms = async (
  programs: ReadonlyArray<CodeBlock>,
  complain: (block: CodeBlock, what: string) => void
): Promise<void> => {
  // Inside the repository, so that the package's own name leads to src.
  mkdirSync(path.join(root, ".tmp"), { recursive: true })
  const folder = mkdtempSync(path.join(root, ".tmp/documentation-"))
  const fileOf = (index: number) => `block${index}.ts`
  try {
    const compilerOptions = { noUnusedLocals: false, noUnusedParameters: false }
    const tsconfig = { extends: "../../tsconfig.json", compilerOptions, include: ["*.ts"] }
    writeFileSync(path.join(folder, "tsconfig.json"), JSON.stringify(tsconfig))
    programs.forEach(({ code }, index) => writeFileSync(path.join(folder, fileOf(index)), code))
    const tsc = await run(process.execPath, [path.join(root, "node_modules/typescript/bin/tsc"), "--pretty", "false"], {
      cwd: folder
    })
    const errors = tsc.stdout.split("\n").filter((line) => /: error TS/.test(line))
    if (tsc.code !== 0 && errors.length === 0) throw new Error(`tsc: ${tsc.code}\n${tsc.stdout}\n${tsc.stderr}`)
    for (const [index, block] of programs.entries()) {
      const own = errors.filter((line) => line.startsWith(`${fileOf(index)}(`))
      for (const error of own) complain(block, `does not compile: ${error}`)
      if (own.length > 0) continue
      const complaint = await complaintAboutRunning(path.join(folder, fileOf(index)))
      if (complaint !== undefined) complain(block, complaint)
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Runs a program in its own folder and compares what it prints with its lines `// prints: …`. */
export const complaintAboutRunning = async (file: string): Promise<string | undefined> => {
  const expected = [...readFileSync(file, "utf8").matchAll(/\/\/ prints: ?(.*?)\s*$/gm)].map(([, text]) => text)
  const { code, stderr, stdout } = await run(process.execPath, ["--conditions=effect-lock-source", file], {
    cwd: path.dirname(file)
  })
  if (code !== 0) return `ends with ${code}\n${stdout}${stderr}`
  const printed = stdout.split("\n").map((line) => line.trimEnd())
  if (printed.at(-1) === "") printed.pop()
  if (expected.length === 0 || JSON.stringify(printed) === JSON.stringify(expected)) return undefined
  return `prints\n  ${printed.join("\n  ")}\ninstead of\n  ${expected.join("\n  ")}`
}

/** The commands that a reader may be told to type: scripts of package.json, and the installation of the package. */
const complaintsAboutCommands = (code: string): ReadonlyArray<string> => {
  const { name, peerDependencies, devDependencies, scripts } = JSON.parse(
    readFileSync(path.join(root, "package.json"), "utf8")
  )
  const packages = new Set([name, ...Object.keys(peerDependencies), ...Object.keys(devDependencies)])
  const works = (command: string): boolean => {
    const [program, verb, ...rest] = command.split(/\s+/)
    if (program !== "npm") return false
    const end = rest.indexOf("--")
    const args = end === -1 ? rest : rest.slice(0, end)
    if (verb === "start" || verb === "test") return verb in scripts && args.length === 0
    if (verb === "run") return args.length === 1 && args[0] !== undefined && args[0] in scripts
    return verb === "install" && rest.length > 0 &&
      rest.every((argument) => argument === "-D" || packages.has(argument))
  }
  return code.split("\n")
    .map((line) => line.replace(/(^|\s)#.*$/, "").trim())
    .filter((command) => command !== "" && !works(command))
    .map((command) => `\`${command}\` is no script of package.json and does not install what it has`)
}

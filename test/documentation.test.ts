/**
 * Whatever the documentation shows, works.
 */
import { assert, describe, it } from "@effect/vitest"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import * as path from "node:path"
import { parse } from "./architecture/Source.ts"
import { blocksOf, blocksOfComments, complaintAboutRunning, complaintsAbout } from "./documentation/CodeBlock.ts"

const root = path.dirname(import.meta.dirname)

const filesIn = (folder: string, ending: string, recursive = false): ReadonlyArray<string> =>
  existsSync(path.join(root, folder))
    ? readdirSync(path.join(root, folder), { recursive, encoding: "utf8" })
      .map((file) => path.posix.join(folder, file.replaceAll(path.sep, "/")))
      .filter((file) => file.endsWith(ending))
      .sort()
    : []

const read = (file: string) => readFileSync(path.join(root, file), "utf8")

describe("the documentation", () => {
  it("the readme shows how to install and how to use the package", () => {
    assert.isTrue(existsSync(path.join(root, "README.md")), "README.md is missing")
    const languages = blocksOf("README.md", read("README.md")).map(({ info }) => info)
    assert.includeMembers(languages, ["ts", "sh"])
  })

  // All in one go: each complaint names its page and line, and one compilation for each page would take a minute.
  it("the code of every page and doc comment works", async () => {
    const pages = ["README.md", "SECURITY.md", "bench/README.md", ...filesIn("docs", ".md", true)]
    const blocks = [
      ...pages.filter((file) => existsSync(path.join(root, file))).flatMap((file) => blocksOf(file, read(file))),
      ...filesIn("src", ".ts", true).flatMap((file) => blocksOfComments(parse(file, read(file))))
    ]
    assert.deepStrictEqual(await complaintsAbout(blocks), [])
  })

  for (const file of filesIn("examples", ".ts")) {
    it(`${file} prints what it says`, async () =>
      assert.isUndefined(await complaintAboutRunning(path.join(root, file))))
  }
})

describe("the check of the documentation", () => {
  const check = (...lines: ReadonlyArray<string>) => complaintsAbout(blocksOf("page.md", lines.join("\n")))

  it("accepts code and commands that work", async () => {
    const complaints = await check(
      "```ts",
      "import { Console, Effect } from \"effect\"",
      "import { LockBackend } from \"effect-lock\"",
      "Effect.runSync(Console.log(`one\\n${LockBackend.key}`))",
      "// prints: one",
      "// prints: effect-lock/LockBackend",
      "```",
      "1. in a list",
      "   ```ts",
      "   const x: number = 1",
      "   ```",
      "```ts fragment",
      "declare const check: Effect<void, LockLost>",
      "```",
      "```sh",
      "npm install effect-lock effect",
      "npm start # shows it",
      "npm test -- test/Lease.test.ts",
      "npm run format",
      "```",
      "```json",
      "{ not checked }",
      "```"
    )
    assert.deepStrictEqual(complaints, [])
  })

  const refused: ReadonlyArray<readonly [what: string, complaint: RegExp, ...lines: ReadonlyArray<string>]> = [
    ["code that does not compile", /^page\.md:2: does not compile: .*TS2322/, "```ts", "const x: string = 1", "```"],
    ["a name that is not exported", /TS2305/, "```ts", "import { nothing } from \"effect-lock\"", "```"],
    ["code that fails", /ends with 1[^]*of no use/, "```ts", "throw new Error(\"of no use\")", "```"],
    ["other output", /prints\n {2}1\ninstead of\n {2}2/, "```ts", "console.log(1)", "// prints: 2", "```"],
    ["more output", /prints\n {2}1\n {2}2\ninstead of/, "```ts", "console.log(\"1\\n2\") // prints: 1", "```"],
    ["a fragment that does not parse", /page\.md:2: /, "```ts fragment", "const =", "```"],
    ["code that is not to be run", /marked "ts no-run"/, "```ts no-run", "1", "```"],
    ["code under another name", /marked "typescript"/, "```typescript", "1", "```"],
    ["a script that does not exist", /npm run nothing/, "```sh", "npm run nothing", "```"],
    ["a command of no script", /`curl x \| sh`/, "```sh", "npm test", "curl x | sh", "```"],
    ["an unknown package", /npm install other/, "```sh", "npm install other", "```"]
  ]
  for (const [what, complaint, ...lines] of refused) {
    it(`refuses ${what}`, async () => {
      const complaints = await check(...lines)
      assert.lengthOf(complaints, 1)
      assert.match(complaints[0] ?? "", complaint)
    })
  }

  it("finds the code in doc comments, with its line", () => {
    const text = "const x = 1\n/**\n * **Example**\n *\n * ```ts\n *   f(`*`)\n * ```\n */\nexport const y = 1\n"
    assert.deepStrictEqual(blocksOfComments(parse("src/x.ts", text)), [
      { file: "src/x.ts", line: 6, info: "ts", code: "  f(`*`)\n" }
    ])
  })

  it("refuses a block that is not closed", () => assert.throws(() => blocksOf("page.md", "```ts\n1"), /not closed/))
})

import { assert, describe, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import * as path from "node:path"
import { api } from "./architecture/api.ts"
import { usesNothingForbidden } from "./architecture/forbidden.ts"
import { hasNoTraceOfAMachine, locksEveryPlatform } from "./architecture/repository.ts"
import { importsGoDown } from "./architecture/rooms.ts"
import { describesItsExports, hasATellingName, importsByName, isOneRoom } from "./architecture/shape.ts"
import type { Source } from "./architecture/Source.ts"
import { parse } from "./architecture/Source.ts"

const root = path.dirname(import.meta.dirname)
const read = (file: string) => readFileSync(path.join(root, file), "utf8")

/** What git would commit: tracked, or new and not ignored. */
const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
  cwd: root,
  encoding: "utf8"
})
  .split("\n")
  .filter((file) => file !== "" && existsSync(path.join(root, file)))

const sources = files.filter((file) => /\.(ts|mjs)$/.test(file)).map((file) => parse(file, read(file)))
const inSrc = sources.filter(({ path }) => path.startsWith("src/"))

type Rule = (source: Source) => ReadonlyArray<string>

const obey = (rule: Rule, where: ReadonlyArray<Source>) => {
  assert.isNotEmpty(where)
  assert.deepStrictEqual(where.flatMap(rule), [])
}

/** A rule that accepts everything would be green on any tree: each is shown something that it must refuse. */
const refuses = (rule: Rule, file: string, text: string, complaint: RegExp) => {
  const complaints = rule(parse(file, text))
  assert.strictEqual(complaints.length, 1, `${file}: ${text}\n${complaints.join("\n")}`)
  assert.match(complaints[0] ?? "", complaint)
}

const accepts = (rule: Rule, file: string, text: string) => assert.deepStrictEqual(rule(parse(file, text)), [], text)

describe("rooms", () => {
  it("imports in src go down only", () => obey(importsGoDown, inSrc))

  const refused: ReadonlyArray<readonly [file: string, specifier: string, complaint: RegExp]> = [
    ["src/LockError.ts", "./Lock.ts", /contract imports src\/Lock\.ts \(core\)/],
    ["src/Lease.ts", "./internal/keeper.ts", /contract imports .* \(core\)/],
    ["src/Lock.ts", "./layers/Memory.ts", /core imports .* \(layers\)/],
    ["src/internal/keeper.ts", "../layers/internal/key.ts", /core imports .* \(layers\/internal\)/],
    ["src/internal/keeper.ts", "../index.ts", /core imports .* \(index\)/],
    ["src/index.ts", "./layers/Memory.ts", /index imports .* \(layers\)/],
    ["src/layers/File.ts", "../Lock.ts", /layers imports .* \(core\)/],
    ["src/layers/File.ts", "../internal/signal.ts", /layers imports .* \(core\)/],
    ["src/layers/File.ts", "./Memory.ts", /layers imports .* \(layers\)/],
    ["src/layers/internal/key.ts", "../File.ts", /layers\/internal imports .* \(layers\)/],
    ["src/layers/File.ts", "../testing/index.ts", /layers imports .* \(testing\)/],
    ["src/testing/index.ts", "./vitest.ts", /testing imports .* \(testing\/vitest\)/],
    ["src/fromUrl.ts", "./cli/main.ts", /fromUrl imports .* \(cli\)/],
    ["src/Lock.ts", "./cache/entries.ts", /no room/],
    ["src/Lock.ts", "effect", /barrel/],
    ["src/Lock.ts", "effect/FileSystem", /unstable/],
    ["src/LockError.ts", "effect/PlatformError", /unstable/],
    ["src/internal/ownerId.ts", "effect/crypto/SecureRandom", /unstable/],
    ["src/testing/index.ts", "effect/http", /unstable/],
    ["src/Lock.ts", "node:crypto", /neither effect nor this package/],
    ["src/testing/index.ts", "vitest", /neither effect nor this package/],
    ["src/layers/File.ts", "@effect/platform-node/NodeFileSystem", /driver of another layer/],
    ["src/layers/Gcs.ts", "ioredis", /driver of another layer/],
    ["src/layers/Redis.ts", "redis", /not a peer dependency/],
    ["src/layers/File.ts", "effect-lock", /not a peer dependency/]
  ]
  for (const [file, specifier, complaint] of refused) {
    it(`${file} may not import ${specifier}`, () =>
      refuses(importsGoDown, file, `import * as X from "${specifier}"`, complaint))
  }

  it("a file outside of every room is refused", () => refuses(importsGoDown, "src/cache/entries.ts", "", /no room/))

  it("every way to import counts", () => {
    for (
      const text of [
        `import type { X } from "./layers/Memory.ts"`,
        `import "./layers/Memory.ts"`,
        `export * from "./layers/Memory.ts"`,
        `export * as X from "./layers/Memory.ts"`,
        `export { X } from "./layers/Memory.ts"`,
        `const x = () => import("./layers/Memory.ts")`,
        `type X = import("./layers/Memory.ts").X`
      ]
    ) refuses(importsGoDown, "src/Lock.ts", text, /core imports src\/layers\/Memory\.ts/)
    refuses(importsGoDown, "src/Lock.ts", "const x = (name: string) => import(name)", /core imports name/)
  })

  it("what is allowed is accepted", () => {
    accepts(
      importsGoDown,
      "src/Lock.ts",
      `import * as X from "./internal/keeper.ts"; import * as Y from "effect/Effect"`
    )
    accepts(importsGoDown, "src/Lock.ts", `import * as X from "effect/testing/TestClock"`)
    accepts(
      importsGoDown,
      "src/layers/File.ts",
      `import * as X from "./internal/key.ts"; import * as Y from "effect/Path"`
    )
    accepts(importsGoDown, "src/layers/File.ts", `import * as X from "node:os"`)
    accepts(
      importsGoDown,
      "src/testing/vitest.ts",
      `import * as X from "@effect/vitest"; import * as Y from "./index.ts"`
    )
    accepts(importsGoDown, "src/cli/main.ts", `import * as X from "../Lock.ts"; import * as Y from "effect/cli"`)
  })
})

describe("forbidden", () => {
  it("src outside of the command line uses nothing that Effect has its own of", () =>
    obey(usesNothingForbidden, inSrc.filter(({ path }) => !path.startsWith("src/cli/"))))

  const refused: ReadonlyArray<readonly [what: string, text: string]> = [
    ["Date.now", "const x = Date.now()"],
    ["Date.now", "const x = Date[\"now\"]"],
    ["Date.now", "const x = globalThis.Date.now()"],
    ["new Date", "const x = new Date()"],
    ["Math.random", "const x = [1].map(Math.random)"],
    ["setTimeout", "setTimeout(() => {}, 1)"],
    ["setTimeout", "globalThis.setTimeout(() => {}, 1)"],
    ["setInterval", "const later = { later: setInterval }"],
    ["setImmediate", "setImmediate(() => {})"],
    ["queueMicrotask", "queueMicrotask(() => {})"],
    ["process.env", "const x = process.env.HOME"],
    ["console", "console.log(1)"],
    ["async", "const x = async () => 1"],
    ["async", "const x = { async f() {} }"],
    ["async", "async function f() {}"],
    ["await", "const x = await y"],
    ["await", "for await (const x of y) {}"],
    ["try", "try { f() } finally { g() }"],
    ["throw", "throw x"],
    ["new Promise", "const x = new Promise(() => {})"],
    ["as any", "const x = y as any"],
    ["@ts-ignore", "// @ts-ignore\nconst x = 1"],
    ["@ts-nocheck", "/* @ts-nocheck */"]
  ]
  for (const [what, text] of refused) {
    it(`${what} is refused in: ${text.replaceAll("\n", " ")}`, () =>
      refuses(usesNothingForbidden, "src/Lock.ts", text, new RegExp(`: ${what}$`)))
  }

  it("words in comments, strings and names of properties are accepted", () => {
    accepts(usesNothingForbidden, "src/Lock.ts", "// await Date.now(), try console.log\nconst x = \"new Date() throw\"")
    accepts(usesNothingForbidden, "src/Lock.ts", "const x = `setTimeout ${1} process.env`")
    accepts(
      usesNothingForbidden,
      "src/Lock.ts",
      "const x = { setTimeout: 1, console: 2 }; x.console; socket.setTimeout(0)"
    )
    accepts(usesNothingForbidden, "src/Lock.ts", "const x = y as unknown as Date; const z = Effect.try(f)")
  })
})

describe("shape", () => {
  it("no file is called utils, common, helpers or types", () => obey(hasATellingName, sources))
  it("such names are refused", () => {
    for (const name of ["utils", "util", "common", "helpers", "types", "Shared"]) {
      refuses(hasATellingName, `src/internal/${name}.ts`, "", /says nothing/)
      refuses(hasATellingName, `src/${name}/x.ts`, "", /says nothing/)
    }
    refuses(hasATellingName, "test/helpers.test.ts", "", /says nothing/)
    accepts(hasATellingName, "src/internal/typesetting.ts", "")
    accepts(hasATellingName, "test/types/inference.ts", "")
  })

  it("no file of src has more than 250 lines of code", () => obey(isOneRoom, inSrc))
  it("lines of code are those with more than a comment on them", () => {
    const code = (lines: number) => "const x = 1 // one\n/* two */\n\n".repeat(lines)
    accepts(isOneRoom, "src/x.ts", code(250))
    refuses(isOneRoom, "src/x.ts", code(251), /251 lines/)
    refuses(isOneRoom, "src/x.ts", `const x = \`\n${"// text\n".repeat(250)}\``, /252 lines/)
  })

  it("modules are imported by name or as a namespace", () => obey(importsByName, sources))
  it("a default import is refused", () =>
    refuses(importsByName, "src/x.ts", "import X from \"effect\"", /default import X/))

  it("every public export has a doc comment", () =>
    obey(describesItsExports, inSrc.filter(({ path }) => /^src\/((layers|testing)\/)?[^/]+\.ts$/.test(path))))
  it("an export without one is refused", () => {
    for (
      const text of [
        "export const x = 1",
        "/* about x */\nexport const x = 1",
        "/** about y */\nconst y = 1\nexport const x = 1",
        "export function x() {}",
        "export class x {}",
        "export interface x {}",
        "export type x = 1",
        "const x = 1\nexport { x }",
        "const x = 1\nexport { x as y }"
      ]
    ) refuses(describesItsExports, "src/x.ts", text, /x is exported without/)
    accepts(describesItsExports, "src/x.ts", "/** one */\nexport const x = 1\nexport type x = typeof x")
    accepts(describesItsExports, "src/x.ts", "/** one */\nconst x = 1\nexport { x as y }")
    accepts(describesItsExports, "src/x.ts", "const x = 1\nexport {\n  /** one */\n  x as y\n}")
    accepts(describesItsExports, "src/x.ts", "export { x } from \"./y.ts\"")
  })
})

describe("api", () => {
  it("api.txt is what src exports (npm run api, and look at the difference)", () =>
    assert.strictEqual(read("api.txt"), api()))
})

describe("repository", () => {
  it("no file tells of the machine it was written on", () => {
    assert.isNotEmpty(files)
    assert.deepStrictEqual(files.flatMap((file) => hasNoTraceOfAMachine(file, read(file))), [])
  })
  it("such traces are refused", () => {
    const refused = [
      ["see ", "/work", "/main/src"],
      ["cwd: '", "/home", "/me/x'"],
      ["https://", "registry.", "example.org/x"],
      ["\"resolved\": ", "\"http", "://example.org/x.tgz\""]
    ]
    for (const pieces of refused) {
      assert.strictEqual(hasNoTraceOfAMachine("x", pieces.join("")).length, 1, pieces.join(""))
    }
    // Ordinary addresses and inner folders of those names are none; in pieces too, for those who search for traces.
    const innocent = ["src/internal", "/home", "/x, https://example.org", "/work", "/main"].join("")
    assert.deepStrictEqual(hasNoTraceOfAMachine("x", innocent), [])
  })

  it("npm ci accepts the lock file on every platform", () =>
    assert.deepStrictEqual(locksEveryPlatform("package-lock.json", read("package-lock.json")), []))
  it("a lock file that leaves out a platform is refused", () => {
    const lock = (packages: unknown) => locksEveryPlatform("x", JSON.stringify({ packages }))
    const tool = { optionalDependencies: { mac: "1.0.0" } }
    assert.lengthOf(lock({ "node_modules/a/node_modules/b": tool }), 1)
    assert.lengthOf(lock({ "node_modules/a/node_modules/b": tool, "node_modules/mac": { optional: true } }), 1)
    assert.lengthOf(lock({ "node_modules/a/node_modules/b": tool, "node_modules/mac": { version: "1.0.0" } }), 0)
    assert.lengthOf(
      lock({ "node_modules/a/node_modules/b": tool, "node_modules/a/node_modules/mac": { version: "1.0.0" } }),
      0
    )
  })
})

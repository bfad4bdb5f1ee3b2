/**
 * The package as a user gets it: packed, installed into an empty project, compiled against and run.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { subpaths } from "./architecture/api.ts"
import { succeed } from "./command.ts"

const root = path.dirname(import.meta.dirname)
const manifest = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"))

let project: string
let installed: string

beforeAll(async () => {
  project = mkdtempSync(path.join(tmpdir(), "effect-lock-package-"))
  installed = path.join(project, "node_modules/effect-lock")
  // Builds too: the script `prepack`.
  await succeed("npm", ["pack", "--silent", "--pack-destination", project], { cwd: root })
  const tarball = readdirSync(project).find((file) => file.endsWith(".tgz"))
  writeFileSync(path.join(project, "package.json"), JSON.stringify({ private: true, type: "module" }))
  // Offline, and without the peers, which are linked below: the package itself must need nothing else.
  const offline = ["--offline", "--legacy-peer-deps", "--no-audit", "--no-fund", "--silent"]
  await succeed("npm", ["install", ...offline, `./${tarball}`], { cwd: project })
  for (const name of ["effect", "vitest", "@effect", "@types"]) {
    symlinkSync(path.join(root, "node_modules", name), path.join(project, "node_modules", name), "junction")
  }
  cpSync(path.join(root, "test/package"), path.join(project, "src"), { recursive: true })
})

afterAll(() => rmSync(project, { recursive: true, force: true }))

const node = (args: ReadonlyArray<string>) => succeed(process.execPath, args, { cwd: project })

const evaluate = async (code: string): Promise<unknown> => {
  const script = path.join(project, "evaluate.mjs")
  writeFileSync(script, code)
  return JSON.parse((await node([script])).stdout)
}

describe("the package", () => {
  it("holds dist, src, the license and the readme, and nothing else", () => {
    const files = readdirSync(installed, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(installed, path.join(entry.parentPath, entry.name)).replaceAll(path.sep, "/"))
    const allowed = /^(package\.json|LICENSE|README\.md|src\/.+\.ts|dist\/.+\.(js|js\.map|d\.ts|d\.ts\.map))$/
    assert.deepStrictEqual(files.filter((file) => !allowed.test(file) || /\.test\./.test(file)), [])
    const built = (file: string) => ["js", "d.ts"].map((ending) => file.replace(/^src\/(.+)\.ts$/, `dist/$1.${ending}`))
    const required = ["LICENSE", "README.md", ...files.filter((file) => file.startsWith("src/")).flatMap(built)]
    assert.deepStrictEqual(required.filter((file) => !files.includes(file)), [])
    assert.include(required, "dist/index.js")
  })

  it("depends on nothing, and has effect as its only required peer", () => {
    const { dependencies, engines, optionalDependencies, peerDependencies, peerDependenciesMeta } = JSON.parse(
      readFileSync(path.join(installed, "package.json"), "utf8")
    )
    assert.isUndefined(dependencies)
    assert.isUndefined(optionalDependencies)
    const required = Object.keys(peerDependencies).filter((name) => peerDependenciesMeta[name]?.optional !== true)
    assert.deepStrictEqual(required, ["effect"])
    assert.deepStrictEqual(engines, { node: ">=22.19.0" })
  })

  // Whoever does not use a driver need not have it.
  describe("without any driver", () => {
    for (const example of readdirSync(path.join(import.meta.dirname, "package"))) {
      it(`runs the program ${example}`, async () => {
        const { stdout } = await node([path.join(project, "src", example)])
        assert.strictEqual(stdout, "held 1, then free\n")
      })
    }

    it("has declarations that compile", () => compile(["effect-lock", ...withoutDriver], "alone.ts"))

    it("says which is missing", async () => {
      const failure = await evaluate(`
        const failure = await import("effect-lock/layers/Redis").then(() => "imported", (error) => error.message)
        console.log(JSON.stringify(failure))
      `)
      assert.match(String(failure), /Cannot find package 'ioredis'/)
    })
  })
})

describe("the package, with every driver", () => {
  beforeAll(() => {
    for (const name of ["ioredis", "@google-cloud", "@kubernetes"]) {
      symlinkSync(path.join(root, "node_modules", name), path.join(project, "node_modules", name), "junction")
    }
  })

  it("exports what api.txt says, built, under every subpath", async () => {
    const api = readFileSync(path.join(root, "api.txt"), "utf8")
    const expected: Record<string, Array<string>> = {}
    for (const section of api.trim().split("\n\n")) {
      const [subpath = "", ...lines] = section.split("\n")
      const values = lines.filter((line) => !line.endsWith(" (type)")).map((line) => line.trim().replace(/\..*/, ""))
      expected[subpath] = [...new Set(values)].sort()
    }
    const actual = await evaluate(`
      const found = {}
      for (const subpath of ${JSON.stringify(subpaths().map(([subpath]) => subpath))}) {
        if (!import.meta.resolve(subpath).includes("/dist/")) throw new Error(subpath + " is not the built one")
        found[subpath] = Object.keys(await import(subpath)).sort()
      }
      console.log(JSON.stringify(found))
    `)
    assert.deepStrictEqual(actual, expected)
  })

  it("keeps its inner modules to itself", async () => {
    const inner = ["internal/keeper", "layers/internal/encodedName", "src/index.ts", "dist/index.js", "Lock", "fromUrl"]
    const codes = await evaluate(`
      const codes = {}
      for (const name of ${JSON.stringify(inner)}) {
        codes[name] = await import("effect-lock/" + name).then(() => "imported", (error) => error.code)
      }
      const manifest = await import("effect-lock/package.json", { with: { type: "json" } })
      console.log(JSON.stringify({ ...codes, version: manifest.default.version }))
    `)
    assert.deepStrictEqual(codes, {
      ...Object.fromEntries(inner.map((name) => [name, "ERR_PACKAGE_PATH_NOT_EXPORTED"])),
      version: manifest.version
    })
  })

  it("has declarations that compile in a strict project, library files checked too", () =>
    compile(subpaths().map(([subpath]) => subpath), "all.ts"))
})

const withoutDriver = ["Etcd", "File", "Gcs", "Kubernetes", "Memcached", "Memory"].map((name) =>
  `effect-lock/layers/${name}`
)

/** A strict project that imports all of these. */
const compile = async (entries: ReadonlyArray<string>, file: string) => {
  const compilerOptions = {
    target: "ES2023",
    // Effect's own declarations need DOM for web cryptography.
    lib: ["ES2024", "DOM"],
    module: "NodeNext",
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    noEmit: true,
    types: ["node"]
  }
  const folder = path.join(project, "compiled", file)
  mkdirSync(folder, { recursive: true })
  writeFileSync(
    path.join(folder, file),
    entries.map((entry, index) => `export * as Entry${index} from "${entry}"\n`).join("")
  )
  writeFileSync(path.join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, include: [".", "../../src"] }))
  await node([path.join(root, "node_modules/typescript/bin/tsc"), "-p", folder])
}

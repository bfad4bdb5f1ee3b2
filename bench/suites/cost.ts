/** What a library costs before it does anything: the time to import it, its files, its share of a bundle. */
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs"
import { createRequire } from "node:module"
import * as path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { gzipSync } from "node:zlib"
import type { Role } from "../harness/Contestant.ts"
import { exactly, measure } from "../harness/statistics.ts"
import { type Row, type Table, values } from "../harness/Table.ts"
import type { Suite } from "./Suite.ts"

const root = fileURLToPath(new URL("../../", import.meta.url))
const peers = path.join(root, "bench/peers")
const effect3 = path.join(root, "bench/effect3")

interface Subject {
  readonly name: string
  readonly role: Role
  /** Where it is imported from. */
  readonly folder: string
  /** The modules that a program imports; those of `before` it has anyway. */
  readonly modules: ReadonlyArray<string>
  readonly before?: ReadonlyArray<string>
  /** Its package, where its files are counted. */
  readonly package?: string
  /** What of it is bundled. */
  readonly bundle?: string
}

const withLock = `export { withLock } from "effect-lock"`

const peer = (name: string, alias: string, bundle: string, folder = peers): Subject => ({
  name,
  role: "peer",
  folder,
  modules: [alias],
  package: alias,
  bundle
})

const subjects: ReadonlyArray<Subject> = [
  { name: "ioredis", role: "floor", folder: root, modules: ["ioredis"], package: "ioredis" },
  {
    name: "effect: what a small program imports",
    role: "floor",
    folder: root,
    modules: ["effect/Effect", "effect/Layer"]
  },
  { name: "effect: the whole", role: "floor", folder: root, modules: ["effect"], package: "effect" },
  {
    name: "effect-lock + memory",
    role: "effect-lock",
    folder: root,
    modules: ["effect-lock", "effect-lock/layers/Memory"],
    package: "effect-lock",
    bundle: `${withLock}; export { layer } from "effect-lock/layers/Memory"`
  },
  {
    name: "effect-lock + Redis",
    role: "effect-lock",
    folder: root,
    modules: ["effect-lock", "effect-lock/layers/Redis"],
    package: "effect-lock",
    bundle: `${withLock}; export { layer } from "effect-lock/layers/Redis"`
  },
  {
    name: "effect-lock + Redis, on top of effect",
    role: "effect-lock",
    folder: root,
    before: ["effect"],
    modules: ["effect-lock", "effect-lock/layers/Redis"]
  },
  {
    name: "effect-lock + file",
    role: "effect-lock",
    folder: root,
    modules: ["effect-lock", "effect-lock/layers/File"],
    bundle: `${withLock}; export { layer } from "effect-lock/layers/File"`
  },
  peer("redlock 4.2", "redlock4", `export { default } from "redlock4"`),
  peer("redlock 5 beta", "redlock5", `export { default } from "redlock5"`),
  peer("@sesamecare-oss/redlock", "@sesamecare-oss/redlock", `export { Redlock } from "@sesamecare-oss/redlock"`),
  peer(
    "redlock-universal",
    "redlock-universal",
    `export { createLock, IoredisAdapter } from "redlock-universal"`
  ),
  peer("redis-semaphore", "redis-semaphore", `export { Mutex } from "redis-semaphore"`),
  peer("simple-redis-mutex", "simple-redis-mutex", `export { lock } from "simple-redis-mutex"`),
  peer("proper-lockfile", "proper-lockfile", `export { lock } from "proper-lockfile"`),
  peer("async-mutex", "async-mutex", `export { Mutex } from "async-mutex"`),
  peer("etcd3", "etcd3", `export { Etcd3 } from "etcd3"`),
  peer(
    "effect-distributed-lock (with its effect 3)",
    "effect-distributed-lock",
    `export { DistributedSemaphore, RedisBacking } from "effect-distributed-lock"`,
    effect3
  )
]

// -----------------------------------------------------------------------------
// importing
// -----------------------------------------------------------------------------

const list = (modules: ReadonlyArray<string>) =>
  modules.map((name) => `await import(${JSON.stringify(name)})`).join("\n")

/** Milliseconds and megabytes that an import takes in a process of its own. */
const imported = (
  { before = [], folder, modules }: Subject
): { milliseconds: number; megabytes: number } | undefined => {
  const code = `
    ${list(before)}
    const memory = process.memoryUsage().rss
    const begin = performance.now()
    ${list(modules)}
    const milliseconds = performance.now() - begin
    console.log(JSON.stringify({ milliseconds, megabytes: (process.memoryUsage().rss - memory) / 1e6 }))
    process.exit()`
  const { status, stdout } = spawnSync(
    process.execPath,
    [...process.execArgv, "--input-type=module", "--eval", code],
    { cwd: folder, encoding: "utf8" }
  )
  return status === 0 ? JSON.parse(stdout) : undefined
}

// -----------------------------------------------------------------------------
// files
// -----------------------------------------------------------------------------

const bytesIn = (folder: string): number =>
  readdirSync(folder, { withFileTypes: true }).reduce((sum, entry) => {
    const file = path.join(folder, entry.name)
    if (entry.isDirectory()) return entry.name === "node_modules" ? sum : sum + bytesIn(file)
    return entry.isFile() ? sum + statSync(file).size : sum
  }, 0)

interface Manifest {
  readonly files?: ReadonlyArray<string>
  readonly dependencies?: Readonly<Record<string, string>>
}

const manifestOf = (folder: string): Manifest => JSON.parse(readFileSync(path.join(folder, "package.json"), "utf8"))

/** Where Node finds a package from a folder. */
const find = (name: string, from: string): string | undefined => {
  for (let folder = from;; folder = path.dirname(folder)) {
    const found = path.join(folder, "node_modules", name)
    if (existsSync(path.join(found, "package.json"))) return found
    if (folder === path.dirname(folder)) return undefined
  }
}

/** The package and all that it depends on; what the user brings (its peers: effect, ioredis) is the user's. */
const closure = (folder: string, found: Set<string> = new Set()): Set<string> => {
  if (found.has(folder)) return found
  found.add(folder)
  for (const name of Object.keys(manifestOf(folder).dependencies ?? {})) {
    const dependency = find(name, folder)
    if (dependency !== undefined) closure(dependency, found)
  }
  return found
}

const sizes = ({ folder, package: name }: Subject): { own: number; all: number; packages: number } | undefined => {
  if (name === undefined) return undefined
  if (name === "effect-lock") {
    // What `npm pack` would take.
    const own = [...manifestOf(root).files ?? [], "package.json", "README.md", "LICENSE"]
      .map((file) => path.join(root, file))
      .filter((file) => existsSync(file))
      .reduce((sum, file) => sum + (statSync(file).isDirectory() ? bytesIn(file) : statSync(file).size), 0)
    return { own, all: own, packages: 1 }
  }
  const found = find(name, folder)
  if (found === undefined) return undefined
  const all = closure(found)
  return { own: bytesIn(found), all: [...all].reduce((sum, each) => sum + bytesIn(each), 0), packages: all.size }
}

// -----------------------------------------------------------------------------
// bundles
// -----------------------------------------------------------------------------

type Bundle = (contents: string, folder: string, external: ReadonlyArray<string>) => Promise<Buffer>

/** Undefined if the bundler is not installed. */
const bundler = async (): Promise<Bundle | undefined> => {
  const require = createRequire(path.join(peers, "package.json"))
  let file: string
  try {
    file = require.resolve("esbuild")
  } catch {
    return undefined
  }
  const { default: esbuild } = await import(pathToFileURL(file).href)
  return async (contents, folder, external) => {
    const { outputFiles } = await esbuild.build({
      stdin: { contents, resolveDir: folder, sourcefile: "entry.js" },
      ...{ bundle: true, minify: true, write: false, logLevel: "silent" },
      ...{ format: "esm", platform: "node", target: "node22", external, legalComments: "none", conditions }
    })
    return Buffer.from(outputFiles[0].contents)
  }
}

/** The same as this process has. */
const conditions = process.execArgv.flatMap((arg) => /^--conditions=(.+)/.exec(arg)?.slice(1) ?? [])

const drivers = ["ioredis", "redis", "@valkey/valkey-glide"]

// -----------------------------------------------------------------------------

const rowOf = async (
  subject: Subject,
  times: ReadonlyArray<{ milliseconds: number; megabytes: number }>,
  bundle: Bundle | undefined
): Promise<Row> => {
  const { bundle: contents, folder, name, role } = subject
  if (times.length === 0) return { name, role, status: "not installed", values: {} }
  const size = sizes(subject)
  const kilobytes = (bytes: number | undefined) => bytes === undefined ? undefined : exactly(bytes / 1000)
  const bundled = async (external: ReadonlyArray<string>) =>
    contents === undefined || bundle === undefined
      ? undefined
      : await bundle(contents, folder, external).catch(() => undefined)
  const whole = await bundled(drivers)
  const own = await bundled([...drivers, "effect", "effect/*"])
  return {
    name,
    role,
    status: "measured",
    values: values({
      import: measure(times.map(({ milliseconds }) => milliseconds)),
      rss: measure(times.map(({ megabytes }) => megabytes)),
      own: kilobytes(size?.own),
      installed: kilobytes(size?.all),
      packages: size === undefined ? undefined : exactly(size.packages),
      bundleOwn: kilobytes(own && gzipSync(own).length),
      bundle: kilobytes(whole && gzipSync(whole).length),
      minified: kilobytes(whole?.length)
    })
  }
}

export const cost: Suite = {
  name: "cost",
  programs: [],
  run: (effort, log) =>
    Effect.promise(async () => {
      log("Import, files, bundle")
      const bundle = await bundler()
      const times = new Map(
        subjects.map((subject) => [subject, [] as Array<{ milliseconds: number; megabytes: number }>])
      )
      // In turns, so that what disturbs one disturbs all; the first of each fills the system's caches.
      for (let round = 0; round <= effort.imports; round++) {
        for (const subject of subjects) {
          const found = imported(subject)
          if (found !== undefined && round > 0) times.get(subject)?.push(found)
        }
      }
      const rows: Array<Row> = []
      for (const subject of subjects) rows.push(await rowOf(subject, times.get(subject) ?? [], bundle))
      const table: Table = {
        id: "cost",
        title: "The cost of the library itself",
        about:
          `Imports: ${effort.imports} fresh processes each, in turns, with the files in the system's cache. Files: `
          + "of the package, and of it with its dependencies, without its peers (effect, ioredis). Bundle: what one "
          + "exports to take a lock with one backend, by esbuild, for Node, without the driver.",
        columns: [
          { id: "import", title: "import", unit: "ms", digits: 1 },
          { id: "rss", title: "memory of the import", unit: "MB", digits: 1 },
          { id: "own", title: "files", unit: "kB", digits: 0 },
          { id: "installed", title: "with dependencies", unit: "kB", digits: 0 },
          { id: "packages", title: "packages", unit: "", digits: 0 },
          { id: "bundleOwn", title: "bundle without effect, gzip", unit: "kB", digits: 1 },
          { id: "bundle", title: "bundle, gzip", unit: "kB", digits: 1 },
          { id: "minified", title: "bundle, minified", unit: "kB", digits: 1 }
        ],
        rows,
        charts: [{ column: "import", scale: "linear" }, { column: "bundle", scale: "logarithmic" }]
      }
      return [table]
    })
}

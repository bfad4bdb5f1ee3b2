/**
 * Imports go down only: cli → fromUrl → layers, testing → core → contract → effect. Layers know neither the core nor
 * each other; what they share is in layers/internal.
 */
import { existsSync, readFileSync } from "node:fs"
import * as path from "node:path"
import type { Source } from "./Source.ts"
import { at, importsOf } from "./Source.ts"

type Room =
  | "contract"
  | "core"
  | "index"
  | "layers"
  | "layers/internal"
  | "testing"
  | "testing/vitest"
  | "fromUrl"
  | "cli"

const mayImport: Record<Room, ReadonlyArray<Room>> = {
  contract: ["contract"],
  core: ["contract", "core"],
  index: ["contract", "core"],
  layers: ["contract", "layers/internal"],
  "layers/internal": ["contract", "layers/internal"],
  testing: ["contract", "core", "index", "layers", "layers/internal", "testing"],
  "testing/vitest": ["contract", "core", "index", "layers", "layers/internal", "testing"],
  fromUrl: ["contract", "layers"],
  cli: ["contract", "core", "index", "layers", "layers/internal", "testing", "fromUrl", "cli"]
}

/** Where the outside world is allowed: drivers, Node's own modules. */
const outside: ReadonlyArray<Room> = ["layers", "layers/internal", "testing/vitest", "cli"]
/** Where modules are allowed that Effect may change in a minor version. */
const unstable: ReadonlyArray<Room> = [...outside, "fromUrl"]

/** Each driver is loaded by its own layers alone; who does not use them need not install it. */
const drivers: Readonly<Record<string, RegExp>> = {
  "@effect/platform-node": /^src\/(cli\/|layers\/(Etcd|Kubernetes|internal\/(etcd|kubernetes|nodeHttp)))/,
  "@google-cloud/storage": /^src\/layers\/(Gcs|internal\/gcs)/,
  "@kubernetes/client-node": /^src\/layers\/(Kubernetes|internal\/kubernetes)/,
  ioredis: /^src\/layers\/(Redis|Redlock|internal\/(redis|redlock))/
}

const contract = /^src\/(Holder|Lease|LockBackend|LockError|LockOptions)\.ts$/

const roomOf = (file: string): Room | undefined => {
  if (contract.test(file)) return "contract"
  if (file === "src/index.ts") return "index"
  if (file === "src/Lock.ts" || file.startsWith("src/internal/")) return "core"
  if (file.startsWith("src/layers/internal/")) return "layers/internal"
  if (/^src\/layers\/[^/]+\.ts$/.test(file)) return "layers"
  if (file === "src/testing/vitest.ts") return "testing/vitest"
  if (file.startsWith("src/testing/")) return "testing"
  if (file === "src/fromUrl.ts") return "fromUrl"
  if (file.startsWith("src/cli/")) return "cli"
  return undefined
}

const root = path.join(import.meta.dirname, "../..")
const { peerDependencies } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"))

/** Effect marks each declaration; a module none of whose declarations is stable is an unstable one. */
const isStable = (specifier: string): boolean => {
  const module = path.join(root, "node_modules/effect/dist", specifier.replace(/^effect\//, ""))
  const declarations = [`${module}.d.ts`, path.join(module, "index.d.ts")].find((file) => existsSync(file))
  return declarations !== undefined && readFileSync(declarations, "utf8").includes("@stability stable")
}

const packageOf = (specifier: string): string => specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/")

export const importsGoDown = (source: Source): ReadonlyArray<string> => {
  const room = roomOf(source.path)
  if (room === undefined) return [`${source.path}: is in no room that the architecture knows`]
  const complaintAbout = (specifier: string): string | undefined => {
    if (specifier.startsWith(".")) {
      const target = path.posix.join(path.posix.dirname(source.path), specifier)
      const targetRoom = roomOf(target)
      if (targetRoom === undefined) return `imports ${target}, which is in no room that the architecture knows`
      return mayImport[room].includes(targetRoom) ? undefined : `${room} imports ${target} (${targetRoom})`
    }
    if (specifier === "effect") return "imports the barrel \"effect\" instead of a module of it"
    if (specifier.startsWith("effect/")) {
      return unstable.includes(room) || isStable(specifier) ? undefined : `${room} imports the unstable ${specifier}`
    }
    if (!outside.includes(room)) return `${room} imports ${specifier}, which is neither effect nor this package`
    const driver = drivers[packageOf(specifier)]
    if (driver !== undefined && !driver.test(source.path)) return `imports ${specifier}, the driver of another layer`
    if (specifier.startsWith("node:") || packageOf(specifier) in peerDependencies) return undefined
    return `imports ${specifier}, which is not a peer dependency`
  }
  return importsOf(source).flatMap(({ specifier, start }) => {
    const complaint = complaintAbout(specifier)
    return complaint === undefined ? [] : [at(source, { start }, complaint)]
  })
}

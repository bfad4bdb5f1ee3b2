/**
 * File backends on a directory of this machine's disk, and file systems that fail where a test wants them to.
 */
import { NodeServices } from "@effect/platform-node"
import { Duration, Effect, FileSystem, Option, PlatformError } from "effect"
import { TestClock } from "effect/testing"
import * as File from "../../../src/layers/File.ts"
import type { LockBackend } from "../../../src/LockBackend.ts"
import type { LockOptions } from "../../../src/LockOptions.ts"

export const budget = Duration.seconds(5)

/** Virtual time starts at the present: the layer refuses a clock that differs from the file system's. */
export const present = Effect.suspend(() => TestClock.setTime(Date.now()))

export interface Options {
  readonly fs?: (real: FileSystem.FileSystem) => FileSystem.FileSystem
  readonly namespace?: string
  readonly durable?: boolean
  readonly defaults?: LockOptions
}

/** A backend on `directory`, and its verbs with less to say. */
export const open = (directory: string, { fs = (real) => real, ...options }: Options = {}) =>
  Effect.gen(function*() {
    const real = yield* FileSystem.FileSystem
    const service = yield* Effect.provideService(
      File.make({ directory, ...options }),
      FileSystem.FileSystem,
      fs(real)
    )
    return { service, ...verbs(service) }
  }).pipe(Effect.provide(NodeServices.layer))

export const verbs = (service: LockBackend["Service"]) => ({
  tryAcquire: (
    ownerId: string,
    { key = "k", metadata = {}, ttl = 1000 }: {
      readonly key?: string
      readonly ttl?: number
      readonly metadata?: Readonly<Record<string, string>>
    } = {}
  ) => service.tryAcquire({ key, ownerId, ttl: Duration.millis(ttl), metadata, willWait: true, budget }),
  renew: (ownerId: string, handle: string, ttl = 1000) =>
    service.renew({ key: "k", ownerId, handle, ttl: Duration.millis(ttl), budget }),
  release: (ownerId: string, handle?: string, key = "k") =>
    service.release({
      key,
      ownerId,
      handle: Option.fromUndefinedOr(handle),
      unanswered: handle === undefined,
      budget
    }),
  inspect: (key = "k") => service.inspect({ key, budget }),
  breakLock: (ownerId: string, now: boolean) => service.break!({ key: "k", ownerId, now, budget }),
  awaitTurn: (ownerId: string, key = "k") => service.awaitTurn!({ key, ownerId })
})

/** A fresh directory's path, not made yet; it and its parent are removed when the test ends. */
export const freshDirectory = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  return `${yield* fs.makeTempDirectoryScoped({ prefix: "effect-lock-" })}/locks`
}).pipe(Effect.provide(NodeServices.layer))

/** The real file system. */
export const disk = Effect.provide(FileSystem.FileSystem, NodeServices.layer)

export const failure = (code: string, _tag: PlatformError.SystemErrorTag = "Unknown") =>
  PlatformError.systemError({ _tag, module: "FileSystem", method: "test", cause: { code } })

/** What is in a directory when nothing is being removed from it any more: removals are not waited for. */
export const settled = (directory: string, isSettled: (names: ReadonlyArray<string>) => boolean) =>
  Effect.gen(function*() {
    const fs = yield* disk
    const deadline = performance.now() + 10_000
    while (true) {
      const names = yield* fs.readDirectory(directory)
      if (isSettled(names) || performance.now() > deadline) return names
      yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 5)))
    }
  })

/** The calls that touch what others see, in the order they are made. */
export type Method =
  | "readDirectory"
  | "stat"
  | "open"
  | "writeFileString"
  | "utimes"
  | "link"
  | "rename"
  | "remove"
  | "makeDirectory"
const methods: ReadonlyArray<Method> = [
  "readDirectory",
  "stat",
  "open",
  "writeFileString",
  "utimes",
  "link",
  "rename",
  "remove",
  "makeDirectory"
]

/** Asks before every call, with its method and path, what happens instead; `undefined` is the call itself. */
export const intercepted =
  (before: (method: Method, path: string) => Effect.Effect<void, PlatformError.PlatformError> | undefined) =>
  (real: FileSystem.FileSystem): FileSystem.FileSystem => {
    const fs: Record<string, unknown> = { ...real }
    for (const method of methods) {
      const call = real[method] as (
        ...args: ReadonlyArray<unknown>
      ) => Effect.Effect<unknown, PlatformError.PlatformError>
      fs[method] = (...args: ReadonlyArray<unknown>) =>
        Effect.suspend(() => {
          const path = String(method === "link" || method === "rename" ? args[1] : args[0])
          const instead = before(method, path)
          return instead === undefined ? call(...args) : Effect.andThen(instead, call(...args))
        })
    }
    return fs as unknown as FileSystem.FileSystem
  }

/** Fails every call that `matches`, until it is switched off. */
export const failing = (matches: (method: Method, path: string) => boolean, error: PlatformError.PlatformError) => {
  const state = { on: true, failed: 0 }
  const fs = intercepted((method, path) => {
    if (!state.on || !matches(method, path)) return undefined
    state.failed++
    return Effect.fail(error)
  })
  return { fs, state }
}

import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, type FileSystem, Stream } from "effect"
import { disk, freshDirectory, intercepted, open } from "./diskLocks.ts"

/** Counts the watchers that are installed. */
const counting = () => {
  const watchers = { ready: 0, open: 0 }
  const fs = (real: FileSystem.FileSystem): FileSystem.FileSystem => ({
    ...real,
    watch: (path, options) =>
      Stream.unwrap(Effect.acquireRelease(
        Effect.sync(() => {
          watchers.open++
          return real.watch(path, {
            ...options,
            onReady: () => {
              watchers.ready++
              options?.onReady?.()
            }
          })
        }),
        () => Effect.sync(() => watchers.open--)
      ))
  })
  return { watchers, fs }
}

/** Waits for something that must come, and says what if it does not. */
const poll = (what: string, condition: () => boolean) =>
  Effect.gen(function*() {
    for (let round = 0; !condition(); round++) {
      if (round === 4000) return yield* Effect.die(new Error(`it never came to this: ${what}`))
      yield* Effect.sleep("5 millis")
    }
  })

describe("awaitTurn", () => {
  for (const how of ["release", "break now", "deletion of the directory"] as const) {
    it.live(`ends at a ${how}, told by the file system`, () =>
      Effect.gen(function*() {
        const fs = yield* disk
        const directory = yield* freshDirectory
        const holder = yield* open(directory)
        const { fs: counted, watchers } = counting()
        let looks = 0
        const looking = intercepted((method) => {
          if (method === "readDirectory") looks++
          return undefined
        })
        const waiter = yield* open(directory, { fs: (real) => looking(counted(real)) })
        const grant = yield* holder.tryAcquire("a", { ttl: 3_600_000 })
        assert(grant._tag === "Acquired")
        assert.strictEqual((yield* waiter.tryAcquire("b"))._tag, "Held")
        const waiting = yield* Effect.forkChild(waiter.awaitTurn("b"), { startImmediately: true })
        yield* poll("a watcher", () => watchers.ready === 1)
        // What does not free the lock is looked at, and does not end the waiting.
        for (
          const change of [
            holder.renew("a", grant.handle, 3_600_000),
            holder.breakLock("a", false),
            fs.writeFileString(`${directory}/n-/l-k/unknown`, "")
          ]
        ) {
          const before = looks
          yield* change
          yield* poll("another look", () => looks > before)
          assert.strictEqual(waiting.pollUnsafe(), undefined)
        }
        if (how === "release") yield* holder.release("a", grant.handle)
        else if (how === "break now") yield* holder.breakLock("a", true)
        else yield* fs.remove(`${directory}/n-/l-k`, { recursive: true })
        yield* Effect.timeout(Fiber.join(waiting), "20 seconds")
        assert.strictEqual(watchers.open, 0)
        assert.strictEqual((yield* waiter.tryAcquire("b"))._tag, "Acquired")
      }))
  }

  it.live("ends at once if the lock is free, or never was", () =>
    Effect.gen(function*() {
      const { awaitTurn, release, tryAcquire } = yield* open(yield* freshDirectory)
      yield* awaitTurn("b")
      const grant = yield* tryAcquire("a")
      assert(grant._tag === "Acquired")
      yield* release("a", grant.handle)
      yield* awaitTurn("b")
    }))

  it.live("looks once more after the watching has begun: what happened before makes no event", () =>
    Effect.gen(function*() {
      const directory = yield* freshDirectory
      const holder = yield* open(directory)
      const grant = yield* holder.tryAcquire("a", { ttl: 3_600_000 })
      assert(grant._tag === "Acquired")
      const waiter = yield* open(directory, {
        fs: (real) => ({
          ...real,
          // A watcher that is ready, and never tells anything.
          watch: (_, options) =>
            Stream.unwrap(
              Effect.andThen(
                Effect.orDie(holder.release("a", grant.handle)),
                Effect.sync(() => {
                  options?.onReady?.()
                  return Stream.never
                })
              )
            )
        })
      })
      yield* Effect.timeout(waiter.awaitTurn("b"), "20 seconds")
    }))

  it.live("leaves no watcher when it is interrupted", () =>
    Effect.gen(function*() {
      const directory = yield* freshDirectory
      const holder = yield* open(directory)
      yield* holder.tryAcquire("a", { ttl: 3_600_000 })
      const { fs, watchers } = counting()
      const waiter = yield* open(directory, { fs })
      for (let round = 1; round <= 5; round++) {
        const waiting = yield* Effect.forkChild(waiter.awaitTurn("b"), { startImmediately: true })
        yield* poll("a watcher", () => watchers.ready === round)
        yield* Fiber.interrupt(waiting)
        assert.strictEqual(watchers.open, 0)
      }
    }))

  it.live("fails, and does not die, when no watcher can be installed", () =>
    Effect.gen(function*() {
      const directory = yield* freshDirectory
      const holder = yield* open(directory)
      yield* holder.tryAcquire("a", { ttl: 3_600_000 })
      const waiter = yield* open(directory, {
        fs: (real) => ({
          ...real,
          watch: () => {
            throw Object.assign(new Error("watch"), { code: "ENOSPC" })
          }
        })
      })
      const error = yield* Effect.flip(waiter.awaitTurn("b"))
      assert.strictEqual(error.operation, "awaitTurn")
      assert.match(error.message, /max_user_watches/)
    }))
})

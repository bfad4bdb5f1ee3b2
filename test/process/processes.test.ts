import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, Option, Path } from "effect"
import { Lock, withLock } from "effect-lock"
import * as FileLock from "effect-lock/layers/File"
import { deathIsProvable, start } from "./children.ts"

const processes = 4
const increments = 250

describe("processes that share a counter", () => {
  it.live("4 processes with 250 increments each lose none under the lock", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* count("with-lock"), processes * increments)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

  it.live("without the lock, the same processes lose increments", () =>
    Effect.gen(function*() {
      // All have read before one writes: of the first increments, one counts at most.
      assert.isAtMost(yield* count("without-lock"), processes * increments - (processes - 1))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
})

describe.skipIf(!deathIsProvable)("a holder that died", () => {
  it.live("is taken over before its ttl ends if it was killed", () =>
    Effect.gen(function*() {
      const { directory, holder, token } = yield* held(600_000)
      yield* holder.signal("SIGKILL")
      const lease = yield* takeOver.pipe(Effect.provide(FileLock.layer({ directory })))
      assert.isTrue(lease.token > token, `${lease.token} after ${token}`)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

  it.live("is taken over before its ttl ends if it exited without giving the lock back", () =>
    Effect.gen(function*() {
      const { directory, holder, token } = yield* held(600_000)
      yield* holder.say("exit")
      const lease = yield* takeOver.pipe(Effect.provide(FileLock.layer({ directory })))
      assert.isTrue(lease.token > token, `${lease.token} after ${token}`)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
})

describe.skipIf(process.platform === "win32")("a holder that was paused", () => {
  it.live("is taken over when its ttl is over, finds that out, and leaves the next holder's lock alone", () =>
    Effect.gen(function*() {
      const { directory, holder, ownerId, token } = yield* held(2_000)
      yield* holder.signal("SIGSTOP")
      yield* Effect.gen(function*() {
        const lease = yield* withLock("k", { wait: "60 seconds" })
        assert.isTrue(Option.getOrThrow(lease.fencingToken) > token)
        assert.notStrictEqual(lease.ownerId, ownerId)
        yield* holder.say("check")
        yield* holder.signal("SIGCONT")
        const [checked] = yield* holder.expect("checked")
        assert.include(["Expired", "Taken"], checked)
        yield* holder.expect("released")
        yield* holder.ended
        assert.deepStrictEqual((yield* Lock.inspect("k")).map((each) => each.ownerId), [lease.ownerId])
        yield* lease.renew
        yield* lease.check
      }).pipe(Effect.scoped, Effect.provide(FileLock.layer({ directory })))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

  it.live("is still the holder when it goes on within its ttl", () =>
    Effect.gen(function*() {
      const { directory, holder, ownerId } = yield* held(600_000)
      yield* holder.signal("SIGSTOP")
      yield* Effect.gen(function*() {
        assert.isTrue(Option.isNone(yield* Effect.scoped(Lock.withLockIfAvailable("k"))))
        assert.deepStrictEqual((yield* Lock.inspect("k")).map((each) => each.ownerId), [ownerId])
        yield* holder.say("check")
        yield* holder.signal("SIGCONT")
        assert.deepStrictEqual(yield* holder.expect("checked"), ["trusted"])
        yield* holder.expect("released")
        assert.deepStrictEqual(yield* Lock.inspect("k"), [])
      }).pipe(Effect.scoped, Effect.provide(FileLock.layer({ directory })))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
})

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const count = Effect.fn(function*(mode: "with-lock" | "without-lock") {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-lock-" })
  const file = path.join(yield* fs.makeTempDirectoryScoped({ prefix: "effect-lock-counter-" }), "counter")
  yield* fs.writeFileString(file, "0")
  const children = yield* Effect.all(
    Array.from({ length: processes }, () => start("counterWorker.ts", [directory, file, String(increments), mode]))
  )
  for (const child of children) yield* child.expect("ready")
  for (const child of children) yield* child.say("go")
  if (mode === "without-lock") {
    for (const child of children) yield* child.expect("read")
    for (const child of children) yield* child.say("write")
  }
  for (const child of children) yield* child.expect("done")
  return Number(yield* fs.readFileString(file))
})

/** The lock `k`, held by another process. */
const held = Effect.fn(function*(ttlMillis: number) {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-lock-" })
  const holder = yield* start("holderWorker.ts", [directory, "k", String(ttlMillis)])
  const [token = "", ownerId = ""] = yield* holder.expect("holds")
  return { directory, holder, ownerId, token: BigInt(token) }
})

const takeOver = Effect.scoped(
  Effect.map(withLock("k", { wait: "60 seconds" }), (lease) => ({ token: Option.getOrThrow(lease.fencingToken) }))
)

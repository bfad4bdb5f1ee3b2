import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import {
  Config,
  ConfigProvider,
  Deferred,
  Duration,
  Effect,
  Fiber,
  FileSystem,
  Option,
  Scheduler,
  Stream
} from "effect"
import { withLock } from "effect-lock"
import { TestClock } from "effect/testing"
import { createHash } from "node:crypto"
import * as File from "../../src/layers/File.ts"
import type { FileRecord } from "../../src/layers/internal/fileRecord.ts"
import type { Acquired, Held } from "../../src/LockBackend.ts"
import type { LockBackendError } from "../../src/LockError.ts"
import { LawEnvironment } from "../../src/testing/BackendLaws.ts"
import { testLaws } from "../../src/testing/vitest.ts"
import {
  disk,
  failing,
  failure,
  freshDirectory,
  intercepted,
  type Method,
  open,
  type Options,
  present,
  settled
} from "./internal/diskLocks.ts"

const now = { startImmediately: true } as const
const hour = 3_600_000
const start = Effect.andThen(present, freshDirectory)

const grantOf = (reply: Acquired | Held): Acquired => {
  assert(reply._tag === "Acquired", reply._tag === "Held" ? `held by ${reply.holders[0]?.ownerId}` : "")
  return reply
}
const tokenOf = (reply: Acquired | Held): bigint => Option.getOrThrow(grantOf(reply).fencingToken)
const holderOf = (reply: Acquired | Held): string | undefined => {
  assert(reply._tag === "Held", "it was acquired")
  return reply.holders[0]?.ownerId
}

/** The record of the present grant of `k`, and what can be done to it behind the backend's back. */
const tip = (directory: string) =>
  Effect.gen(function*() {
    const fs = yield* disk
    const lock = `${directory}/n-/l-k`
    const [name] = (yield* fs.readDirectory(lock)).filter((name) => name.startsWith("g")).sort().reverse()
    const path = `${lock}/${name}`
    const mtime = Effect.map(fs.stat(path), (info) => Option.getOrThrow(info.mtime).getTime())
    return {
      path,
      mtime,
      touch: (millis: number) => fs.utimes(path, millis / 1000, millis / 1000),
      /** Other content, the same mtime. */
      rewrite: (text: string) =>
        Effect.flatMap(mtime, (millis) =>
          Effect.andThen(fs.writeFileString(path, text), fs.utimes(path, millis / 1000, millis / 1000))),
      record: Effect.map(fs.readFileString(path), (text): FileRecord =>
        JSON.parse(text))
    }
  })

const change = (directory: string, by: Partial<Record<keyof FileRecord, unknown>>) =>
  Effect.gen(function*() {
    const { record, rewrite } = yield* tip(directory)
    yield* rewrite(JSON.stringify({ ...yield* record, ...by }))
  })

describe("a lease that ends by itself", () => {
  it.effect("is taken over when its ttl has passed since the last renewal, with a larger token", () =>
    Effect.gen(function*() {
      const { renew, tryAcquire } = yield* open(yield* start)
      const first = grantOf(yield* tryAcquire("a"))
      yield* TestClock.adjust(600)
      assert.strictEqual((yield* renew("a", first.handle))._tag, "Renewed")
      yield* TestClock.adjust(999)
      const refusal = yield* tryAcquire("b")
      assert.strictEqual(holderOf(refusal), "a")
      assert(refusal._tag === "Held")
      assert.deepStrictEqual(refusal.retryAfter, Option.some(Duration.millis(1)))
      yield* TestClock.adjust(1)
      const second = grantOf(yield* tryAcquire("b"))
      assert.isAbove(Number(tokenOf(second)), Number(tokenOf(first)))
      assert.deepStrictEqual(yield* renew("a", first.handle), { _tag: "Lost", reason: "Taken" })
    }))

  const unchanged: ReadonlyArray<readonly [string, (directory: string) => Effect.Effect<void, unknown>]> = [
    [
      "was renewed in the future",
      (directory) =>
        Effect.flatMap(tip(directory), ({ mtime, touch }) => Effect.flatMap(mtime, (at) => touch(at + hour)))
    ],
    ["was made before the last boot", (directory) => change(directory, { bootId: "another" })],
    ["does not say when it was made", (directory) => change(directory, { bootId: "" })]
  ]
  for (const [name, make] of unchanged) {
    it.effect(`is taken over only when it was seen unchanged for its ttl and a margin, if it ${name}`, () =>
      Effect.gen(function*() {
        const directory = yield* start
        const { tryAcquire } = yield* open(directory)
        const patient = yield* open(directory)
        yield* tryAcquire("a")
        yield* make(directory)
        yield* TestClock.adjust(5000)
        assert.strictEqual(holderOf(yield* patient.tryAcquire("b")), "a")
        yield* TestClock.adjust(1050)
        assert.strictEqual(holderOf(yield* patient.tryAcquire("b")), "a")
        // Whoever looks for the first time has to be patient too.
        const late = yield* open(directory)
        assert.strictEqual(holderOf(yield* late.tryAcquire("c")), "a")
        yield* TestClock.adjust(1)
        assert.strictEqual(holderOf(yield* late.tryAcquire("c")), "a")
        grantOf(yield* patient.tryAcquire("b"))
      }))
  }

  it.effect("is not taken over by patience while it is renewed", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const { tryAcquire } = yield* open(directory)
      yield* tryAcquire("a")
      yield* change(directory, { bootId: "another" })
      const { mtime, touch } = yield* tip(directory)
      for (let round = 0; round < 5; round++) {
        yield* touch((yield* mtime) + 900)
        assert.strictEqual(holderOf(yield* tryAcquire("b")), "a")
        yield* TestClock.adjust(900)
      }
    }))
})

describe("a lease of a process", () => {
  it.effect("that is dead is taken over long before its ttl", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const { inspect, tryAcquire } = yield* open(directory)
      yield* tryAcquire("a", { ttl: 24 * hour })
      assert.strictEqual(holderOf(yield* tryAcquire("b")), "a")
      yield* change(directory, { startTime: "1" })
      assert.deepStrictEqual(yield* inspect(), [])
      grantOf(yield* tryAcquire("b"))
    }))

  for (const by of [{ bootId: "another" }, { host: "another" }, { pidNs: "another" }, { startTime: "" }]) {
    it.effect(`that can't be compared (${Object.keys(by)}) is not called dead`, () =>
      Effect.gen(function*() {
        const directory = yield* start
        const { tryAcquire } = yield* open(directory)
        yield* tryAcquire("a", { ttl: hour })
        yield* change(directory, { startTime: "1", ...by })
        assert.strictEqual(holderOf(yield* tryAcquire("b")), "a")
      }))
  }

  it.effect("whose successor died before it could make sure is held, as long as it is not over itself", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const { inspect, tryAcquire } = yield* open(directory)
      const { handle } = grantOf(yield* tryAcquire("a"))
      const { path, record } = yield* tip(directory)
      // What a taker leaves that judged the lease over, linked, and died.
      const next = `${path.slice(0, -4)}${Number(path.slice(-4)) + 1}`
      yield* (yield* disk).writeFileString(next, JSON.stringify({ ...yield* record, ownerId: "b", startTime: "1" }))
      assert.strictEqual(holderOf(yield* tryAcquire("c")), "a")
      assert.strictEqual((yield* inspect())[0]?.ownerId, "a")
      yield* TestClock.adjust(1000)
      grantOf(yield* tryAcquire("c"))
      assert.isAbove(handle.length, 0)
    }))
})

describe("a record that can't be read", () => {
  it.effect("cut short: is held for a minute of being unchanged, then taken over, and the grant says so", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const { breakLock, inspect, tryAcquire } = yield* open(directory)
      const first = grantOf(yield* tryAcquire("a"))
      const { path, rewrite } = yield* tip(directory)
      yield* rewrite((yield* (yield* disk).readFileString(path)).slice(0, 40))
      assert.match(holderOf(yield* tryAcquire("b")) ?? "", /^damaged:\d{16}$/)
      yield* TestClock.adjust(59_999)
      const [holder] = yield* inspect()
      assert.match(holder?.ownerId ?? "", /^damaged:/)
      assert.deepStrictEqual(holder?.remaining, Option.some(Duration.millis(1)))
      assert.strictEqual(yield* breakLock("a", true), "NotHeld")
      yield* TestClock.adjust(1)
      const second = grantOf(yield* tryAcquire("b"))
      assert.match(second.degraded ?? "", /damaged record/)
      assert.isTrue(tokenOf(second) > tokenOf(first))
    }))

  it.effect("is held for the ttl of whoever asks, if that is longer than a minute", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const { tryAcquire } = yield* open(directory)
      yield* tryAcquire("a")
      yield* (yield* tip(directory)).rewrite("")
      yield* tryAcquire("b", { ttl: 90_000 })
      yield* TestClock.adjust(89_999)
      assert.strictEqual((yield* tryAcquire("b", { ttl: 90_000 }))._tag, "Held")
      yield* TestClock.adjust(1)
      grantOf(yield* tryAcquire("b", { ttl: 90_000 }))
    }))

  it.effect("of another version: is never taken over, but free when released, and can be broken", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const { breakLock, inspect, tryAcquire } = yield* open(directory)
      yield* tryAcquire("a")
      yield* change(directory, { v: 2, startTime: "1" })
      for (let day = 0; day < 3; day++) {
        assert.match(holderOf(yield* tryAcquire("b")) ?? "", /^other-version:\d{16}$/)
        yield* TestClock.adjust("1 day")
      }
      const [holder] = yield* inspect()
      assert.deepStrictEqual(holder?.remaining, Option.none())
      const { mtime, touch } = yield* tip(directory)
      const at = yield* mtime
      yield* touch(0)
      assert.deepStrictEqual(yield* inspect(), [])
      yield* touch(at)
      assert.strictEqual(yield* breakLock(holder!.ownerId, true), "Broken")
      grantOf(yield* tryAcquire("b"))
    }))

  it.effect("of another key: is a Protocol error that names the file, and nothing is taken", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const { inspect, tryAcquire } = yield* open(directory)
      yield* tryAcquire("a")
      for (const by of [{ key: "other" }, { namespace: "other" }]) {
        yield* change(directory, { startTime: "1", ...by })
        const asks: ReadonlyArray<Effect.Effect<unknown, LockBackendError>> = [tryAcquire("b"), inspect()]
        for (const ask of asks) {
          const error = yield* Effect.flip(ask)
          assert.strictEqual(error.reason._tag, "Protocol")
          assert.include(error.reason.detail, `${directory}/n-/l-k/g`)
        }
        yield* change(directory, { key: "k", namespace: "" })
      }
    }))

  it.effect("of a megabyte: is damaged, and not read to its end", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const { tryAcquire } = yield* open(directory)
      yield* tryAcquire("a")
      const { record, rewrite } = yield* tip(directory)
      yield* rewrite(JSON.stringify({ ...yield* record, metadata: { much: "x".repeat(1_000_000) } }))
      assert.match(holderOf(yield* tryAcquire("b")) ?? "", /^damaged:/)
    }))
})

describe("operators", () => {
  it.effect("a drain leaves the lock its present expiry: a refused renewal does not move it", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const { breakLock, renew, tryAcquire } = yield* open(directory)
      const { handle } = grantOf(yield* tryAcquire("a"))
      const before = yield* (yield* tip(directory)).mtime
      assert.strictEqual(yield* breakLock("a", false), "Draining")
      assert.strictEqual(yield* breakLock("a", false), "Draining")
      yield* TestClock.adjust(500)
      assert.deepStrictEqual(yield* renew("a", handle), { _tag: "Lost", reason: "Gone" })
      assert.strictEqual(holderOf(yield* tryAcquire("a")), "a")
      assert.strictEqual(yield* (yield* tip(directory)).mtime, before)
      yield* TestClock.adjust(500)
      grantOf(yield* tryAcquire("b"))
    }))

  it.effect("a break is forgotten with the grant it was meant for", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const { breakLock, release, renew, tryAcquire } = yield* open(directory)
      for (const ownerId of ["a", "b", "c", "d"]) {
        const { handle } = grantOf(yield* tryAcquire(ownerId))
        assert.strictEqual((yield* renew(ownerId, handle))._tag, "Renewed")
        assert.strictEqual(yield* breakLock(ownerId, true), "Broken")
        assert.strictEqual(yield* release(ownerId, handle), "NotHeld")
      }
      const { handle } = grantOf(yield* tryAcquire("e"))
      assert.strictEqual(yield* release("e", handle), "Released")
      grantOf(yield* tryAcquire("f"))
      const names = yield* settled(`${directory}/n-/l-k`, ({ length }) => length === 2)
      assert.deepStrictEqual(names.map((name) => name[0]).sort(), ["g", "g"])
    }))

  it.effect("a renewal for longer than the record says is kept for as long as it was granted", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const { renew, tryAcquire } = yield* open(directory)
      const { handle } = grantOf(yield* tryAcquire("a"))
      const renewed = yield* renew("a", handle, 5000)
      assert(renewed._tag === "Renewed")
      assert.deepStrictEqual(renewed.grantedTtl, Duration.millis(5000))
      yield* TestClock.adjust(4999)
      assert.strictEqual(holderOf(yield* (yield* open(directory)).tryAcquire("b")), "a")
      assert.strictEqual((yield* renew("a", handle, 1000))._tag, "Renewed")
      yield* TestClock.adjust(4999)
      assert.strictEqual(holderOf(yield* tryAcquire("b")), "a")
      yield* TestClock.adjust(1)
      grantOf(yield* tryAcquire("b"))
    }))

  it.effect("list names held keys, also those that only their hash stands for", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const { release, service, tryAcquire } = yield* open(directory)
      const keys = ["job/1", "job/2", `job/${"long".repeat(100)}`, "Job/1", "other"]
      for (const key of keys) grantOf(yield* tryAcquire(`owner of ${key}`, { key }))
      const free = grantOf(yield* tryAcquire("a", { key: "job/free" }))
      yield* release("a", free.handle, "job/free")
      yield* (yield* disk).writeFileString(`${directory}/n-/l-ZZ`, "not a lock")
      const listed = yield* Stream.runCollect(service.list!("job/"))
      assert.deepStrictEqual(listed.map(({ key }) => key).sort(), keys.slice(0, 3).sort())
      for (const { holders, key } of listed) assert.strictEqual(holders[0]?.ownerId, `owner of ${key}`)
      const hash = createHash("sha256").update(keys[2]!).digest("hex")
      assert.include(yield* (yield* disk).readDirectory(`${directory}/n-`), `lh-${hash}`)
    }))
})

describe("fencing tokens", () => {
  it.effect("grow over release, expiry, death, break, and the deletion of the directory", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const { breakLock, release, renew, tryAcquire } = yield* open(directory)
      const fs = yield* disk
      const ends: ReadonlyArray<(ownerId: string, handle: string) => Effect.Effect<unknown, unknown>> = [
        release,
        () => TestClock.adjust(1000),
        () => change(directory, { startTime: "1" }),
        (ownerId) => breakLock(ownerId, true),
        (ownerId, handle) =>
          Effect.gen(function*() {
            yield* fs.remove(`${directory}/n-/l-k`, { recursive: true })
            assert.deepStrictEqual(yield* renew(ownerId, handle), { _tag: "Lost", reason: "Gone" })
            yield* TestClock.adjust(1)
          }),
        (ownerId, handle) =>
          Effect.gen(function*() {
            yield* fs.remove(directory, { recursive: true })
            assert.deepStrictEqual(yield* renew(ownerId, handle), { _tag: "Lost", reason: "Gone" })
            assert.strictEqual(yield* release(ownerId, handle), "NotHeld")
            yield* TestClock.adjust(1)
          }),
        () => Effect.void
      ]
      let last = -1n
      for (const [round, end] of ends.entries()) {
        const grant = grantOf(yield* tryAcquire(`owner-${round}`))
        assert.isTrue(tokenOf(grant) > last, `round ${round}: ${tokenOf(grant)} after ${last}`)
        last = tokenOf(grant)
        yield* end(`owner-${round}`, grant.handle)
      }
    }))

  it.effect("an old handle does not open what was made after the directory was deleted", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const { inspect, release, renew, tryAcquire } = yield* open(directory)
      const { handle } = grantOf(yield* tryAcquire("a"))
      yield* (yield* disk).remove(`${directory}/n-/l-k`, { recursive: true })
      yield* TestClock.adjust(1)
      grantOf(yield* tryAcquire("b"))
      assert.deepStrictEqual(yield* renew("a", handle), { _tag: "Lost", reason: "Taken" })
      assert.strictEqual(yield* release("a", handle), "NotHeld")
      assert.strictEqual((yield* inspect())[0]?.ownerId, "b")
    }))

  it.effect("are strict only if every grant is flushed: the record, its name, and its directory's name", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const synced: Array<string> = []
      const fs = (real: FileSystem.FileSystem): FileSystem.FileSystem => ({
        ...real,
        open: (path, options) =>
          Effect.map(real.open(path, options), (file) =>
            new Proxy(file, {
              get: (target, name) => {
                if (name !== "sync") return Reflect.get(target, name)
                return Effect.tap(target.sync, () => Effect.sync(() => synced.push(path)))
              }
            }))
      })
      const plain = yield* open(directory, { fs })
      assert.strictEqual(plain.service.capabilities.fencing.grade, "conditional")
      const { handle } = grantOf(yield* plain.tryAcquire("a"))
      yield* plain.release("a", handle)
      assert.deepStrictEqual(synced, [])
      const durable = yield* open(directory, { fs, durable: true })
      assert.deepStrictEqual(durable.service.capabilities.fencing, { grade: "strict" })
      for (const key of ["k", "new"]) {
        synced.length = 0
        grantOf(yield* durable.tryAcquire("b", { key }))
        assert(synced.some((path) => path.startsWith(`${directory}/tmp/`)), key)
        assert.includeMembers(synced, [`${directory}/n-/l-${key}`, `${directory}/n-`])
      }
    }))
})

describe("an owner id whose life is over", () => {
  it.effect("takes nothing with the attempt that was in flight when it was released", () =>
    Effect.gen(function*() {
      for (const stuckAt of ["link", "rename", "utimes", "writeFileString"] as const) {
        const directory = yield* freshDirectory
        if (stuckAt === "link") {
          const before = yield* open(directory)
          yield* before.release("0", grantOf(yield* before.tryAcquire("0")).handle)
        }
        const reached = yield* Deferred.make<void>()
        const goOn = yield* Deferred.make<void>()
        let armed = false
        const fs = intercepted((method) =>
          armed && method === stuckAt
            ? Effect.andThen(Deferred.succeed(reached, undefined), Deferred.await(goOn))
            : undefined
        )
        const { inspect, release, tryAcquire } = yield* open(directory, { fs })
        armed = true
        const attempt = yield* Effect.forkChild(tryAcquire("a"), now)
        yield* Deferred.await(reached)
        const releasing = yield* Effect.forkChild(release("a"), now)
        armed = false
        yield* Deferred.succeed(goOn, undefined)
        yield* Fiber.join(releasing)
        assert.strictEqual((yield* Fiber.join(attempt))._tag, "Held", stuckAt)
        assert.deepStrictEqual(yield* inspect(), [], stuckAt)
        assert.strictEqual((yield* tryAcquire("a"))._tag, "Held", `${stuckAt}: the owner id is dead`)
        grantOf(yield* tryAcquire("b"))
      }
    }).pipe((test) => Effect.andThen(present, test)))

  it.effect("leaves nothing behind when its renewal lands late", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const reached = yield* Deferred.make<void>()
      const goOn = yield* Deferred.make<void>()
      let armed = false
      const fs = intercepted((method) =>
        armed && method === "utimes"
          ? Effect.andThen(Deferred.succeed(reached, undefined), Deferred.await(goOn))
          : undefined
      )
      const { inspect, release, renew, tryAcquire } = yield* open(directory, { fs })
      const { handle } = grantOf(yield* tryAcquire("a"))
      armed = true
      const renewal = yield* Effect.forkChild(renew("a", handle), now)
      yield* Deferred.await(reached)
      const releasing = yield* Effect.forkChild(release("a", handle), now)
      armed = false
      yield* Deferred.succeed(goOn, undefined)
      yield* Fiber.join(releasing)
      assert.deepStrictEqual(yield* Fiber.join(renewal), { _tag: "Lost", reason: "Gone" })
      assert.deepStrictEqual(yield* inspect(), [])
    }))
})

describe("an attempt that is interrupted", () => {
  it.live("leaves nothing locked, wherever the interruption comes", () =>
    Effect.gen(function*() {
      const directory = yield* freshDirectory
      const { inspect, release, tryAcquire } = yield* open(directory)
      let interrupted = 0
      for (const operations of [1, 2, 3, 5, 8]) {
        for (let position = 0, ended = false; !ended; position++) {
          const ownerId = `${operations}-${position}`
          const attempt = yield* Effect.forkChild(
            Effect.provideService(tryAcquire(ownerId, { ttl: hour }), Scheduler.MaxOpsBeforeYield, operations + 2)
          )
          for (let step = 0; step < position; step++) yield* step % 8 === 7 ? Effect.sleep(0) : Effect.yieldNow
          ended = attempt.pollUnsafe() !== undefined
          yield* Fiber.interrupt(attempt)
          const exit = yield* Fiber.await(attempt)
          if (exit._tag === "Failure") interrupted++
          // In the one step between its end and its caller's next, the answer counts as given: the caller releases.
          yield* release(ownerId)
          assert.deepStrictEqual(yield* inspect(), [], ownerId)
        }
      }
      assert.isAbove(interrupted, 50)
    }))

  it.effect("gives back what it took without being told to", () =>
    Effect.gen(function*() {
      const directory = yield* start
      for (const stuckAt of ["link", "rename", "readDirectory", "stat", "utimes", "remove"] as const) {
        const reached = yield* Deferred.make<void>()
        const goOn = yield* Deferred.make<void>()
        let armed = false
        const fs = intercepted((method) =>
          armed && method === stuckAt
            ? Effect.andThen(Deferred.succeed(reached, undefined), Deferred.await(goOn))
            : undefined
        )
        const { inspect, tryAcquire } = yield* open(directory, { fs })
        const key = stuckAt === "rename" ? "new" : "k"
        armed = true
        const attempt = yield* Effect.forkChild(tryAcquire("a", { key, ttl: hour }), now)
        if (stuckAt === "link" || stuckAt === "stat") {
          // Not reached where the lock never was; the first round makes it.
          yield* Effect.raceFirst(Deferred.await(reached), Fiber.await(attempt))
        } else yield* Deferred.await(reached)
        const interrupting = yield* Effect.forkChild(Fiber.interrupt(attempt), now)
        armed = false
        yield* Deferred.succeed(goOn, undefined)
        yield* Fiber.join(interrupting)
        if ((yield* Fiber.await(attempt))._tag === "Failure") assert.deepStrictEqual(yield* inspect(key), [], stuckAt)
        else yield* (yield* open(directory)).breakLock("a", true)
      }
    }))
})

describe("an owner id that asks again while it holds", () => {
  it.effect("loses nothing when the second asking is interrupted", () =>
    Effect.gen(function*() {
      const reached = yield* Deferred.make<void>()
      const goOn = yield* Deferred.make<void>()
      let armed = false
      const fs = intercepted((method) =>
        armed && method === "utimes"
          ? Effect.andThen(Deferred.succeed(reached, undefined), Deferred.await(goOn))
          : undefined
      )
      const { renew, tryAcquire } = yield* open(yield* start, { fs })
      const { handle } = grantOf(yield* tryAcquire("a"))
      armed = true
      const again = yield* Effect.forkChild(tryAcquire("a"), now)
      yield* Deferred.await(reached)
      const interrupting = yield* Effect.forkChild(Fiber.interrupt(again), now)
      armed = false
      yield* Deferred.succeed(goOn, undefined)
      yield* Fiber.join(interrupting)
      assert.strictEqual((yield* renew("a", handle))._tag, "Renewed")
    }))

  it.effect("is refused when the clock was set back since, and loses nothing by it", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const { renew, tryAcquire } = yield* open(directory)
      const { handle } = grantOf(yield* tryAcquire("a"))
      const { mtime, touch } = yield* tip(directory)
      yield* touch((yield* mtime) + hour)
      assert.strictEqual(holderOf(yield* tryAcquire("a")), "a")
      assert.strictEqual((yield* renew("a", handle))._tag, "Renewed")
      assert.strictEqual(holderOf(yield* tryAcquire("b")), "a")
    }))
})

// What an attempt does on disk, step by step, with a stale lease to take over.
const withStaleLease = (options: Options = {}) =>
  Effect.gen(function*() {
    const directory = yield* start
    const healthy = yield* open(directory)
    for (const ownerId of ["0", "1"]) {
      const { handle } = grantOf(yield* healthy.tryAcquire(ownerId))
      yield* healthy.release(ownerId, handle)
    }
    grantOf(yield* healthy.tryAcquire("stale"))
    const victim = yield* open(directory, options)
    yield* TestClock.adjust(1000)
    return { directory, healthy, victim }
  })

describe("a machine or process that dies between two steps", () => {
  for (const found of ["nothing", "a stale lease"] as const) {
    it.effect(`finding ${found}: the lock is free again within the ttl, and nobody has it twice`, () =>
      Effect.gen(function*() {
        let steps = 0
        for (let survives = 0, died = true; died; survives++) {
          let left = Infinity
          died = false
          const fs = intercepted(() => {
            if (left-- > 0) return undefined
            died = true
            return Effect.fail(failure("EIO"))
          })
          const key = found === "nothing" ? "new" : "k"
          const { healthy, victim } = yield* withStaleLease({ fs })
          left = survives
          const exit = yield* Effect.exit(victim.tryAcquire("victim", { key }))
          const granted = exit._tag === "Success" && exit.value._tag === "Acquired"
          assert(granted || died)
          yield* TestClock.adjust(999)
          if (granted) assert.strictEqual(holderOf(yield* healthy.tryAcquire("next", { key })), "victim")
          yield* TestClock.adjust(1)
          const next = grantOf(yield* healthy.tryAcquire("next", { key }))
          if (granted) assert.isTrue(tokenOf(next) > tokenOf(exit.value))
          assert.strictEqual(holderOf(yield* healthy.tryAcquire("third", { key })), "next")
          steps++
        }
        assert.isAbove(steps, 6)
      }))
  }

  it.effect("while it renews or releases: the lease ends by its ttl, or has", () =>
    Effect.gen(function*() {
      for (const verb of ["renew", "release"] as const) {
        for (let survives = 0, died = true; died; survives++) {
          let left = Infinity
          died = false
          const fs = intercepted(() => {
            if (left-- > 0) return undefined
            died = true
            return Effect.fail(failure("EIO"))
          })
          const { healthy, victim } = yield* withStaleLease({ fs })
          const { handle } = grantOf(yield* victim.tryAcquire("victim"))
          left = survives
          if (verb === "renew") yield* Effect.exit(victim.renew("victim", handle))
          else yield* Effect.exit(victim.release("victim", handle))
          yield* TestClock.adjust(1000)
          grantOf(yield* healthy.tryAcquire("next"))
        }
      }
    }))
})

describe("a file system that fails", () => {
  const steps: ReadonlyArray<Method> = [
    "readDirectory",
    "stat",
    "open",
    "writeFileString",
    "utimes",
    "link",
    "rename",
    "makeDirectory"
  ]
  const codes = [
    ["ENOSPC", "Unknown", "Misconfigured"],
    ["EROFS", "Unknown", "Misconfigured"],
    ["EACCES", "PermissionDenied", "Unauthorized"],
    ["EMFILE", "Unknown", "Throttled"],
    ["EIO", "Unknown", "Unreachable"]
  ] as const
  for (const [code, tag, reason] of codes) {
    it.effect(`with ${code} at any step: every verb says ${reason}, and nothing stays locked`, () =>
      Effect.gen(function*() {
        for (const step of steps) {
          const fault = failing((method) => method === step, failure(code, tag))
          fault.state.on = false
          const { healthy, victim } = yield* withStaleLease(fault)
          fault.state.on = true
          const key = ["rename", "makeDirectory", "writeFileString"].includes(step) ? "new" : "k"
          const error = yield* Effect.flip(victim.tryAcquire("a", { key }))
          assert.strictEqual(error.reason._tag, reason, step)
          assert.strictEqual(error.operation, "acquire")
          assert.strictEqual(error.key, key)
          assert.isAbove(fault.state.failed, 0)
          grantOf(yield* healthy.tryAcquire("b", { key }))
          // The same owner id may ask again when it is mended.
          fault.state.on = false
          assert.strictEqual(holderOf(yield* victim.tryAcquire("a", { key })), "b")
        }
        const fault = failing((method) => method === "readDirectory", failure(code, tag))
        fault.state.on = false
        const { service, ...all } = yield* open(yield* freshDirectory, fault)
        const { handle } = grantOf(yield* all.tryAcquire("a"))
        fault.state.on = true
        const failures: Record<string, Effect.Effect<unknown, LockBackendError>> = {
          renew: all.renew("a", handle),
          release: all.release("a", handle),
          inspect: all.inspect(),
          break: all.breakLock("a", true),
          awaitTurn: all.awaitTurn("b"),
          list: Stream.runDrain(service.list!(""))
        }
        for (const [operation, failing] of Object.entries(failures)) {
          const error = yield* Effect.flip(failing)
          assert.strictEqual(error.operation, operation)
          assert.strictEqual(error.reason._tag, reason)
        }
      }))
  }

  it.effect("only in removing: leaves garbage, which the next acquisitions collect", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const fault = failing((method, path) => method === "remove" && path.includes("/n-/"), failure("EIO"))
      const { release, tryAcquire } = yield* open(directory, fault)
      for (let round = 0; round < 5; round++) {
        yield* release(`${round}`, grantOf(yield* tryAcquire(`${round}`)).handle)
      }
      const fs = yield* disk
      assert.strictEqual((yield* fs.readDirectory(`${directory}/n-/l-k`)).length, 5)
      fault.state.on = false
      grantOf(yield* tryAcquire("last"))
      assert.lengthOf(yield* settled(`${directory}/n-/l-k`, ({ length }) => length === 2), 2)
    }))

  it.effect("that lost the records of a lock but not its directory is refused, with the directory's name", () =>
    Effect.gen(function*() {
      const directory = yield* start
      const { tryAcquire } = yield* open(directory)
      const fs = yield* disk
      yield* fs.makeDirectory(`${directory}/n-/l-k`)
      yield* fs.writeFileString(`${directory}/n-/l-k/unknown`, "")
      const error = yield* Effect.flip(tryAcquire("a"))
      assert.match(error.message, /Misconfigured: .*l-k has entries but no record/)
      yield* fs.remove(`${directory}/n-/l-k/unknown`)
      grantOf(yield* tryAcquire("a"))
    }))

  it.effect("metadata that makes a record too large is refused before anything is written", () =>
    Effect.gen(function*() {
      const { inspect, tryAcquire } = yield* open(yield* start)
      const error = yield* Effect.flip(tryAcquire("a", { metadata: { much: "é".repeat(9000) } }))
      assert.match(error.message, /Misconfigured: .*Pass less metadata/)
      assert.deepStrictEqual(yield* inspect(), [])
    }))
})

describe("the layer", () => {
  it.live("holds locks for withLock, and shows its fencing token on disk", () =>
    Effect.gen(function*() {
      const directory = yield* freshDirectory
      const program = Effect.gen(function*() {
        const lease = yield* withLock("invoices/2026-11")
        const fs = yield* FileSystem.FileSystem
        const names = yield* fs.readDirectory(`${directory}/n-/l-invoices%2F2026-11`)
        assert.deepStrictEqual(names, [`g${String(Option.getOrThrow(lease.fencingToken)).padStart(16, "0")}`])
      })
      yield* program.pipe(Effect.scoped, Effect.provide(File.layer({ directory })))
    }).pipe(Effect.provide(NodeServices.layer)))

  it.live("leaves no file under way when it closes, and of a lock its present record and the one before", () =>
    Effect.gen(function*() {
      const directory = yield* freshDirectory
      const late = intercepted((method) => method === "remove" ? Effect.sleep(20) : undefined)
      yield* Effect.scoped(Effect.gen(function*() {
        const { release, tryAcquire } = yield* open(directory, { fs: late })
        for (const ownerId of ["a", "b", "c", "d"]) {
          yield* release(ownerId, grantOf(yield* tryAcquire(ownerId)).handle)
        }
      }))
      const fs = yield* disk
      assert.deepStrictEqual(yield* fs.readDirectory(`${directory}/tmp`), [])
      assert.lengthOf(yield* fs.readDirectory(`${directory}/n-/l-k`), 2)
    }))

  it.live("tries a lock that it alone took lately without looking at it first", () =>
    Effect.gen(function*() {
      const directory = yield* freshDirectory
      const steps: Array<string> = []
      const noted = intercepted((method, path) => {
        if (path.startsWith(`${directory}/n-/`)) steps.push(method)
        return undefined
      })
      const withoutRemoval = (made: ReadonlyArray<string>) => made.filter((step) => step !== "remove")
      const ours = yield* open(directory, { fs: noted })
      const others = yield* open(directory)
      for (const ownerId of ["a1", "a2"]) {
        yield* ours.release(ownerId, grantOf(yield* ours.tryAcquire(ownerId)).handle)
      }
      steps.length = 0
      const { handle } = grantOf(yield* ours.tryAcquire("b"))
      assert.deepStrictEqual(withoutRemoval(steps), ["link", "readDirectory"])
      yield* ours.release("b", handle)
      const { handle: taken } = grantOf(yield* others.tryAcquire("c"))
      steps.length = 0
      // Somebody was quicker: it tried once, and from then on looks first, until it has had the lock twice in a row.
      assert.strictEqual(holderOf(yield* ours.tryAcquire("d")), "c")
      assert.deepStrictEqual(withoutRemoval(steps), ["link", "readDirectory", "stat", "open"])
      steps.length = 0
      assert.strictEqual(holderOf(yield* ours.tryAcquire("d")), "c")
      assert.deepStrictEqual(withoutRemoval(steps), ["readDirectory", "stat", "open"])
      yield* others.release("c", taken)
      yield* ours.release("d", grantOf(yield* ours.tryAcquire("d")).handle)
      steps.length = 0
      grantOf(yield* ours.tryAcquire("e"))
      assert.deepStrictEqual(withoutRemoval(steps), ["readDirectory", "stat", "link", "readDirectory"])
    }))

  it.live("takes its options from configuration", () =>
    Effect.gen(function*() {
      const directory = yield* freshDirectory
      const layer = File.layerConfig({
        directory: Config.String("LOCK_DIRECTORY"),
        namespace: Config.String("LOCK_NAMESPACE"),
        durable: Config.Boolean("LOCK_DURABLE")
      })
      yield* withLock("k").pipe(
        Effect.scoped,
        Effect.provide(layer),
        Effect.provideService(
          ConfigProvider.ConfigProvider,
          ConfigProvider.fromUnknown({ LOCK_DIRECTORY: directory, LOCK_NAMESPACE: "app", LOCK_DURABLE: "true" })
        )
      )
      const fs = yield* FileSystem.FileSystem
      assert.deepStrictEqual((yield* fs.readDirectory(directory)).sort(), ["n-app", "tmp"])
    }).pipe(Effect.provide(NodeServices.layer)))
})

const environment = Effect.gen(function*() {
  const directory = yield* freshDirectory
  const make = (namespace?: string) => Effect.provide(File.make({ directory, namespace }), NodeServices.layer)
  return LawEnvironment.make({
    first: yield* make(),
    second: yield* make(),
    withNamespace: make,
    acquisitions: 300
  })
})

await testLaws("File keeps the laws", environment, { concurrent: true })

import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Option } from "effect"
import { Lock, withLock, withLockIfAvailable } from "effect-lock"
import * as Memory from "effect-lock/layers/Memory"
import { Doubles } from "effect-lock/testing"
import { TestClock } from "effect/testing"

describe("Doubles", () => {
  it.effect("alwaysContended: every lock is somebody else's", () =>
    Effect.gen(function*() {
      assert.isTrue(Option.isNone(yield* withLockIfAvailable("key")))
      const error = yield* Effect.flip(withLock("key", { wait: 0 }))
      assert(error._tag === "LockContended")
      assert.strictEqual(error.holders[0]?.ownerId, "batch-7")
      assert.strictEqual((yield* Lock.inspect("key"))[0]?.ownerId, "batch-7")
    }).pipe(Effect.provide(Doubles.alwaysContended({ ownerId: "batch-7" }))))

  for (const reason of ["Gone", "Taken"] as const) {
    it.effect(`loseAfter: guarded work is interrupted with ${reason} at the renewal after that time`, () =>
      Effect.gen(function*() {
        const work = yield* Effect.forkChild(
          Effect.flip(Effect.never.pipe(Lock.guard("key", { ttl: "30 seconds", renewEvery: "10 seconds" }))),
          { startImmediately: true }
        )
        yield* TestClock.adjust("24 seconds")
        assert.isUndefined(work.pollUnsafe())
        yield* TestClock.adjust("15 seconds")
        const error = yield* Fiber.join(work)
        assert(error._tag === "LockLost")
        assert.strictEqual(error.reason, reason)
        assert.strictEqual((yield* Lock.inspect("key")).length, 0)
      }).pipe(Effect.provide(Doubles.loseAfter(Memory.layer(), "25 seconds", reason))))
  }
})

import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Fiber, Layer, Option, Schedule } from "effect"
import {
  Lock,
  LockBackend,
  LockBackendError,
  type LockLost,
  Throttled,
  Unauthorized,
  withLock,
  withLockIfAvailable
} from "effect-lock"
import * as Memory from "effect-lock/layers/Memory"
import { TestClock } from "effect/testing"
import { backend, hold, start, unreachable } from "./backends.ts"

const tags = (error: { readonly _tag: string }): string =>
  error instanceof LockBackendError ? error.reason._tag : error._tag

describe("outage", () => {
  it.effect("a lost reply is settled by asking again with the same owner id, never reported as contention", () =>
    Effect.gen(function*() {
      let lose = 2
      const { provide, sent } = yield* backend((real) => ({
        tryAcquire: (request) =>
          Effect.flatMap(
            real.tryAcquire(request),
            (reply) => lose-- > 0 ? Effect.fail(unreachable("acquire")) : Effect.succeed(reply)
          )
      }))
      const fiber = yield* Effect.scoped(withLock("k")).pipe(provide, Effect.forkChild(start))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
      const acquires = sent.filter((each) => each.verb === "acquire")
      assert.strictEqual(acquires.length, 3)
      assert.strictEqual(new Set(acquires.map((each) => each.ownerId)).size, 1)
    }))

  it.effect("nobody waits for ever in silence: the error is told after outageBudget, also with wait: forever", () =>
    Effect.gen(function*() {
      const { holder, provide } = yield* backend(() => ({ tryAcquire: () => Effect.fail(unreachable("acquire")) }))
      const fiber = yield* Effect.scoped(withLock("k", { outageBudget: "20 seconds" })).pipe(
        Effect.flip,
        provide,
        Effect.forkChild(start)
      )
      yield* TestClock.adjust("19 seconds")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(tags(yield* Fiber.join(fiber)), "Unreachable")
      assert.isUndefined(yield* holder("k"))
    }))

  it.effect("a hung driver, even an uninterruptible one, is TimedOut after operationTimeout", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend(() => ({ tryAcquire: () => Effect.uninterruptible(Effect.never) }))
      const fiber = yield* Effect.scoped(withLockIfAvailable("k", { ttl: "9 seconds", operationTimeout: "2 seconds" }))
        .pipe(Effect.flip, provide, Effect.forkChild(start))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(tags(yield* Fiber.join(fiber)), "TimedOut")
    }))

  it.effect("what can't be helped by asking again fails at once; a defect is a Protocol error", () =>
    Effect.gen(function*() {
      const denied = new LockBackendError({
        backend: "test",
        operation: "acquire",
        key: "k",
        reason: new Unauthorized({ detail: "no" })
      })
      for (
        const [verb, tag] of [
          [Effect.fail(denied), "Unauthorized"],
          [Effect.die(new Error("bug")), "Protocol"],
          [Effect.succeed({ _tag: "Maybe" } as never), "Protocol"]
        ] as const
      ) {
        const { count, provide } = yield* backend(() => ({ tryAcquire: () => verb }))
        assert.strictEqual(tags(yield* Effect.scoped(withLock("k")).pipe(Effect.flip, provide)), tag)
        assert.strictEqual(count("acquire"), 1)
      }
    }))

  it.effect("Throttled is respected: no try before retryAfter", () =>
    Effect.gen(function*() {
      let throttled = true
      const { provide, sent } = yield* backend((real) => ({
        tryAcquire: (request) =>
          Effect.suspend(() => {
            if (!throttled) return real.tryAcquire(request)
            throttled = false
            const reason = new Throttled({ detail: "slow down", retryAfter: Option.some(Duration.seconds(7)) })
            return Effect.fail(new LockBackendError({ backend: "test", operation: "acquire", key: "k", reason }))
          })
      }))
      const fiber = yield* Effect.scoped(withLock("k")).pipe(provide, Effect.forkChild(start))
      yield* TestClock.adjust("7 seconds")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(sent.filter((each) => each.verb === "acquire").map((each) => each.at), [0, 7000])
    }))

  it.effect("a wait that ends in an outage tells the outage; one that was refused before tells contention", () =>
    Effect.gen(function*() {
      let down = true
      const { provide, real } = yield* backend((real) => ({
        awaitTurn: undefined,
        tryAcquire: (request) => down ? Effect.fail(unreachable("acquire")) : real.tryAcquire(request)
      }))
      const options = { wait: "5 seconds", outageBudget: "1 minute" } as const
      const one = yield* Effect.scoped(withLock("k", options)).pipe(Effect.flip, provide, Effect.forkChild(start))
      yield* TestClock.adjust("6 seconds")
      assert.strictEqual(tags(yield* Fiber.join(one)), "Unreachable")
      down = false
      yield* hold(real, "k", "other")
      const two = yield* Effect.scoped(withLock("k", options)).pipe(Effect.flip, provide, Effect.forkChild(start))
      down = true
      yield* TestClock.adjust("6 seconds")
      assert.strictEqual(tags(yield* Fiber.join(two)), "LockContended")
    }))

  it.effect("waiters parked behind a head in outage are told the outage too, together and on time", () =>
    Effect.gen(function*() {
      const { count, provide } = yield* backend(() => ({ tryAcquire: () => Effect.never }))
      const fibers: Array<Fiber.Fiber<string>> = []
      for (let i = 0; i < 1000; i++) {
        const wait = i % 2 === 0 ? "forever" : "10 seconds"
        fibers.push(
          yield* Effect.scoped(withLock("k", { wait, outageBudget: "20 seconds" })).pipe(
            Effect.match({ onSuccess: () => "acquired", onFailure: tags }),
            provide,
            Effect.forkChild(start)
          )
        )
      }
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(fibers.filter((fiber) => fiber.pollUnsafe() !== undefined).length, 500)
      // 5 s for the first answer, 20 s of outage, one more attempt and its release.
      yield* TestClock.adjust("25 seconds")
      const told = new Set(yield* Effect.forEach(fibers, Fiber.join))
      assert.deepStrictEqual([...told], ["TimedOut"])
      assert.isAtMost(count("acquire"), 10)
    }))

  it.effect("recovers within a poll once the backend is back", () =>
    Effect.gen(function*() {
      let down = true
      const { provide } = yield* backend((real) => ({
        tryAcquire: (request) => down ? Effect.fail(unreachable("acquire")) : real.tryAcquire(request)
      }))
      const fiber = yield* Clock.currentTimeMillis.pipe(
        Lock.guard("k", { outageBudget: "1 hour" }),
        provide,
        Effect.forkChild(start)
      )
      yield* TestClock.adjust("30 minutes")
      down = false
      yield* TestClock.adjust("2 seconds")
      assert.isAtMost(yield* Fiber.join(fiber), 1_802_000)
    }))
})

describe("giving up", () => {
  it.effect("an interrupt while an attempt is in flight: the attempt ends, then a release is sent", () =>
    Effect.gen(function*() {
      const { holder, provide, sent } = yield* backend((real) => ({
        tryAcquire: (request) => Effect.tap(real.tryAcquire(request), () => Effect.sleep("1 second"))
      }))
      const fiber = yield* Effect.never.pipe(Lock.guard("k"), provide, Effect.forkChild(start))
      assert.isDefined(yield* holder("k"))
      const interrupt = yield* Effect.forkChild(Fiber.interrupt(fiber), start)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(interrupt)
      assert.isUndefined(yield* holder("k"))
      assert.deepStrictEqual(sent.map((each) => each.verb), ["acquire", "release"])
    }))

  it.effect("a caller that gives up on a hung backend is out within two operation timeouts", () =>
    Effect.gen(function*() {
      const hang = () => Effect.uninterruptible(Effect.never)
      const { provide } = yield* backend(() => ({ tryAcquire: hang, release: hang }))
      const fiber = yield* Effect.never.pipe(Lock.guard("k", { ttl: "20 seconds" }), provide, Effect.forkChild(start))
      const interrupt = yield* Effect.forkChild(Fiber.interrupt(fiber), start)
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(interrupt)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
    }))

  it.effect("an attempt without an answer is released even if a later one was refused", () =>
    Effect.gen(function*() {
      let first = true
      const { provide, real, sent } = yield* backend((real) => ({
        tryAcquire: (request) =>
          Effect.suspend(() => {
            if (!first) return real.tryAcquire(request)
            first = false
            return Effect.fail(unreachable("acquire"))
          })
      }))
      yield* hold(real, "k", "other")
      const fiber = yield* Effect.scoped(withLock("k", { wait: "1 second" })).pipe(
        Effect.flip,
        provide,
        Effect.forkChild(start)
      )
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(fiber)
      assert.strictEqual(sent.at(-1)?.verb, "release")
    }))
})

describe("a backend whose layer closes first", () => {
  it.effect("ends in a clean release and LockLost(BackendClosed)", () =>
    Effect.gen(function*() {
      const store = Memory.makeStoreUnsafe()
      const observer = yield* Memory.make({ store })
      const lease = yield* withLock("k").pipe(Effect.provide(Memory.layer({ store })))
      assert.deepInclude(yield* Effect.flip(lease.check), { _tag: "LockLost", reason: "BackendClosed" })
      assert.deepStrictEqual(yield* observer.inspect({ key: "k", budget: Duration.seconds(1) }), [])
    }))

  it.effect("guards are interrupted, waiters fail, later calls are Misconfigured; the driver is still open", () =>
    Effect.gen(function*() {
      let open = true
      let releasedWhileOpen = 0
      const driver = Effect.acquireRelease(Effect.void, () =>
        Effect.sync(() => {
          open = false
        }))
      const layer = Layer.effect(
        LockBackend,
        Effect.gen(function*() {
          yield* driver
          const real = yield* Memory.make()
          return yield* LockBackend.make({
            ...real,
            release: (request) =>
              Effect.suspend(() => {
                if (open) releasedWhileOpen++
                return real.release(request)
              })
          })
        })
      )
      const [service, guarded, waiting] = yield* Effect.gen(function*() {
        const service = yield* LockBackend
        const guarded = yield* Effect.never.pipe(Lock.guard("k"), Effect.exit, Effect.forkDetach(start))
        const waiting = yield* Effect.void.pipe(Lock.guard("k"), Effect.flip, Effect.forkDetach(start))
        return [service, guarded, waiting] as const
      }).pipe(Effect.provide(layer))
      const lost = Option.getOrThrow(Exit.findErrorOption(yield* Fiber.join(guarded))) as LockLost
      assert.strictEqual(lost.reason, "BackendClosed")
      assert.strictEqual(tags(yield* Fiber.join(waiting)), "Misconfigured")
      assert.strictEqual(releasedWhileOpen, 1)
      const after = yield* Effect.void.pipe(Lock.guard("k"), Effect.flip, Effect.provideService(LockBackend, service))
      assert.strictEqual(tags(after), "Misconfigured")
    }))

  it.effect("a caller waiting at the head lets go before the driver closes", () =>
    Effect.gen(function*() {
      const store = Memory.makeStoreUnsafe()
      const other = yield* Memory.make({ store })
      yield* hold(other, "k", "other")
      const waiting = yield* Effect.void.pipe(
        Lock.guard("k", { schedule: Schedule.spaced("1 hour") }),
        Effect.flip,
        Effect.forkDetach(start)
      ).pipe(Effect.provide(Memory.layer({ store })))
      assert.strictEqual(tags(yield* Fiber.join(waiting)), "Misconfigured")
    }))
})

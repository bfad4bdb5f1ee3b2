import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, Duration, Effect, Exit, Fiber, Option, Random, Schedule, Stream } from "effect"
import { Lock, type LockBackendError, type LockLost, withLock } from "effect-lock"
import { TestClock } from "effect/testing"
import { backend, start, steal, unreachable } from "./backends.ts"

const noJitter = Effect.provideService(Random.Random, { nextDoubleUnsafe: () => 0, nextIntUnsafe: () => 0 })

const lostOf = (exit: Exit.Exit<unknown, unknown>): LockLost => {
  assert.isTrue(Exit.isFailure(exit))
  const error = Option.getOrThrow(Exit.findErrorOption(exit)) as LockLost
  assert.strictEqual(error._tag, "LockLost")
  return error
}

describe("renewal", () => {
  it.effect("keeps a lease for an hour, at least every ttl / 3", () =>
    Effect.gen(function*() {
      const { count, holder, provide } = yield* backend()
      const fiber = yield* Effect.never.pipe(Lock.guard("k"), noJitter, provide, Effect.forkChild(start))
      yield* TestClock.adjust("1 hour")
      assert.isUndefined(fiber.pollUnsafe())
      assert.strictEqual(count("renew"), 360)
      yield* Fiber.interrupt(fiber)
      assert.isUndefined(yield* holder("k"))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(count("renew"), 360)
    }))

  it.effect("leases taken together do not renew together", () =>
    Effect.gen(function*() {
      const { provide, sent } = yield* backend()
      for (let i = 0; i < 20; i++) {
        yield* Effect.never.pipe(Lock.guard(`k${i}`), provide, Random.withSeed(`s${i}`), Effect.forkChild(start))
      }
      yield* TestClock.adjust("10 seconds")
      const times = new Set(sent.filter((each) => each.verb === "renew").map((each) => each.at))
      assert.isAtLeast(times.size, 15)
    }))

  it.effect("renewEvery: false never renews: the lease ends after its ttl, and is not in jeopardy before", () =>
    Effect.gen(function*() {
      const { count, provide } = yield* backend()
      yield* Effect.scoped(Effect.gen(function*() {
        const lease = yield* withLock("k", { ttl: "10 seconds", renewEvery: false })
        yield* TestClock.adjust("9 seconds")
        assert.strictEqual(yield* lease.state, "Held")
        yield* TestClock.adjust("500 millis")
        assert.strictEqual(yield* lease.state, "Lost")
        assert.strictEqual(count("renew"), 0)
      })).pipe(provide)
    }))

  it.effect("maxHold ends it, so that a wedged holder can't keep the lock for ever", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend()
      const fiber = yield* Effect.never.pipe(
        Lock.guard("k", { ttl: "3 seconds", maxHold: "1 minute" }),
        Effect.exit,
        provide,
        Effect.forkChild(start)
      )
      yield* TestClock.adjust("59 seconds")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual(lostOf(yield* Fiber.join(fiber)).reason, "Expired")
    }))

  it.effect("an outage shorter than the remaining trust is survived; jeopardy is seen and left again", () =>
    Effect.gen(function*() {
      let down = false
      const { provide } = yield* backend((real) => ({
        renew: (request) => down ? Effect.fail(unreachable("renew")) : real.renew(request)
      }))
      yield* Effect.scoped(Effect.gen(function*() {
        const lease = yield* withLock("k", { ttl: "30 seconds" })
        const states = yield* Stream.runCollect(lease.changes).pipe(Effect.forkChild(start))
        down = true
        yield* TestClock.adjust("25 seconds")
        assert.strictEqual(yield* lease.state, "InJeopardy")
        yield* lease.check
        down = false
        yield* TestClock.adjust("3 seconds")
        assert.strictEqual(yield* lease.state, "Held")
        yield* lease.release
        assert.deepStrictEqual(yield* Fiber.join(states), ["Held", "InJeopardy", "Held", "Released"])
      })).pipe(provide)
    }))

  it.effect("renew and ensure share the call in flight", () =>
    Effect.gen(function*() {
      const { count, provide } = yield* backend((real) => ({
        renew: (request) => Effect.tap(real.renew(request), () => Effect.sleep("1 second"))
      }))
      yield* Effect.scoped(Effect.gen(function*() {
        const lease = yield* withLock("k", { ttl: "30 seconds", renewEvery: false })
        yield* TestClock.adjust("10 seconds")
        const all = yield* Effect.all([lease.renew, lease.renew, lease.ensure("20 seconds")], {
          concurrency: "unbounded"
        }).pipe(Effect.forkChild(start))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(all)
        assert.strictEqual(count("renew"), 1)
        assert.strictEqual(Duration.toMillis(yield* lease.remaining), 27_500)
      })).pipe(provide)
    }))

  it.effect("ensure renews only if too little is left, and refuses what no lease has", () =>
    Effect.gen(function*() {
      const { count, provide } = yield* backend()
      yield* Effect.scoped(Effect.gen(function*() {
        const lease = yield* withLock("k", { ttl: "30 seconds", renewEvery: false })
        yield* lease.ensure("28 seconds")
        assert.strictEqual(count("renew"), 0)
        yield* TestClock.adjust("1 second")
        yield* lease.ensure("28 seconds")
        assert.strictEqual(count("renew"), 1)
        assert.deepInclude(yield* Effect.flip(lease.ensure("28501 millis")), {
          _tag: "InvalidLockRequest",
          field: "duration"
        })
      })).pipe(provide)
    }))
})

describe("loss", () => {
  it.effect("a renewal that hangs can't hide it: told at sent + ttl − margin, to the millisecond", () =>
    Effect.gen(function*() {
      for (const hang of [Effect.never, Effect.uninterruptible(Effect.never)]) {
        const { holder, provide } = yield* backend(() => ({ renew: () => hang }))
        const log: Array<string> = []
        const fiber = yield* Effect.never.pipe(
          Effect.onInterrupt(() => Effect.sync(() => log.push("finalizer"))),
          Lock.guard("k", { ttl: "10 seconds" }),
          Effect.exit,
          provide,
          Effect.forkChild(start)
        )
        yield* TestClock.adjust("9499 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(log, ["finalizer"])
        yield* TestClock.adjust("2500 millis") // a hung renewal delays the release by at most its budget
        const exit = yield* Fiber.join(fiber)
        assert.strictEqual(lostOf(exit).reason, "Expired")
        // The typed failure alone, no interruption beside it.
        assert.deepStrictEqual(Exit.isFailure(exit) && exit.cause.reasons.map((each) => each._tag), ["Fail"])
        assert.isUndefined(yield* holder("k"))
      }
    }))

  it.effect("the last backend error is its cause", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend(() => ({ renew: () => Effect.fail(unreachable("renew")) }))
      const fiber = yield* Effect.never.pipe(Lock.guard("k"), Effect.exit, provide, Effect.forkChild(start))
      yield* TestClock.adjust("30 seconds")
      const lost = lostOf(yield* Fiber.join(fiber))
      assert.strictEqual((lost.cause as LockBackendError).reason._tag, "Unreachable")
    }))

  it.effect("Taken and Gone are told by the backend, and nobody else's lock is released", () =>
    Effect.gen(function*() {
      const { holder, provide, real } = yield* backend()
      const fiber = yield* Effect.never.pipe(Lock.guard("k"), Effect.exit, provide, Effect.forkChild(start))
      yield* steal(real, "k")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(lostOf(yield* Fiber.join(fiber)).reason, "Taken")
      assert.strictEqual(yield* holder("k"), "thief")

      const gone = yield* Effect.never.pipe(Lock.guard("k2"), Effect.exit, provide, Effect.forkChild(start))
      const ownerId = (yield* holder("k2"))!
      assert.strictEqual(yield* Lock.break("k2", ownerId, { now: true }).pipe(provide), "Broken")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(lostOf(yield* Fiber.join(gone)).reason, "Gone")
    }))

  it.effect("trust counts from the send, not from the reply", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend((real) => ({
        tryAcquire: (request) => Effect.tap(real.tryAcquire(request), () => Effect.sleep("2 seconds"))
      }))
      const fiber = yield* Effect.scoped(Effect.flatMap(
        withLock("k", { ttl: "10 seconds", renewEvery: false }),
        (lease) => lease.remaining
      )).pipe(provide, Effect.forkChild(start))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(Duration.toMillis(yield* Fiber.join(fiber)), 7500)
    }))

  it.effect("a grant that comes with less than half its trust is renewed once", () =>
    Effect.gen(function*() {
      const { count, provide } = yield* backend((real) => ({
        tryAcquire: (request) => Effect.tap(real.tryAcquire(request), () => Effect.sleep("3300 millis"))
      }))
      const options = {
        ttl: "10 seconds",
        operationTimeout: "3.33 seconds",
        safetyMargin: "2 seconds",
        renewEvery: "2 seconds"
      } as const
      const fiber = yield* Effect.scoped(Effect.flatMap(withLock("k", options), (lease) => lease.remaining)).pipe(
        provide,
        Effect.forkChild(start)
      )
      yield* TestClock.adjust("3300 millis")
      assert.strictEqual(Duration.toMillis(yield* Fiber.join(fiber)), 8000)
      assert.strictEqual(count("renew"), 1)
    }))

  it.effect("if that renewal fails it is given back and tried again with a fresh owner id", () =>
    Effect.gen(function*() {
      let slow = true
      const { provide, sent } = yield* backend((real) => ({
        tryAcquire: (request) =>
          Effect.tap(real.tryAcquire(request), () => slow ? Effect.sleep("3300 millis") : Effect.void),
        renew: () => Effect.fail(unreachable("renew")),
        release: (request) =>
          Effect.tap(real.release(request), () =>
            Effect.sync(() => {
              slow = false
            }))
      }))
      const options = {
        ttl: "10 seconds",
        operationTimeout: "3.33 seconds",
        safetyMargin: "2 seconds",
        renewEvery: "2 seconds"
      } as const
      const fiber = yield* Effect.scoped(withLock("k", options)).pipe(provide, Effect.forkChild(start))
      yield* TestClock.adjust("5 seconds")
      const lease = yield* Fiber.join(fiber)
      const acquires = sent.filter((each) => each.verb === "acquire")
      assert.strictEqual(acquires.length, 2)
      assert.notStrictEqual(acquires[0]!.ownerId, acquires[1]!.ownerId)
      assert.strictEqual(lease.ownerId, acquires[1]!.ownerId)
    }))

  it.effect("is final: a renewal that succeeds later does not undo it, nor does a clock set back", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend((real) => ({
        renew: (request) => Effect.tap(real.renew(request), () => Effect.sleep("2 seconds"))
      }))
      yield* Effect.scoped(Effect.gen(function*() {
        const lease = yield* withLock("k", { ttl: "10 seconds", renewEvery: false })
        yield* TestClock.adjust("8 seconds")
        const renewal = yield* Effect.forkChild(Effect.exit(lease.renew), start)
        yield* TestClock.adjust("1500 millis")
        assert.strictEqual(yield* lease.state, "Lost")
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual(lostOf(yield* Fiber.join(renewal)).reason, "Expired")
        yield* TestClock.setTime(0)
        assert.strictEqual(yield* lease.state, "Lost")
        assert.deepStrictEqual(yield* lease.remaining, Duration.zero)
      })).pipe(provide)
    }))

  it.effect("a machine that slept: the wall clock alone ends it, at the next check and at the next tick", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend()
      const real = yield* Clock.Clock
      let slept = 0
      const clock: Clock.Clock = {
        ...real,
        sleep: (duration) => real.sleep(duration),
        monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe(),
        currentTimeMillisUnsafe: () => real.currentTimeMillisUnsafe() + slept
      }
      yield* Effect.gen(function*() {
        const guarded = yield* Effect.never.pipe(Lock.guard("k"), Effect.exit, Effect.forkChild(start))
        const lease = yield* withLock("k2")
        yield* TestClock.adjust("1 second")
        slept = 60_000
        assert.strictEqual((yield* Effect.flip(lease.check)).reason, "Expired")
        yield* TestClock.adjust("1 second")
        assert.strictEqual(lostOf(yield* Fiber.join(guarded)).reason, "Expired")
      }).pipe(provide, Effect.provideService(Clock.Clock, clock), Effect.scoped)
    }))

  it.effect("a stalled event loop: the body ends after trust, before any timer: LockLost, not success", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend()
      const real = yield* Clock.Clock
      let now = 0n
      const stalled: Clock.Clock = { ...real, monotonicTimeNanosUnsafe: () => now, sleep: () => Effect.never }
      const error = yield* Effect.sync(() => {
        now = 60_000_000_000n
      }).pipe(Lock.guard("k"), Effect.flip, provide, Effect.provideService(Clock.Clock, stalled))
      assert.strictEqual(error._tag, "LockLost")
    }))

  it.effect("a body that can't be interrupted delays the interruption, not the loss", () =>
    Effect.gen(function*() {
      const { holder, provide, real } = yield* backend()
      const late = yield* Effect.uninterruptible(Effect.sleep("15 seconds")).pipe(
        Lock.guard("k", { ttl: "10 seconds", renewEvery: false }),
        Effect.exit,
        provide,
        Effect.forkChild(start)
      )
      yield* TestClock.adjust("10 seconds")
      const next = yield* Effect.never.pipe(Lock.guard("k"), provide, Effect.forkChild(start))
      const owner = yield* holder("k")
      assert.isDefined(owner)
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(lostOf(yield* Fiber.join(late)).reason, "Expired")
      assert.strictEqual(yield* holder("k"), owner)
      assert.isUndefined(next.pollUnsafe())
      assert.strictEqual(real.name, "memory")
    }))

  it.effect("the guarded effect's finalizers are awaited before the failure, and their defects are kept", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust(0)
      const { provide } = yield* backend()
      const log: Array<string> = []
      const run = (finalizer: Effect.Effect<unknown>) =>
        Effect.never.pipe(
          Effect.onInterrupt(() => finalizer),
          Lock.guard("k", { ttl: "3 seconds", renewEvery: false }),
          Effect.exit,
          provide,
          Effect.forkChild(start)
        )
      const slow = yield* run(Effect.andThen(Effect.sleep("5 seconds"), Effect.sync(() => log.push("rolled back"))))
      yield* TestClock.adjust("8 seconds")
      lostOf(yield* Fiber.join(slow))
      assert.deepStrictEqual(log, ["rolled back"])
      const dying = yield* run(Effect.die("boom"))
      yield* TestClock.adjust("3 seconds")
      const exit = yield* Fiber.join(dying)
      assert.strictEqual(lostOf(exit).reason, "Expired")
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
    }))

  it.effect("Lock.scoped interrupts the region of the lost lease; Effect.scoped does not look", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend()
      const region = Effect.gen(function*() {
        const lease = yield* withLock("k", { ttl: "3 seconds", renewEvery: false })
        yield* Effect.sleep("10 seconds")
        return Duration.toMillis(yield* lease.remaining)
      })
      const blind = yield* Effect.scoped(region).pipe(provide, Effect.forkChild(start))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* Fiber.join(blind), 0)
      const strict = yield* Lock.scoped(region).pipe(Effect.exit, provide, Effect.forkChild(start))
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(lostOf(yield* Fiber.join(strict)).reason, "Expired")
    }))

  it.effect("Lock.scoped: not the leases of inner scopes, nor one released early", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend()
      const fiber = yield* Lock.scoped(Effect.gen(function*() {
        const early = yield* withLock("early")
        yield* early.release
        const inner = Effect.andThen(withLock("k", { ttl: "3 seconds", renewEvery: false }), Effect.sleep("5 seconds"))
        yield* Effect.scoped(inner)
        return "done"
      })).pipe(provide, Effect.forkChild(start))
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* Fiber.join(fiber), "done")
    }))
})

describe("release", () => {
  it.effect("early and idempotent; guards and later checks fail Released; the lock is free", () =>
    Effect.gen(function*() {
      const { count, holder, provide } = yield* backend()
      yield* Effect.scoped(Effect.gen(function*() {
        const lease = yield* withLock("k")
        const running = yield* lease.guard(Effect.never).pipe(Effect.exit, Effect.forkChild(start))
        yield* lease.release
        yield* lease.release
        assert.isUndefined(yield* holder("k"))
        assert.strictEqual(lostOf(yield* Fiber.join(running)).reason, "Released")
        for (const use of [lease.check, lease.lost, lease.renew, lease.ensure(1), lease.guard(Effect.void)]) {
          assert.strictEqual(lostOf(yield* Effect.exit(use)).reason, "Released")
        }
        assert.strictEqual(yield* lease.state, "Released")
      })).pipe(provide)
      assert.strictEqual(count("release"), 1)
    }))

  it.effect("is sent only after the renewal in flight has stopped", () =>
    Effect.gen(function*() {
      let renewing = false
      const { provide, sent } = yield* backend((real) => ({
        renew: () =>
          Effect.never.pipe(
            Effect.onInterrupt(() => Effect.sleep("100 millis")),
            Effect.onExit(() =>
              Effect.sync(() => {
                renewing = false
              })
            ),
            (self) =>
              Effect.suspend(() => {
                renewing = true
                return self
              })
          ),
        release: (request) =>
          Effect.suspend(() => {
            assert.isFalse(renewing)
            return real.release(request)
          })
      }))
      yield* TestClock.adjust(0)
      const fiber = yield* Effect.never.pipe(Lock.guard("k"), provide, Effect.forkChild(start))
      yield* TestClock.adjust("10 seconds")
      assert.isTrue(renewing)
      const interrupt = yield* Effect.forkChild(Fiber.interrupt(fiber), start)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(interrupt)
      assert.strictEqual(sent.at(-1)?.verb, "release")
    }))

  it.effect("failing: retried, then left to the ttl; closing a scope never hangs longer than its budget", () =>
    Effect.gen(function*() {
      let failures = 2
      const flaky = yield* backend((real) => ({
        release: (request) => failures-- > 0 ? Effect.fail(unreachable("release")) : real.release(request)
      }))
      const one = yield* Effect.void.pipe(Lock.guard("k"), flaky.provide, Effect.forkChild(start))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(one)
      assert.isUndefined(yield* flaky.holder("k"))

      const hanging = yield* backend(() => ({ release: () => Effect.uninterruptible(Effect.never) }))
      const two = yield* Effect.void.pipe(
        Lock.guard("k", { ttl: "12 seconds" }),
        hanging.provide,
        Effect.forkChild(start)
      )
      yield* TestClock.adjust("6 seconds") // 2 × operationTimeout
      yield* Fiber.join(two)
    }))

  it.effect("frees the local slot even if the backend never answers", () =>
    Effect.gen(function*() {
      const { provide, real } = yield* backend(() => ({ release: () => Effect.never }))
      const first = yield* Effect.void.pipe(Lock.guard("k"), provide, Effect.forkChild(start))
      const second = yield* Effect.succeed("served").pipe(
        Lock.guard("k", { schedule: Schedule.spaced("1 second") }),
        provide,
        Effect.forkChild(start)
      )
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(first)
      assert.strictEqual(yield* Fiber.join(second), "served")
      assert.strictEqual(real.name, "memory")
    }))

  it.effect("an early release leaves nothing in a long-lived scope", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend()
      const scope = yield* Effect.scope
      const finalizers = () => {
        const state = scope.state as unknown as { finalizers?: { size: number }; finalizer?: unknown }
        return state.finalizers?.size ?? (state.finalizer === undefined ? 0 : 1)
      }
      const before = finalizers()
      for (let i = 0; i < 100; i++) {
        const lease = yield* withLock("k").pipe(provide)
        yield* lease.release
      }
      assert.strictEqual(finalizers(), before)
    }))
})

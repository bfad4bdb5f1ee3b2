import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Fiber, Option, Random, Schedule, Scope } from "effect"
import {
  type InvalidLockRequest,
  Lock,
  type LockBackend,
  LockBackendError,
  type LockContended,
  LockDefaults,
  withLock,
  withLockIfAvailable
} from "effect-lock"
import { TestClock } from "effect/testing"
import { backend, hold, start, unreachable } from "./backends.ts"

type Errors = InvalidLockRequest | LockBackendError | LockContended

const fixedRandom = (n: number) =>
  Effect.provideService(Random.Random, { nextDoubleUnsafe: () => n, nextIntUnsafe: () => 0 })

describe("acquire and release", () => {
  it.effect("one at a time, free after the scope, fencing tokens grow", () =>
    Effect.gen(function*() {
      const { holder, provide } = yield* backend()
      yield* Effect.gen(function*() {
        const tokens: Array<bigint> = []
        for (let i = 0; i < 3; i++) {
          yield* Effect.scoped(Effect.gen(function*() {
            const lease = yield* withLock("k")
            tokens.push(Option.getOrThrow(lease.fencingToken))
            assert.strictEqual(yield* holder("k"), lease.ownerId)
            assert.isTrue(Option.isNone(yield* Effect.scoped(withLockIfAvailable("k"))))
            assert.isTrue(Option.isSome(yield* Effect.scoped(withLockIfAvailable("other"))))
          }))
          assert.isUndefined(yield* holder("k"))
        }
        assert.isTrue(tokens[0]! < tokens[1]! && tokens[1]! < tokens[2]!)
      }).pipe(provide)
    }))

  it.effect("every ending gives it back: success, failure, defect, interruption", () =>
    Effect.gen(function*() {
      const { count, holder, provide } = yield* backend()
      const endings = [
        Effect.void,
        Effect.fail("no"),
        Effect.die("boom"),
        Effect.interrupt
      ]
      for (const ending of endings) {
        yield* Effect.exit(Effect.scoped(Effect.andThen(withLock("k"), ending)).pipe(provide))
        assert.isUndefined(yield* holder("k"))
        yield* Effect.exit(Lock.guard(ending, "k").pipe(provide))
        assert.isUndefined(yield* holder("k"))
      }
      assert.strictEqual(count("release"), 8)
    }))

  it.effect("guard does not capture the caller's Scope", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend()
      const log: Array<string> = []
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Effect.addFinalizer(() => Effect.sync(() => log.push("caller's finalizer"))).pipe(Lock.guard("k"))
        log.push("released")
      })).pipe(provide)
      assert.deepStrictEqual(log, ["released", "caller's finalizer"])
    }))

  it.effect("guard and guardIfAvailable: values, failures, None without running", () =>
    Effect.gen(function*() {
      const { provide, real } = yield* backend()
      assert.strictEqual(yield* Effect.succeed(7).pipe(Lock.guard("k"), provide), 7)
      assert.strictEqual(yield* Effect.fail("mine").pipe(Lock.guard("k"), Effect.flip, provide), "mine")
      assert.deepStrictEqual(yield* Lock.guardIfAvailable(Effect.succeed(7), "k").pipe(provide), Option.some(7))
      yield* hold(real, "k", "other")
      let ran = false
      const none = yield* Lock.guardIfAvailable(Effect.sync(() => ran = true), "k").pipe(provide)
      assert.deepStrictEqual([none, ran], [Option.none(), false])
    }))

  it.effect("a scope that is closed already gives the lease back at once", () =>
    Effect.gen(function*() {
      const { holder, provide } = yield* backend()
      const scope = yield* Scope.make()
      yield* Scope.close(scope, Exit.void)
      const lease = yield* withLock("k").pipe(Scope.provide(scope), provide)
      assert.strictEqual(yield* lease.state, "Released")
      assert.isUndefined(yield* holder("k"))
    }))

  it.effect("bad input is told before anything is sent", () =>
    Effect.gen(function*() {
      const { provide, sent } = yield* backend()
      const wrong: ReadonlyArray<Effect.Effect<unknown, Errors, LockBackend | Scope.Scope>> = [
        withLock(""),
        withLock("k", { ttl: 0 }),
        withLock("k", { ttl: "99 millis" }),
        withLock("k", { renewEvery: "29 seconds" }),
        withLockIfAvailable("a\u0000b"),
        Lock.inspect("")
      ]
      for (const each of wrong) {
        const error = yield* Effect.scoped(each).pipe(Effect.flip, provide)
        assert.strictEqual(error._tag, "InvalidLockRequest")
      }
      assert.deepStrictEqual(sent, [])
    }))
})

describe("waiting", () => {
  it.effect("a release in another process wakes the waiter long before its delay is over", () =>
    Effect.gen(function*() {
      const { provide, real } = yield* backend()
      const other = yield* hold(real, "k", "other")
      const at = yield* Clock.currentTimeMillis.pipe(
        Lock.guard("k", { schedule: Schedule.spaced("1 hour") }),
        provide,
        Effect.forkChild(start)
      )
      yield* TestClock.adjust("3 seconds")
      yield* other.release
      yield* TestClock.adjust("2 millis")
      assert.isAtMost(yield* Fiber.join(at), 3002)
    }))

  it.effect("delays are the schedule's: exponential, capped, full jitter; attempts are counted", () =>
    Effect.gen(function*() {
      const { provide, real, sent } = yield* backend(() => ({ awaitTurn: undefined }))
      yield* hold(real, "k", "other")
      const fiber = yield* Effect.scoped(withLock("k", {
        schedule: Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("400 millis")]).pipe(
          Schedule.modifyDelay(({ duration }) => Effect.map(Random.next, (n) => Duration.times(duration, n))),
          Schedule.upTo({ times: 5 })
        )
      })).pipe(Effect.flip, fixedRandom(0.5), provide, Effect.forkChild(start))
      yield* TestClock.adjust("1 minute")
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error._tag, "LockContended")
      if (error._tag !== "LockContended") return
      assert.deepStrictEqual([error.reason, error.attempts], ["ScheduleOver", 6])
      assert.strictEqual(error.holders[0]?.ownerId, "other")
      const acquires = sent.filter((each) => each.verb === "acquire").map((each) => each.at)
      assert.deepStrictEqual(acquires, [0, 50, 150, 350, 550, 750])
      assert.strictEqual(sent.at(-1)?.verb, "release") // it was willing to wait, so it leaves the queue
    }))

  it.effect("wait bounds the queueing, from the call; 0 is one attempt", () =>
    Effect.gen(function*() {
      const { count, provide, real } = yield* backend(() => ({ awaitTurn: undefined }))
      yield* hold(real, "k", "other")
      const now = yield* Effect.scoped(withLock("k", { wait: 0 })).pipe(Effect.flip, provide)
      assert.deepInclude(now, { _tag: "LockContended", reason: "WaitOver", attempts: 1 })
      assert.strictEqual(count("acquire"), 1)
      assert.strictEqual(count("release"), 0) // it never queued
      const fiber = yield* Effect.scoped(withLock("k", { wait: "10 seconds" })).pipe(
        Effect.flip,
        provide,
        Effect.forkChild(start)
      )
      yield* TestClock.adjust("9999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const error = yield* Fiber.join(fiber)
      assert.deepInclude(error, { _tag: "LockContended", reason: "WaitOver" })
      assert.closeTo(Duration.toMillis((error as { waited: Duration.Duration }).waited), 10_000, 0.001)
    }))

  it.effect("a wait of many random fractions is over on time too, whatever they sum up to", () =>
    Effect.gen(function*() {
      const { provide, real } = yield* backend(() => ({ awaitTurn: undefined }))
      yield* hold(real, "k", "other")
      for (let seed = 0; seed < 50; seed++) {
        const fiber = yield* Effect.scoped(withLock("k", { wait: "10 seconds" })).pipe(
          Effect.flip,
          Random.withSeed(`s${seed}`),
          provide,
          Effect.forkChild(start)
        )
        yield* TestClock.adjust("10 seconds")
        assert.isDefined(fiber.pollUnsafe(), `seed s${seed}`)
      }
    }))

  it.effect("never sleeps past the expiry that the backend knows", () =>
    Effect.gen(function*() {
      const { provide, real } = yield* backend(() => ({ awaitTurn: undefined }))
      yield* hold(real, "k", "other", 5000)
      const at = yield* Clock.currentTimeMillis.pipe(
        Lock.guard("k", { schedule: Schedule.spaced("1 hour") }),
        provide,
        Effect.forkChild(start)
      )
      yield* TestClock.adjust("5001 millis")
      assert.strictEqual(yield* Fiber.join(at), 5001)
    }))

  it.effect("a backend that pushes without end is not followed into a busy loop", () =>
    Effect.gen(function*() {
      const { count, provide, real } = yield* backend(() => ({ awaitTurn: () => Effect.void }))
      yield* hold(real, "k", "other")
      yield* Effect.scoped(withLock("k", { schedule: Schedule.spaced("1 hour"), wait: "10 seconds" })).pipe(
        Effect.flip,
        provide,
        Effect.forkChild(start)
      )
      yield* TestClock.adjust("10 seconds")
      assert.isAtMost(count("acquire"), 10_000 / 50 + 10)
    }))

  it.effect("a push that fails leaves the waiting to the polls", () =>
    Effect.gen(function*() {
      const { provide, real } = yield* backend(() => ({ awaitTurn: () => Effect.fail(unreachable("awaitTurn")) }))
      const other = yield* hold(real, "k", "other")
      const fiber = yield* Effect.void.pipe(
        Lock.guard("k", { schedule: Schedule.spaced("1 second") }),
        provide,
        Effect.forkChild(start)
      )
      yield* other.release
      yield* TestClock.adjust("999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(fiber)
    }))

  it.effect("LockDefaults reach every call; the call's own options win", () =>
    Effect.gen(function*() {
      const { provide, real } = yield* backend()
      yield* hold(real, "k", "other")
      const withDefaults = Effect.provideService(LockDefaults, { wait: 0, ttl: "2 seconds" })
      const error = yield* Effect.scoped(withLock("k")).pipe(Effect.flip, withDefaults, provide)
      assert.deepInclude(error, { _tag: "LockContended", reason: "WaitOver" })
      const remaining = (ttl?: string) =>
        Effect.scoped(
          Effect.flatMap(withLock("free", ttl === undefined ? {} : { ttl: "10 seconds" }), (lease) => lease.remaining)
        ).pipe(withDefaults, provide)
      assert.strictEqual(Duration.toMillis(yield* remaining()), 1900)
      assert.strictEqual(Duration.toMillis(yield* remaining("10 seconds")), 9500)
    }))
})

describe("the local queue", () => {
  it.effect("only the head talks to the backend; waiters are served in order", () =>
    Effect.gen(function*() {
      const { count, provide, real } = yield* backend(() => ({ awaitTurn: undefined }))
      const other = yield* hold(real, "k", "other")
      const served: Array<number> = []
      const fibers = []
      for (let i = 0; i < 50; i++) {
        fibers.push(
          yield* Effect.sync(() => served.push(i)).pipe(
            Lock.guard("k", { schedule: Schedule.spaced("1 second") }),
            provide,
            Effect.forkChild(start)
          )
        )
      }
      assert.strictEqual(count("acquire"), 1)
      yield* other.release
      yield* TestClock.adjust("1 second")
      yield* Fiber.awaitAll(fibers)
      assert.deepStrictEqual(served, Array.from({ length: 50 }, (_, i) => i))
      assert.strictEqual(count("acquire"), 51)
    }))

  it.effect("waiters that are interrupted, wherever they stand, never stall the others", () =>
    Effect.gen(function*() {
      const { provide, real, service } = yield* backend()
      const other = yield* hold(real, "k", "other")
      const served: Array<number> = []
      const fibers = []
      for (let i = 0; i < 20; i++) {
        fibers.push(
          yield* Effect.sync(() => served.push(i)).pipe(Lock.guard("k"), provide, Effect.forkChild(start))
        )
      }
      for (const i of [0, 1, 7, 8, 19]) yield* Fiber.interrupt(fibers[i]!)
      yield* other.release
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.awaitAll(fibers)
      assert.deepStrictEqual(served, [2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18])
      assert.strictEqual((service.slot.state as unknown as { queues: Map<string, unknown> }).queues.size, 0)
    }))

  it.effect("a cap on waiters is a typed error", () =>
    Effect.gen(function*() {
      const { provide, real } = yield* backend()
      yield* hold(real, "k", "other")
      const waiter = Effect.void.pipe(Lock.guard("k", { maxWaiters: 2 }), provide)
      yield* Effect.forkChild(waiter, start) // at the head: it does not wait in line
      yield* Effect.forkChild(waiter, start)
      yield* Effect.forkChild(waiter, start)
      const error = yield* Effect.flip(waiter)
      assert.deepInclude(error, { _tag: "LockContended", reason: "QueueFull" })
    }))

  it.effect("a parked waiter's own schedule counts local refusals, without I/O", () =>
    Effect.gen(function*() {
      const { count, provide } = yield* backend()
      yield* Effect.scoped(Effect.gen(function*() {
        const lease = yield* withLock("k")
        const fiber = yield* Effect.void.pipe(
          Lock.guard("k", { schedule: Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 3 })) }),
          Effect.flip,
          Effect.forkChild(start)
        )
        yield* TestClock.adjust("3 seconds")
        const error = yield* Fiber.join(fiber)
        assert.deepInclude(error, { _tag: "LockContended", reason: "ScheduleOver", attempts: 4 })
        assert.strictEqual(error._tag === "LockContended" && error.holders[0]?.ownerId, lease.ownerId)
        assert.strictEqual(count("acquire"), 1)
      })).pipe(provide)
    }))

  it.effect("withLockIfAvailable never overtakes: None without I/O while somebody waits", () =>
    Effect.gen(function*() {
      const { count, provide, real } = yield* backend(() => ({ awaitTurn: undefined }))
      const other = yield* hold(real, "k", "other")
      yield* Effect.never.pipe(
        Lock.guard("k", { schedule: Schedule.spaced("1 hour") }),
        provide,
        Effect.forkChild(start)
      )
      yield* other.release // free now, but the waiter does not know yet
      const before = count("acquire")
      assert.isTrue(Option.isNone(yield* Effect.scoped(withLockIfAvailable("k")).pipe(provide)))
      assert.strictEqual(count("acquire"), before)
    }))

  it.effect("while others wait, the head tries at least every 2 s, whatever its own schedule says", () =>
    Effect.gen(function*() {
      const { provide, real } = yield* backend(() => ({ awaitTurn: undefined }))
      const other = yield* hold(real, "k", "other")
      const patient = yield* Clock.currentTimeMillis.pipe(
        Lock.guard("k", { schedule: Schedule.spaced("1 hour") }),
        provide,
        Effect.forkChild(start)
      )
      yield* TestClock.adjust("1 minute")
      yield* other.release
      yield* Effect.forkChild(Effect.void.pipe(Lock.guard("k"), provide), start)
      yield* TestClock.adjust("1 millis")
      assert.isAtMost(yield* Fiber.join(patient), 60_001)
    }))

  it.effect("a bounded wait behind a local holder is over on time, and names that holder", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend()
      yield* Effect.scoped(Effect.gen(function*() {
        const lease = yield* withLock("k", { metadata: { host: "web-1" } })
        const fiber = yield* Effect.void.pipe(
          Lock.guard("k", { wait: "5 seconds" }),
          Effect.flip,
          Effect.forkChild(start)
        )
        yield* TestClock.adjust("5 seconds")
        const error = yield* Fiber.join(fiber)
        assert.deepInclude(error, { _tag: "LockContended", reason: "WaitOver" })
        assert.deepInclude(error._tag === "LockContended" ? error.holders[0] : {}, {
          ownerId: lease.ownerId,
          metadata: { host: "web-1" }
        })
      })).pipe(provide)
    }))
})

describe("waiting for oneself", () => {
  const self = { _tag: "LockContended", reason: "Self" } as const

  it.effect("the same fiber and scope", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend()
      const twice = Effect.scoped(Effect.andThen(withLock("k"), withLock("k")))
      assert.deepInclude(yield* Effect.flip(twice).pipe(provide), self)
    }))

  it.effect("inside Lock.guard, lease.guard, Lock.scoped, and in what they fork", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend()
      const again = Effect.void.pipe(Lock.guard("k"))
      assert.deepInclude(yield* again.pipe(Lock.guard("k"), Effect.flip, provide), self)
      const forked = Effect.flatMap(Effect.forkChild(again), Fiber.join)
      assert.deepInclude(yield* forked.pipe(Lock.guard("k"), Effect.flip, provide), self)
      const leased = Effect.scoped(Effect.flatMap(withLock("k"), (lease) => lease.guard(again)))
      assert.deepInclude(yield* leased.pipe(Effect.flip, provide), self)
      const scoped = Lock.scoped(Effect.andThen(withLock("k"), Effect.scoped(withLock("k"))))
      assert.deepInclude(yield* scoped.pipe(Effect.flip, provide), self)
    }))

  it.effect("not for a bounded wait, another key, another backend, or detached work", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend()
      const another = yield* backend()
      yield* Effect.void.pipe(Lock.guard("other"), Lock.guard("k"), provide)
      yield* Effect.void.pipe(Lock.guard("k"), another.provide, Lock.guard("k"), provide)
      const bounded = yield* Effect.void.pipe(
        Lock.guard("k", { wait: "1 second" }),
        Lock.guard("k"),
        Effect.flip,
        provide,
        Effect.forkChild(start)
      )
      yield* TestClock.adjust("1 second")
      assert.deepInclude(yield* Fiber.join(bounded), { _tag: "LockContended", reason: "WaitOver" })
      const log: Array<string> = []
      yield* Effect.sync(() => log.push("detached")).pipe(
        Lock.guard("k"),
        Lock.detached,
        Effect.forkDetach(start),
        Effect.andThen(Effect.sync(() => log.push("first"))),
        Lock.guard("k"),
        provide
      )
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(log, ["first", "detached"])
    }))
})

describe("inspect, list, break", () => {
  it.effect("show the holder and free it by its owner id", () =>
    Effect.gen(function*() {
      const { holder, provide, real } = yield* backend()
      yield* hold(real, "k", "other")
      yield* Effect.gen(function*() {
        assert.deepStrictEqual((yield* Lock.inspect("k")).map((each) => each.ownerId), ["other"])
        assert.strictEqual(yield* Lock.break("k", "somebody", { now: true }), "NotHeld")
        assert.strictEqual(yield* Lock.break("k", "other", { now: true }), "Broken")
        assert.isUndefined(yield* holder("k"))
        assert.deepInclude(yield* Effect.flip(Lock.break("k", "")), { _tag: "InvalidLockRequest", field: "ownerId" })
      }).pipe(provide)
    }))

  it.effect("a backend without them says so", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend(() => ({ break: undefined }))
      const error = yield* Lock.break("k", "x").pipe(Effect.flip, provide)
      assert.instanceOf(error, LockBackendError)
      assert.strictEqual((error as LockBackendError).reason._tag, "Misconfigured")
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Duration, Effect, Exit, Fiber } from "effect"
import { LockBackendError, TimedOut, Unauthorized } from "effect-lock"
import { TestClock } from "effect/testing"
import { bounded, type Call, timedOut } from "../../src/internal/bounded.ts"
import { start, unreachable } from "../backends.ts"
import { countingSleeps, keepers } from "./keepers.ts"

const call: Call = { backend: "test", operation: "renew", key: "k", budget: 1_000 }

/** An answer that comes after `millis`, whatever interrupts it meanwhile. */
const stubborn = <A>(millis: number, value: A) => Effect.uninterruptible(Effect.as(Effect.sleep(millis), value))

const hang = Effect.uninterruptible(Effect.never)

// Detached: a test that fails must not wait for a call that hangs.
const fork = <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.forkDetach(self, start)

const errorOf = <A>(exit: Exit.Exit<A, LockBackendError> | undefined): LockBackendError => {
  assert.isTrue(exit !== undefined && Exit.isFailure(exit), "no failure")
  const error = Cause.findErrorOption((exit as Exit.Failure<A, LockBackendError>).cause)
  assert.strictEqual(error._tag, "Some", "not a typed failure")
  return (error as { readonly value: LockBackendError }).value
}

describe("an answer", () => {
  it.effect("at once is passed on without a timer", () =>
    Effect.gen(function*() {
      const { on, sleeps } = yield* countingSleeps
      assert.strictEqual(yield* on(bounded(keepers, call, Effect.succeed("yes"))), "yes")
      const refused = unreachable("renew")
      assert.strictEqual(yield* on(Effect.flip(bounded(keepers, call, Effect.fail(refused)))), refused)
      assert.strictEqual(sleeps.started, 0)
    }))

  it.effect("later, within the budget, is passed on, and the timer ends", () =>
    Effect.gen(function*() {
      const { on, sleeps } = yield* countingSleeps
      const answer = yield* Deferred.make<string, LockBackendError>()
      const succeeding = yield* fork(on(bounded(keepers, call, Deferred.await(answer))))
      yield* TestClock.adjust(999)
      assert.deepStrictEqual([succeeding.pollUnsafe(), sleeps.pending], [undefined, 1])
      yield* Deferred.succeed(answer, "yes")
      assert.strictEqual(yield* Fiber.join(succeeding), "yes")
      const refused = unreachable("renew")
      const failing = yield* fork(bounded(keepers, call, Effect.delay(Effect.fail(refused), 999)))
      yield* TestClock.adjust(999)
      assert.strictEqual(errorOf(failing.pollUnsafe()), refused)
      assert.strictEqual(sleeps.pending, 0)
    }))

  it.effect("at once is passed on even if there is no budget left", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* bounded(keepers, { ...call, budget: 0 }, Effect.succeed("yes")), "yes")
    }))

  it.effect("is given in the caller's own context", () =>
    Effect.gen(function*() {
      const Name = Context.Reference<string>("test/Name", { defaultValue: () => "default" })
      const asked = bounded(keepers, call, Effect.andThen(Effect.yieldNow, Name)).pipe(
        Effect.provideService(Name, "caller's")
      )
      assert.strictEqual(yield* asked, "caller's")
    }))
})

describe("no answer", () => {
  it.effect("within the budget is TimedOut, at the millisecond, with what was asked", () =>
    Effect.gen(function*() {
      const fiber = yield* fork(bounded(keepers, call, Effect.never))
      yield* TestClock.adjust(999)
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust(1)
      const error = errorOf(fiber.pollUnsafe())
      assert.deepInclude({ ...error }, { backend: "test", operation: "renew", key: "k" })
      assert.isTrue(error.isRetryable)
      assert.instanceOf(error.reason, TimedOut)
      assert.deepStrictEqual((error.reason as TimedOut).after, Duration.seconds(1))
      assert.strictEqual(
        error.message,
        "test: renew of lock \"k\" failed: TimedOut: no answer within 1s; the outcome is unknown"
      )
    }))

  it.effect("from a driver that can't be interrupted is TimedOut just as early", () =>
    Effect.gen(function*() {
      const fiber = yield* fork(bounded(keepers, call, hang))
      yield* TestClock.adjust(1_000)
      assert.strictEqual(errorOf(fiber.pollUnsafe()).reason._tag, "TimedOut")
    }))

  it.effect("from a driver whose clean-up hangs is TimedOut just as early", () =>
    Effect.gen(function*() {
      const fiber = yield* fork(bounded(keepers, call, Effect.ensuring(Effect.never, hang)))
      yield* TestClock.adjust(1_000)
      assert.strictEqual(errorOf(fiber.pollUnsafe()).reason._tag, "TimedOut")
    }))

  it.effect("ends by telling the call to stop", () =>
    Effect.gen(function*() {
      let stopped = 0
      yield* fork(bounded(keepers, call, Effect.onInterrupt(Effect.never, () => Effect.sync(() => stopped++))))
      yield* TestClock.adjust(999)
      assert.strictEqual(stopped, 0)
      yield* TestClock.adjust(1)
      assert.strictEqual(stopped, 1)
    }))

  it.effect("and then a late one changes nothing", () =>
    Effect.gen(function*() {
      let answered = 0
      const late = Effect.andThen(stubborn(5_000, "yes"), () => Effect.sync(() => answered++))
      const fiber = yield* fork(bounded(keepers, call, Effect.uninterruptible(late)))
      yield* TestClock.adjust("1 second")
      const exit = fiber.pollUnsafe()
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(answered, 1)
      assert.strictEqual(fiber.pollUnsafe(), exit)
      assert.strictEqual(errorOf(exit).reason._tag, "TimedOut")
    }))

  it.effect("where there is no budget is TimedOut at once", () =>
    Effect.gen(function*() {
      const fiber = yield* fork(bounded(keepers, { ...call, budget: 0 }, Effect.never))
      yield* TestClock.adjust(0)
      assert.strictEqual(errorOf(fiber.pollUnsafe()).reason._tag, "TimedOut")
    }))

  it("timedOut is the same error, for whoever measured the time himself", () => {
    const error = timedOut({ ...call, budget: 250 })
    assert.deepStrictEqual((error.reason as TimedOut).after, Duration.millis(250))
  })
})

describe("a call that ends in another way", () => {
  const boom = new Error("boom")
  const deaths: ReadonlyArray<readonly [how: string, self: Effect.Effect<never, LockBackendError>]> = [
    ["dies", Effect.die(boom)],
    ["dies later", Effect.delay(Effect.die(boom), 10)],
    [
      "throws",
      Effect.sync(() => {
        throw boom
      })
    ],
    ["rejects", Effect.promise(() => Promise.reject(boom))]
  ]
  for (const [how, self] of deaths) {
    it.effect(`${how}: a Protocol error with its cause, which is not tried again`, () =>
      Effect.gen(function*() {
        const fiber = yield* fork(bounded(keepers, call, self))
        yield* TestClock.adjust(10)
        const error = errorOf(yield* Fiber.await(fiber))
        assert.deepInclude({ ...error }, { backend: "test", operation: "renew", key: "k" })
        assert.deepStrictEqual([error.reason._tag, error.cause, error.isRetryable], ["Protocol", boom, false])
      }))
  }

  it.effect("fails, and its clean-up dies: a defect, because of that failure", () =>
    Effect.gen(function*() {
      const denied = new LockBackendError({
        backend: "test",
        operation: "renew",
        key: "k",
        reason: new Unauthorized({ detail: "NOAUTH" })
      })
      const exit = yield* Effect.exit(bounded(keepers, call, Effect.ensuring(Effect.fail(denied), Effect.die(boom))))
      assert.deepStrictEqual([errorOf(exit).reason._tag, errorOf(exit).cause], ["Protocol", denied])
    }))

  it.effect("interrupts itself: Unreachable, tried again; the caller is not interrupted by it", () =>
    Effect.gen(function*() {
      for (const self of [Effect.interrupt, Effect.andThen(Effect.yieldNow, Effect.interrupt)]) {
        const error = errorOf(yield* Effect.exit(bounded(keepers, call, self)))
        assert.deepStrictEqual([error.reason._tag, error.isRetryable], ["Unreachable", true])
      }
    }))
})

describe("an interrupted caller", () => {
  it.effect("tells the call to stop and waits until it has", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const cleanUp = Effect.andThen(Effect.sleep(200), Effect.sync(() => log.push("cleaned up")))
      const fiber = yield* fork(bounded(keepers, call, Effect.onInterrupt(Effect.never, () => cleanUp)))
      yield* TestClock.adjust(100)
      const interrupting = yield* fork(Effect.andThen(Fiber.interrupt(fiber), Effect.sync(() => log.push("out"))))
      yield* TestClock.adjust(199)
      assert.deepStrictEqual(log, [])
      yield* TestClock.adjust(1)
      yield* Fiber.join(interrupting)
      assert.deepStrictEqual(log, ["cleaned up", "out"])
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
    }))

  it.effect("is out at once if the call stops at once, and leaves no timer", () =>
    Effect.gen(function*() {
      const { on, sleeps } = yield* countingSleeps
      const fiber = yield* fork(on(bounded(keepers, call, Effect.never)))
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust(0)
      assert.strictEqual(sleeps.pending, 0)
    }))

  it.effect("is out when the budget of the call is spent, even if the call never stops", () =>
    Effect.gen(function*() {
      const fiber = yield* fork(bounded(keepers, call, hang))
      yield* TestClock.adjust(600)
      fiber.interruptUnsafe()
      yield* TestClock.adjust(399)
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.isDefined(fiber.pollUnsafe(), "still waiting after the budget")
    }))

  it.effect("is out within another budget at the latest", () =>
    Effect.gen(function*() {
      const fiber = yield* fork(bounded(keepers, call, hang))
      yield* TestClock.adjust(600)
      fiber.interruptUnsafe()
      yield* TestClock.adjust(1_000)
      assert.isTrue(Exit.hasInterrupts(fiber.pollUnsafe() ?? Exit.void))
    }))

  it.effect("in an uninterruptible region does not cut the call short: its answer comes, then the interruption", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const attempt = Effect.tap(
        bounded(keepers, call, stubborn(500, "yes")),
        (answer) => Effect.sync(() => seen.push(answer))
      )
      let stopped = 0
      const gentle = bounded(
        keepers,
        call,
        Effect.onInterrupt(Effect.as(Effect.sleep(500), "yes"), () => Effect.sync(() => stopped++))
      )
      const fiber = yield* fork(Effect.uninterruptible(Effect.andThen(attempt, gentle)))
      yield* TestClock.adjust(100)
      fiber.interruptUnsafe()
      yield* TestClock.adjust(400)
      assert.deepStrictEqual(seen, ["yes"])
      yield* TestClock.adjust(500)
      assert.isDefined(fiber.pollUnsafe())
      assert.strictEqual(stopped, 0)
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { signalWithin } from "../../src/internal/signal.ts"
import { start } from "../backends.ts"
import { countingSleeps, keepers } from "./keepers.ts"

/** Something to wait for, which counts what is registered and how often that is undone. */
const makeSource = () => {
  const source = {
    registered: 0,
    undone: 0,
    signal: undefined as ((value: string) => void) | undefined,
    register: (signal: (value: string) => void) => {
      source.registered++
      source.signal = signal
      return () => {
        source.undone++
      }
    }
  }
  return source
}

// What was scheduled by now, and by that in turn, has run.
const turns = Effect.promise(() => new Promise((resolve) => setImmediate(() => setImmediate(resolve))))

describe("signalWithin", () => {
  it.effect("a signal ends it with its value; the registration is undone once and the timer is gone", () =>
    Effect.gen(function*() {
      const source = makeSource()
      const { on, sleeps } = yield* countingSleeps
      const fiber = yield* Effect.forkChild(on(signalWithin(keepers, 1_000, source.register)), start)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual([source.registered, source.undone, sleeps.pending], [1, 0, 1])
      source.signal!("now")
      assert.strictEqual(yield* Fiber.join(fiber), "now")
      yield* TestClock.adjust(0)
      assert.deepStrictEqual([source.undone, sleeps.pending], [1, 0])
    }))

  it.effect("a signal given while registering ends it at once, without a timer", () =>
    Effect.gen(function*() {
      const source = makeSource()
      const { on, sleeps } = yield* countingSleeps
      const value = yield* on(signalWithin<string>(keepers, 1_000, (signal) => {
        const undo = source.register(signal)
        signal("at once")
        return undo
      }))
      assert.strictEqual(value, "at once")
      assert.deepStrictEqual([source.registered, source.undone, sleeps.started], [1, 1, 0])
    }))

  it.effect("time ends it with undefined, at the millisecond", () =>
    Effect.gen(function*() {
      const source = makeSource()
      const fiber = yield* Effect.forkChild(signalWithin(keepers, 1_000, source.register), start)
      yield* TestClock.adjust(999)
      assert.deepStrictEqual([fiber.pollUnsafe(), source.undone], [undefined, 0])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual([fiber.pollUnsafe(), source.undone], [Exit.succeed(undefined), 1])
    }))

  it.effect("no time at all, or less, is over at once", () =>
    Effect.gen(function*() {
      for (const millis of [0, -5, -Infinity]) {
        const source = makeSource()
        assert.isUndefined(yield* signalWithin(keepers, millis, source.register))
        assert.deepStrictEqual([source.registered, source.undone], [1, 1])
      }
    }))

  it.effect("interruption ends it; the registration is undone once and the timer is gone", () =>
    Effect.gen(function*() {
      const source = makeSource()
      const { on, sleeps } = yield* countingSleeps
      const fiber = yield* Effect.forkChild(on(signalWithin(keepers, 1_000, source.register)), start)
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust(0)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
      assert.deepStrictEqual([source.undone, sleeps.pending], [1, 0])
    }))

  it.effect("for ever waits without a timer, until a signal", () =>
    Effect.gen(function*() {
      const source = makeSource()
      const { on, sleeps } = yield* countingSleeps
      const fiber = yield* Effect.forkChild(on(signalWithin(keepers, Infinity, source.register)), start)
      yield* TestClock.adjust("1000 days")
      assert.deepStrictEqual([fiber.pollUnsafe(), sleeps.started], [undefined, 0])
      source.signal!("at last")
      assert.strictEqual(yield* Fiber.join(fiber), "at last")
      assert.strictEqual(source.undone, 1)
    }))

  it.effect("only the first signal counts, and none after the end", () =>
    Effect.gen(function*() {
      const source = makeSource()
      const first = yield* Effect.forkChild(signalWithin(keepers, 1_000, source.register), start)
      source.signal!("first")
      source.signal!("second")
      assert.strictEqual(yield* Fiber.join(first), "first")
      const late = yield* Effect.forkChild(signalWithin(keepers, 1_000, source.register), start)
      yield* TestClock.adjust("1 second")
      source.signal!("late")
      assert.isUndefined(yield* Fiber.join(late))
      assert.strictEqual(source.undone, 2)
    }))

  it.effect("two endings at the same moment undo it once: signal, time and interruption in any order", () =>
    Effect.gen(function*() {
      const endings = {
        signal: (source: ReturnType<typeof makeSource>) => Effect.sync(() => source.signal!("now")),
        time: () => TestClock.adjust("1 second"),
        interruption: (_: unknown, fiber: Fiber.Fiber<unknown, unknown>) => Effect.sync(() => fiber.interruptUnsafe())
      }
      for (const first of Object.values(endings)) {
        for (const second of Object.values(endings)) {
          const source = makeSource()
          const fiber = yield* Effect.forkChild(signalWithin(keepers, 1_000, source.register), start)
          yield* first(source, fiber)
          yield* second(source, fiber)
          yield* Fiber.await(fiber)
          assert.deepStrictEqual([source.registered, source.undone], [1, 1])
        }
      }
    }))

  it.effect("a wait in an uninterruptible region is not interrupted, and ends by its signal", () =>
    Effect.gen(function*() {
      const source = makeSource()
      const fiber = yield* Effect.forkDetach(
        Effect.uninterruptible(signalWithin(keepers, 1_000, source.register)),
        start
      )
      fiber.interruptUnsafe()
      yield* TestClock.adjust(500)
      assert.deepStrictEqual([fiber.pollUnsafe(), source.undone], [undefined, 0])
      source.signal!("now")
      yield* Fiber.await(fiber)
      assert.strictEqual(source.undone, 1)
    }))

  it.effect("each run registers anew", () =>
    Effect.gen(function*() {
      const source = makeSource()
      const waiting = signalWithin(keepers, 10, source.register)
      for (let run = 1; run <= 3; run++) {
        const fiber = yield* Effect.forkChild(waiting, start)
        yield* TestClock.adjust(10)
        yield* Fiber.join(fiber)
        assert.deepStrictEqual([source.registered, source.undone], [run, run])
      }
    }))

  it.live("many at once have one timer, and leave neither that nor a registration behind", () =>
    Effect.gen(function*() {
      const source = makeSource()
      const { on, sleeps } = yield* countingSleeps
      const fibers = yield* Effect.forEach(
        Array.from({ length: 1_000 }),
        () => Effect.forkChild(on(signalWithin(keepers, 60_000, source.register)), start)
      )
      yield* turns
      assert.strictEqual(sleeps.pending, 1)
      yield* Fiber.interruptAll(fibers)
      assert.deepStrictEqual([source.registered, source.undone], [1_000, 1_000])
      yield* turns
      assert.strictEqual(sleeps.pending, 0)
    }))
})

/** When the next caller of the same process may ask: behind the release, or after its answer. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Lock } from "effect-lock"
import { TestClock } from "effect/testing"
import { backend, type Service, start, unreachable } from "./backends.ts"

const answerAfter = 100

/** The server has a release at once; its answer takes a while. */
const slowAnswers = (ordered: boolean | undefined) => (real: Service): Partial<Service> => ({
  capabilities: { ...real.capabilities, ordered },
  release: (request) =>
    Effect.delay(Effect.succeed("Released" as const), answerAfter).pipe(
      (answer) => Effect.andThen(real.release(request), answer)
    )
})

/** A holder that is done, and one who waits behind it. */
const two = Effect.gen(function*() {
  const first = yield* Effect.sleep("1 second").pipe(Lock.guard("k"), Effect.forkDetach(start))
  const second = yield* Effect.succeed("served").pipe(Lock.guard("k"), Effect.forkDetach(start))
  return [first, second] as const
})

describe("the next in line", () => {
  it.effect("of an ordered backend asks right behind the release", () =>
    Effect.gen(function*() {
      const { provide, sent } = yield* backend(slowAnswers(true))
      const [first, second] = yield* provide(two)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(
        sent.map(({ at, verb }) => [verb, at]),
        [["acquire", 0], ["release", 1000], ["acquire", 1000], ["release", 1000]]
      )
      // Whoever gives back still waits for its own answer.
      assert.isUndefined(first.pollUnsafe())
      yield* TestClock.adjust(answerAfter)
      assert.strictEqual(yield* Fiber.join(second), "served")
      yield* Fiber.join(first)
    }))

  for (const ordered of [false, undefined]) {
    it.effect(`of a backend with ordered ${ordered} asks after its answer`, () =>
      Effect.gen(function*() {
        const { provide, sent } = yield* backend(slowAnswers(ordered))
        const [, second] = yield* provide(two)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(sent.map(({ verb }) => verb), ["acquire", "release"])
        yield* TestClock.adjust(2 * answerAfter)
        assert.strictEqual(yield* Fiber.join(second), "served")
      }))
  }

  it.effect("is refused, and waits, where a release that came first was lost", () =>
    Effect.gen(function*() {
      let lost = 0
      const { count, holder, provide } = yield* backend((real) => ({
        capabilities: { ...real.capabilities, ordered: true },
        release: (request) => ++lost <= 2 ? Effect.fail(unreachable("release")) : real.release(request)
      }))
      const [first, second] = yield* provide(two)
      yield* TestClock.adjust("1 second")
      assert.isAtLeast(count("acquire"), 2)
      assert.isUndefined(second.pollUnsafe())
      assert.isDefined(yield* holder("k"))
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(first)
      assert.strictEqual(yield* Fiber.join(second), "served")
      assert.isUndefined(yield* holder("k"))
    }))

  it.effect("who will not wait is told of the holder that is giving back, not of an outage", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend((real) => ({
        capabilities: { ...real.capabilities, ordered: true },
        release: () => Effect.delay(Effect.fail(unreachable("release")), answerAfter)
      }))
      yield* provide(Effect.sleep("1 second").pipe(Lock.guard("k"), Effect.forkDetach(start)))
      yield* TestClock.adjust(1050)
      const error = yield* provide(Effect.flip(Lock.guard(Effect.void, "k", { wait: 0 })))
      assert.deepInclude({ ...error }, { _tag: "LockContended", reason: "WaitOver" })
      // The release is given up.
      yield* TestClock.adjust("1 minute")
    }))
})

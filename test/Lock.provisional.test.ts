/** What a backend gave without being asked just now: how long it is trusted, and how it becomes whole. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Schedule } from "effect"
import { type Lease, Lock, type LockOptions, withLock } from "effect-lock"
import { TestClock } from "effect/testing"
import type { AcquireRequest } from "../src/LockBackend.ts"
import { backend, hold, type Service, start, unreachable } from "./backends.ts"

const window = 2000
const margin = window / 20
const ttl = 30_000

/** Whoever was refused, asks again and is content with it, is given the lock for the window. */
const giving = (asked: Array<AcquireRequest>, verbs: Partial<Service> = {}) => (real: Service): Partial<Service> => ({
  tryAcquire: (request) => {
    asked.push(request)
    if (request.provisional !== true) return real.tryAcquire(request)
    return Effect.map(
      real.tryAcquire({ ...request, ttl: Duration.millis(window) }),
      (reply) => reply._tag === "Held" ? reply : { ...reply, provisional: true }
    )
  },
  ...verbs
})

/** A caller that is refused at 0, and is woken after `millis` because the lock is its own by then. */
const givenAfter = <A, E>(
  millis: number,
  use: (lease: Lease) => Effect.Effect<A, E>,
  options: LockOptions = {},
  verbs: Partial<Service> = {}
) =>
  Effect.gen(function*() {
    const asked: Array<AcquireRequest> = []
    const { provide, real, sent } = yield* backend(giving(asked, verbs))
    const other = yield* hold(real, "k", "other")
    const fiber = yield* withLock("k", { ttl, schedule: Schedule.spaced("1 hour"), ...options }).pipe(
      Effect.flatMap(use),
      Effect.scoped,
      provide,
      Effect.forkDetach(start)
    )
    yield* TestClock.adjust(millis)
    yield* other.release
    yield* TestClock.adjust(0)
    return { asked: () => asked.map(({ provisional }) => provisional), fiber, sent }
  })

const remaining = (lease: Lease) => Effect.map(lease.remaining, Duration.toMillis)

describe("a provisional grant", () => {
  it.effect("is asked for only after a refusal", () =>
    Effect.gen(function*() {
      const requests: Array<AcquireRequest> = []
      const { provide } = yield* backend(giving(requests))
      yield* provide(Lock.guard(Effect.void, "k"))
      assert.deepStrictEqual(requests.map(({ provisional }) => provisional), [false])
      const { asked, fiber } = yield* givenAfter(500, () => Effect.void)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(asked(), [false, true])
    }))

  it.effect("is trusted from before the try that was refused", () =>
    Effect.gen(function*() {
      const { fiber } = yield* givenAfter(500, remaining)
      assert.strictEqual(yield* Fiber.join(fiber), window - margin - 500)
    }))

  it.effect("is renewed soon, and is whole then", () =>
    Effect.gen(function*() {
      const { fiber, sent } = yield* givenAfter(500, (lease) =>
        Effect.andThen(Effect.sleep("1 second"), remaining(lease)))
      const soon = Math.ceil((window - margin - 500) / 8)
      yield* TestClock.adjust(soon)
      assert.deepStrictEqual(
        sent.filter(({ verb }) =>
          verb === "renew"
        ).map(({ at }) => at),
        [500 + soon]
      )
      yield* TestClock.adjust(1000 - soon)
      assert.approximately(yield* Fiber.join(fiber), ttl * 0.95 - (1000 - soon), 1)
    }))

  it.effect("of a short hold takes no renewal", () =>
    Effect.gen(function*() {
      const { fiber, sent } = yield* givenAfter(500, () => Effect.sleep("100 millis"))
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(sent.map(({ verb }) => verb), ["acquire", "acquire", "release"])
    }))

  it.effect("that comes when half of its time is over is not used: the backend is asked for a whole one", () =>
    Effect.gen(function*() {
      const { asked, fiber } = yield* givenAfter(window / 2, remaining)
      assert.strictEqual(yield* Fiber.join(fiber), ttl * 0.95)
      assert.deepStrictEqual(asked(), [false, true, false])
    }))

  it.effect("is no use to whoever does not renew", () =>
    Effect.gen(function*() {
      const { asked, fiber } = yield* givenAfter(500, remaining, { renewEvery: false })
      assert.strictEqual(yield* Fiber.join(fiber), ttl * 0.95)
      assert.deepStrictEqual(asked(), [false, false])
    }))

  it.effect("that can't be renewed is lost when its own time is over", () =>
    Effect.gen(function*() {
      const { fiber } = yield* givenAfter(500, (lease) => lease.guard(Effect.never), {}, {
        renew: () => Effect.fail(unreachable("renew"))
      })
      yield* TestClock.adjust(window - margin - 500 - 1)
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust(1)
      const lost = yield* Effect.flip(Fiber.join(fiber))
      assert(lost._tag === "LockLost")
      assert.strictEqual(lost.reason, "Expired")
    }))

  it.effect("is renewed for whoever needs more than its time", () =>
    Effect.gen(function*() {
      const { fiber, sent } = yield* givenAfter(500, (lease) =>
        Effect.andThen(lease.ensure("20 seconds"), remaining(lease)))
      assert.strictEqual(yield* Fiber.join(fiber), ttl * 0.95)
      assert.deepStrictEqual(sent.map(({ at, verb }) => [verb, at]), [
        ["acquire", 0],
        ["acquire", 500],
        ["renew", 500],
        ["release", 500]
      ])
    }))

  it.effect("is renewed although the hold may be no longer than that", () =>
    Effect.gen(function*() {
      const { fiber, sent } = yield* givenAfter(500, () => Effect.sleep("5 seconds"), { maxHold: "10 millis" })
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(sent.map(({ verb }) => verb), ["acquire", "acquire", "renew", "release"])
    }))
})

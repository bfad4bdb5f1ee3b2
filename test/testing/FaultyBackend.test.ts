import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Option } from "effect"
import { LockBackend, withLock } from "effect-lock"
import * as Memory from "effect-lock/layers/Memory"
import { BackendLaws, FaultyBackend } from "effect-lock/testing"
import { testLaws, virtualTime } from "effect-lock/testing/vitest"
import { TestClock } from "effect/testing"

const key = "key"
const ownerId = "owner"
const ttl = Duration.seconds(30)
const budget = Duration.seconds(5)
const acquireRequest = { key, ownerId, ttl, metadata: {}, willWait: false, budget }

const faultyMemory = Effect.gen(function*() {
  const inner = yield* Memory.make()
  const faulty = yield* FaultyBackend.make(inner)
  const holder = Effect.map(inner.inspect({ key, budget }), (holders) => holders[0]?.ownerId)
  return { ...faulty, inner, holder }
})

const start = <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.forkChild(self, { startImmediately: true })

const outcome = (fiber: Fiber.Fiber<unknown, unknown>): string => {
  const exit = fiber.pollUnsafe()
  if (exit === undefined) return "pending"
  if (Exit.isSuccess(exit)) return "success"
  const error = Option.getOrUndefined(Exit.findErrorOption(exit))
  return error === undefined
    ? "interrupted"
    : String((error as { readonly reason: { readonly _tag: string } }).reason._tag)
}

await testLaws(
  "FaultyBackend without faults keeps the laws of the backend behind it",
  Effect.gen(function*() {
    const store = yield* Memory.makeStore()
    const make = (namespace?: string) =>
      Effect.map(Effect.flatMap(Memory.make({ store, namespace }), FaultyBackend.make), ({ service }) => service)
    return BackendLaws.LawEnvironment.make({
      ...virtualTime,
      first: yield* make(),
      second: yield* make(),
      withNamespace: make,
      acquisitions: 100
    })
  }),
  { clock: "virtual" }
)

describe("FaultyBackend", () => {
  it.effect("LostReply: the effect happens and the caller hangs", () =>
    Effect.gen(function*() {
      const { service, inject, holder } = yield* faultyMemory
      yield* inject({ _tag: "LostReply" }, { operation: "acquire" })
      const call = yield* start(service.tryAcquire(acquireRequest))
      assert.strictEqual(yield* holder, ownerId)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(outcome(call), "pending")
      yield* Fiber.interrupt(call)
      assert.strictEqual(outcome(call), "interrupted")
    }))

  it.effect("LostReply with reset: the effect happens and the caller is told Unreachable", () =>
    Effect.gen(function*() {
      const { service, inject, holder } = yield* faultyMemory
      yield* inject({ _tag: "LostReply", as: "reset" }, { operation: "acquire" })
      const error = yield* Effect.flip(service.tryAcquire(acquireRequest))
      assert.strictEqual(error.reason._tag, "Unreachable")
      assert.isTrue(error.isRetryable)
      assert.strictEqual(error.key, key)
      assert.strictEqual(yield* holder, ownerId)
    }))

  it.effect("LostRequest: nothing happens; the caller hangs, or is told Unreachable", () =>
    Effect.gen(function*() {
      const { service, inject, holder } = yield* faultyMemory
      yield* inject({ _tag: "LostRequest" }, { times: 1 })
      yield* inject({ _tag: "LostRequest", as: "reset" }, { times: 1 })
      const hung = yield* start(service.tryAcquire(acquireRequest))
      const reset = yield* start(service.tryAcquire(acquireRequest))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(outcome(hung), "pending")
      assert.strictEqual(outcome(reset), "Unreachable")
      assert.isUndefined(yield* holder)
    }))

  it.effect("Delay: the effect happens later, and the reply comes then", () =>
    Effect.gen(function*() {
      const { service, inject, holder } = yield* faultyMemory
      yield* inject({ _tag: "Delay", by: "3 seconds" }, { operation: "acquire" })
      const call = yield* start(service.tryAcquire(acquireRequest))
      yield* TestClock.adjust("2999 millis")
      assert.isUndefined(yield* holder)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* holder, ownerId)
      assert.strictEqual(outcome(call), "success")
    }))

  it.effect("Delay: the effect happens also if the caller has given up", () =>
    Effect.gen(function*() {
      const { service, inject, holder } = yield* faultyMemory
      yield* inject({ _tag: "Delay", by: "3 seconds" }, { operation: "acquire" })
      const call = yield* start(service.tryAcquire(acquireRequest))
      yield* Fiber.interrupt(call)
      assert.isUndefined(yield* holder)
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(yield* holder, ownerId)
    }))

  it.effect("Duplicate: the effect happens again, after the reply", () =>
    Effect.gen(function*() {
      const { service, inject, inner, holder } = yield* faultyMemory
      yield* inject({ _tag: "Duplicate", after: "3 seconds" }, { operation: "acquire" })
      assert.strictEqual((yield* service.tryAcquire(acquireRequest))._tag, "Acquired")
      assert.strictEqual(yield* inner.break!({ key, ownerId, now: true, budget }), "Broken")
      yield* TestClock.adjust("2999 millis")
      assert.isUndefined(yield* holder)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* holder, ownerId)
    }))

  it.effect("Outage: Unreachable, after the latency, and nothing happens", () =>
    Effect.gen(function*() {
      const { service, inject, holder } = yield* faultyMemory
      yield* inject({ _tag: "Outage", latency: "1 second" })
      const call = yield* start(service.tryAcquire(acquireRequest))
      yield* TestClock.adjust("999 millis")
      assert.strictEqual(outcome(call), "pending")
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(outcome(call), "Unreachable")
      assert.isUndefined(yield* holder)
    }))

  it.effect("Hang: ends by interruption", () =>
    Effect.gen(function*() {
      const { service, inject } = yield* faultyMemory
      yield* inject({ _tag: "Hang" }, { operation: "inspect" })
      const call = yield* start(service.inspect({ key, budget }))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(outcome(call), "pending")
      yield* Fiber.interrupt(call)
      assert.strictEqual(outcome(call), "interrupted")
    }))

  it.effect("HangUninterruptible: ignores interruption until it is healed", () =>
    Effect.gen(function*() {
      const { service, inject, heal, holder } = yield* faultyMemory
      yield* inject({ _tag: "HangUninterruptible" })
      const call = yield* start(service.tryAcquire(acquireRequest))
      call.interruptUnsafe()
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(outcome(call), "pending")
      yield* heal
      yield* TestClock.adjust(0)
      assert.notStrictEqual(outcome(call), "pending")
      assert.isUndefined(yield* holder)
    }))

  it.effect("HangUninterruptible: ends with the scope", () =>
    Effect.gen(function*() {
      const call = yield* Effect.scoped(Effect.gen(function*() {
        const { service, inject } = yield* faultyMemory
        yield* inject({ _tag: "HangUninterruptible" })
        return yield* Effect.forkDetach(service.tryAcquire(acquireRequest), { startImmediately: true })
      }))
      yield* TestClock.adjust(0)
      assert.strictEqual(outcome(call), "Unreachable")
    }))

  it.effect("a fault meets the calls it is aimed at, as often as it says; the first injected wins", () =>
    Effect.gen(function*() {
      const { service, inject } = yield* faultyMemory
      yield* inject({ _tag: "Outage" }, {
        operation: ["acquire", "inspect"],
        times: 2,
        when: ({ request }) => request.key === "other"
      })
      yield* inject({ _tag: "Hang" }, { operation: "inspect", when: ({ request }) => request.key === "other" })
      const inspect = (key: string) => Effect.map(start(service.inspect({ key, budget })), outcome)
      assert.strictEqual(yield* inspect(key), "success")
      assert.strictEqual(yield* inspect("other"), "Unreachable")
      assert.strictEqual(yield* inspect("other"), "Unreachable")
      assert.strictEqual(yield* inspect("other"), "pending")
      assert.strictEqual(yield* inspect(key), "success")
    }))

  it.effect("heal ends all faults, but not what they delayed", () =>
    Effect.gen(function*() {
      const { service, inject, heal, holder } = yield* faultyMemory
      yield* inject({ _tag: "Delay", by: "1 second" }, { operation: "acquire", times: 1 })
      yield* inject({ _tag: "Outage" })
      yield* start(service.tryAcquire(acquireRequest))
      yield* heal
      assert.deepStrictEqual(yield* service.inspect({ key, budget }), [])
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* holder, ownerId)
    }))

  it.effect("calls tells what was asked, when, under which fault, and how it ended", () =>
    Effect.gen(function*() {
      const { service, inject, calls } = yield* faultyMemory
      yield* start(service.inspect({ key, budget }))
      const from = (yield* calls)[0]!.at
      yield* inject({ _tag: "Outage", latency: "1 second" }, { operation: "release" })
      yield* inject({ _tag: "Hang" }, { operation: "acquire" })
      yield* TestClock.adjust("1 second")
      const hung = yield* start(service.tryAcquire(acquireRequest))
      yield* start(service.release({ key, ownerId, handle: Option.none(), unanswered: true, budget }))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(hung)
      yield* start(service.renew({ key, ownerId, handle: "1", ttl, budget }))
      yield* inject({ _tag: "Hang" })
      yield* start(service.inspect({ key, budget }))
      assert.deepStrictEqual(
        (yield* calls).map(({ operation, at, fault, ended }) => [
          operation,
          at - from,
          fault?._tag,
          ended?.outcome,
          ended && ended.at - from
        ]),
        [
          ["inspect", 0, undefined, "success", 0],
          ["acquire", 1000, "Hang", "interrupted", 2000],
          ["release", 1000, "Outage", "failure", 2000],
          ["renew", 2000, undefined, "success", 2000],
          ["inspect", 2000, "Hang", undefined, undefined]
        ]
      )
    }))

  it.effect("layer gives the backend and its controls", () =>
    Effect.gen(function*() {
      const faulty = yield* FaultyBackend.FaultyBackend
      assert.strictEqual(yield* LockBackend, faulty.service)
      yield* faulty.inject({ _tag: "LostReply", as: "reset" }, { operation: "acquire", times: 1 })
      const waiting = yield* start(Effect.scoped(Effect.asVoid(withLock(key))))
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(waiting)
      const operations = (yield* faulty.calls).map(({ operation }) => operation)
      assert.deepStrictEqual(operations, ["acquire", "acquire", "release"])
    }).pipe(Effect.provide(FaultyBackend.layer(Memory.layer()))))
})

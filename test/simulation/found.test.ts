/**
 * What the simulation has found, each as a test of its own.
 */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Logger, Scope } from "effect"
import { Lock, LockBackend, withLock } from "effect-lock"
import * as MemoryLock from "effect-lock/layers/Memory"
import { FaultyBackend } from "effect-lock/testing"
import { TestClock } from "effect/testing"

const faulty = FaultyBackend.layer(MemoryLock.layer())

describe("found by simulation", () => {
  // The lease of `Lock.scoped` is acquired in a fiber that has ended, and has forgotten its clock and its loggers, when
  // the scope gives the lease back.
  it.effect("a release that fails after the acquiring fiber has ended is tried again", () =>
    Effect.gen(function*() {
      const network = yield* FaultyBackend.FaultyBackend
      yield* network.inject({ _tag: "Outage" }, { operation: "release", times: 1 })
      const fiber = yield* Effect.forkChild(Lock.scoped(withLock("lock")), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assert.isDefined(fiber.pollUnsafe())
      const calls = yield* network.calls
      assert.deepStrictEqual(calls.map(({ operation }) => operation), ["acquire", "release", "release"])
    }).pipe(Effect.provide(faulty)))

  it.effect("a release that fails for good after the acquiring fiber has ended is logged where that fiber logged", () => {
    const logged: Array<unknown> = []
    const logger = Logger.make(({ message }) => {
      logged.push(message)
    })
    return Effect.gen(function*() {
      const network = yield* FaultyBackend.FaultyBackend
      yield* network.inject({ _tag: "Outage" }, { operation: "release" })
      const fiber = yield* Effect.forkChild(Lock.scoped(withLock("lock")), { startImmediately: true })
      yield* TestClock.adjust("1 minute")
      assert.isDefined(fiber.pollUnsafe())
      assert.include(JSON.stringify(logged), "could not release lock")
    }).pipe(Effect.provide(Layer.merge(faulty, Logger.layer([logger]))))
  })

  // Its answer comes when everything else has been given back already.
  it.effect("a grant that is under way when the layer closes is given back before the driver is", () =>
    Effect.gen(function*() {
      const { backend, network, scope } = yield* opened
      yield* network.inject({ _tag: "Delay", by: "100 millis" }, { operation: "acquire", times: 1 })
      const caller = yield* Effect.forkChild(Effect.exit(Lock.guard(Effect.never, "lock").pipe(on(backend))), {
        startImmediately: true
      })
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assert.isDefined(closing.pollUnsafe())
      assert.isDefined(caller.pollUnsafe())
      const calls = yield* network.calls
      assert.deepStrictEqual(calls.map(({ operation }) => operation), ["acquire", "release"])
    }))

  it.effect("a layer that closes does not wait for callers who were told and are gone", () =>
    Effect.gen(function*() {
      const { backend, network, scope } = yield* opened
      yield* Effect.forkChild(Effect.exit(Lock.guard(Effect.never, "lock").pipe(on(backend))), {
        startImmediately: true
      })
      const waiting = yield* Effect.forkChild(Effect.exit(Lock.guard(Effect.void, "lock").pipe(on(backend))), {
        startImmediately: true
      })
      yield* network.inject({ _tag: "Delay", by: "100 millis" }, { operation: "release", times: 1 })
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assert.isDefined(waiting.pollUnsafe())
      assert.isDefined(closing.pollUnsafe())
    }))
})

const on = (backend: LockBackend["Service"]) => Effect.provideService(LockBackend, backend)

/** A backend in a scope that the test closes. */
const opened = Effect.gen(function*() {
  const scope = yield* Scope.make()
  const context = yield* Layer.buildWithScope(faulty, scope)
  const network = Context.get(context, FaultyBackend.FaultyBackend)
  return { scope, network, backend: Context.get(context, LockBackend) }
})

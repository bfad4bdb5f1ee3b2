/**
 * What the simulation has found, each as a test of its own.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger } from "effect"
import { Lock, withLock } from "effect-lock"
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
})

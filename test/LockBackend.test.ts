import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Fiber, Layer, Option, Scope, Stream } from "effect"
import { Lock, LockBackend, LockBackendError, withLock, withLockIfAvailable } from "effect-lock"
import * as Memory from "effect-lock/layers/Memory"
import { TestClock } from "effect/testing"
import { Instance } from "../src/internal/instance.ts"
import { backend, type Service, start } from "./backends.ts"

const misconfigured = (error: { readonly _tag: string }): string => {
  assert.instanceOf(error, LockBackendError)
  assert.strictEqual(error.reason._tag, "Misconfigured")
  assert.isFalse(error.isRetryable)
  return error.message
}

type Failing = Effect.Effect<unknown, { readonly _tag: string }, LockBackend | Scope.Scope>

/** Every public function that asks the backend. */
const everyCall: ReadonlyArray<readonly [name: string, call: Failing]> = [
  ["withLock", withLock("k")],
  ["withLockIfAvailable", withLockIfAvailable("k")],
  ["Lock.guard", Effect.void.pipe(Lock.guard("k"))],
  ["Lock.guardIfAvailable", Effect.void.pipe(Lock.guardIfAvailable("k"))],
  ["Lock.inspect", Lock.inspect("k")],
  ["Lock.list", Stream.runDrain(Lock.list())],
  ["Lock.break", Lock.break("k", "owner", { now: true })]
]

const instanceOf = (service: Service): Instance => {
  const instance = Instance.of(service, "acquire")
  if (instance instanceof Instance) return instance
  throw instance
}

describe("LockBackend.make", () => {
  it.effect("keeps what the author wrote, as it is", () =>
    Effect.gen(function*() {
      const { slot: _, ...implementation } = yield* Memory.make()
      const { slot, ...service } = yield* LockBackend.make(implementation)
      assert.deepStrictEqual(Object.keys(service), Object.keys(implementation))
      for (const [name, part] of Object.entries(implementation)) {
        assert.strictEqual(service[name as keyof typeof service], part)
      }
      assert.strictEqual(slot.service?.name, "memory")
    }))

  it.effect("asks the backend nothing, and starts nothing that the scope would wait for", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { sent, service } = yield* backend().pipe(Scope.provide(scope))
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(sent, [])
      assert.isUndefined(service.slot.state)
      assert.isTrue(service.slot.closed)
    }))

  it.effect("gives each service a life of its own: leases, queues and closing of one are not the other's", () =>
    Effect.gen(function*() {
      const store = yield* Memory.makeStore()
      const scope = yield* Scope.make()
      const first = yield* Memory.make({ store }).pipe(Scope.provide(scope))
      const second = yield* Memory.make({ store })
      const lease = yield* withLock("b").pipe(Effect.provideService(LockBackend, second))
      yield* withLock("a").pipe(Effect.provideService(LockBackend, first))
      assert.notStrictEqual(instanceOf(first), instanceOf(second))
      assert.deepStrictEqual([...instanceOf(second).queues.keys()], ["b"])
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* lease.state, "Held")
      assert.isTrue(Option.isSome(yield* withLockIfAvailable("a").pipe(Effect.provideService(LockBackend, second))))
    }))

  it.effect("the same service has one instance, however often it is provided", () =>
    Effect.gen(function*() {
      const { provide, service } = yield* backend()
      yield* withLock("a").pipe(provide)
      yield* withLock("b").pipe(Effect.provide(Layer.succeed(LockBackend, service)))
      assert.deepStrictEqual([...instanceOf(service).queues.keys()], ["a", "b"])
    }))
})

describe("a copy of a service made by spreading", () => {
  for (const [name, call] of everyCall) {
    it.effect(`is refused by ${name}, which says how to mend it, and nothing is sent`, () =>
      Effect.gen(function*() {
        const { sent, service } = yield* backend()
        const copy: Service = { ...service }
        const message = misconfigured(yield* Effect.flip(call).pipe(Effect.provideService(LockBackend, copy)))
        assert.include(message, "is a copy of another; make it with LockBackend.make")
        assert.deepStrictEqual(sent, [])
      }))
  }

  it.effect("is refused also after the original was used, and the original works on", () =>
    Effect.gen(function*() {
      const { provide, service } = yield* backend()
      yield* Effect.void.pipe(Lock.guard("k"), provide)
      const copied = withLock("k").pipe(Effect.provideService(LockBackend, { ...service, name: "copy" }))
      assert.match(misconfigured(yield* Effect.flip(copied)), /^copy: /)
      yield* Effect.void.pipe(Lock.guard("k"), provide)
    }))

  it.effect("made by LockBackend.make again is a backend of its own", () =>
    Effect.gen(function*() {
      const { real, service } = yield* backend()
      const renamed = yield* LockBackend.make({ ...service, name: "renamed" })
      yield* Effect.gen(function*() {
        const lease = yield* withLock("k")
        const [holder] = yield* real.inspect({ key: "k", budget: Duration.seconds(1) })
        assert.strictEqual(holder?.ownerId, lease.ownerId)
      }).pipe(Effect.provideService(LockBackend, renamed))
    }))
})

describe("a backend whose layer is closed", () => {
  for (const used of [true, false]) {
    for (const [name, call] of everyCall) {
      it.effect(`${used ? "after use" : "never used"}: ${name} fails Misconfigured, and nothing is sent`, () =>
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          const { provide, sent } = yield* backend().pipe(Scope.provide(scope))
          if (used) yield* Effect.void.pipe(Lock.guard("k"), provide)
          yield* Scope.close(scope, Exit.void)
          const before = sent.length
          const message = misconfigured(yield* provide(Effect.flip(call)))
          assert.include(
            message,
            "the layer of this backend is closed; provide it around everything that uses its locks"
          )
          assert.strictEqual(sent.length, before)
        }))
    }
  }

  it.effect("names the operation that was asked for", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { provide } = yield* backend().pipe(Scope.provide(scope))
      yield* Scope.close(scope, Exit.void)
      const operations: Array<string> = []
      for (const [, call] of everyCall) {
        const error = yield* provide(Effect.flip(call))
        operations.push(error instanceof LockBackendError ? error.operation : error._tag)
      }
      assert.deepStrictEqual(operations, ["acquire", "acquire", "acquire", "acquire", "inspect", "list", "break"])
    }))

  it.effect("provided below the scope: the lease that outlives it is released cleanly and is LockLost(BackendClosed)", () =>
    Effect.gen(function*() {
      const store = yield* Memory.makeStore()
      const lease = yield* withLock("k").pipe(Effect.provide(Memory.layer({ store })))
      const lost = yield* Effect.flip(lease.check)
      assert.deepStrictEqual([lost.reason, lost.key, lost.ownerId], ["BackendClosed", "k", lease.ownerId])
      const next = yield* Memory.make({ store })
      assert.deepStrictEqual(yield* next.inspect({ key: "k", budget: Duration.seconds(1) }), [])
    }))

  it.effect("closing waits for the releases, which the driver still answers", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      let driver: "open" | "closed" = "open"
      yield* Scope.addFinalizer(scope, Effect.sync(() => driver = "closed"))
      const seen: Array<string> = []
      const { provide } = yield* backend((real) => ({
        release: (request) =>
          Effect.andThen(Effect.sleep("1 second"), () => {
            seen.push(driver)
            return real.release(request)
          })
      })).pipe(Scope.provide(scope))
      yield* withLock("a").pipe(provide)
      yield* withLock("b").pipe(provide)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), start)
      yield* TestClock.adjust("999 millis")
      assert.deepStrictEqual([driver, seen, closing.pollUnsafe()], ["open", [], undefined])
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
      assert.deepStrictEqual([driver, seen], ["closed", ["open", "open"]])
    }))
})

describe("the service", () => {
  it.effect("is provided as any other: by a layer, or under a tag of one's own", () =>
    Effect.gen(function*() {
      class Invoices extends Context.Service<Invoices, LockBackend["Service"]>()("test/Invoices") {}
      const invoices = Lock.on(Invoices)
      const both = Layer.mergeAll(Memory.layer(), Layer.effect(Invoices, Memory.make()))
      const free = yield* Effect.gen(function*() {
        const first = yield* withLockIfAvailable("k")
        const second = yield* invoices.withLockIfAvailable("k")
        const third = yield* invoices.withLockIfAvailable("k")
        return [first, second, third].map(Option.isSome)
      }).pipe(Effect.scoped, Effect.provide(both))
      assert.deepStrictEqual(free, [true, true, false])
    }))
})

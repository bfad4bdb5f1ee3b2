import { assert, describe, it } from "@effect/vitest"
import { Clock, Config, ConfigProvider, Duration, Effect, Fiber, Layer, Option } from "effect"
import { LockBackend } from "effect-lock"
import * as Memory from "effect-lock/layers/Memory"
import { BackendLaws } from "effect-lock/testing"
import { testLaws, virtualTime } from "effect-lock/testing/vitest"
import { TestClock } from "effect/testing"

type Service = LockBackend["Service"]

const ttl = Duration.seconds(30)
const budget = Duration.seconds(5)

const tryAcquire = (backend: Service, key: string, ownerId: string) =>
  backend.tryAcquire({ key, ownerId, ttl, metadata: {}, willWait: true, budget })

const release = (backend: Service, key: string, ownerId: string, handle = Option.none<string>()) =>
  backend.release({ key, ownerId, handle, unanswered: Option.isNone(handle), budget })

const grant = (backend: Service, key: string, ownerId: string) =>
  Effect.map(tryAcquire(backend, key, ownerId), (reply) => {
    assert(reply._tag === "Acquired", `${key} is held`)
    return reply
  })

const isGranted = (backend: Service, key: string, ownerId: string) =>
  Effect.map(tryAcquire(backend, key, ownerId), (reply) => reply._tag === "Acquired")

const waitFor = (backend: Service, key: string, ownerId: string) =>
  Effect.gen(function*() {
    assert.strictEqual((yield* tryAcquire(backend, key, ownerId))._tag, "Held")
    assert(backend.awaitTurn !== undefined)
    return yield* Effect.forkChild(backend.awaitTurn({ key, ownerId }), { startImmediately: true })
  })

const ended = (fibers: ReadonlyArray<Fiber.Fiber<unknown, unknown>>) =>
  fibers.map((fiber) => fiber.pollUnsafe() !== undefined)

// How much of everything a store keeps.
const sizes = (store: Memory.Store) => {
  const spaces = [...store.spaces.values()]
  return {
    grants: spaces.reduce((sum, { grants }) => sum + grants.size, 0),
    waiters: spaces.reduce((sum, { lines }) => sum + lines.size, 0),
    tombstones: store.dead.answered.size + store.dead.unanswered.size
  }
}

const twoInstances = Effect.gen(function*() {
  const store = yield* Memory.makeStore()
  return {
    store,
    first: yield* Memory.make({ store }),
    second: yield* Memory.make({ store })
  }
})

await testLaws(
  "Memory keeps the laws",
  Effect.map(twoInstances, ({ store, first, second }) =>
    BackendLaws.LawEnvironment.make({
      ...virtualTime,
      first,
      second,
      withNamespace: (namespace) => Memory.make({ store, namespace })
    })),
  { clock: "virtual" }
)

describe("Memory", () => {
  describe("keeps nothing for ever", () => {
    it.effect("100,000 grants of one key leave the last 1,024 owner ids and nothing else", () =>
      Effect.gen(function*() {
        const { store, first } = yield* twoInstances
        for (let round = 0; round < 100_000; round++) {
          const { handle } = yield* grant(first, "key", `owner-${round}`)
          yield* release(first, "key", `owner-${round}`, Option.some(handle))
        }
        assert.deepStrictEqual(sizes(store), { grants: 0, waiters: 0, tombstones: 1024 })
      }))

    it.effect("100,000 keys that were held once leave no entry", () =>
      Effect.gen(function*() {
        const { store, first } = yield* twoInstances
        for (let index = 0; index < 100_000; index++) {
          const { handle } = yield* grant(first, `key-${index}`, `owner-${index}`)
          yield* release(first, `key-${index}`, `owner-${index}`, Option.some(handle))
        }
        assert.strictEqual(sizes(store).grants, 0)
      }))

    it.effect("leases that expired unreleased are dropped as others are granted", () =>
      Effect.gen(function*() {
        const { store, first } = yield* twoInstances
        for (let round = 0; round < 20; round++) {
          for (let index = 0; index < 1000; index++) yield* grant(first, `${round}-${index}`, `${round}-${index}`)
          yield* TestClock.adjust(ttl)
        }
        assert.isAtMost(sizes(store).grants, 2048)
      }))

    it.effect("an owner id of unknown outcome is dead for a minute, then forgotten", () =>
      Effect.gen(function*() {
        const { store, first } = yield* twoInstances
        for (let index = 0; index < 2000; index++) yield* release(first, "key", `owner-${index}`)
        assert.strictEqual(sizes(store).tombstones, 2000)
        yield* TestClock.adjust("59 seconds")
        assert.isFalse(yield* isGranted(first, "key", "owner-0"))
        assert.isFalse(yield* isGranted(first, "key", "owner-1999"))
        yield* TestClock.adjust("1 second")
        assert.isTrue(yield* isGranted(first, "key", "another"))
        assert.strictEqual(sizes(store).tombstones, 0)
      }))

    it.effect("waiters that are interrupted leave the line", () =>
      Effect.gen(function*() {
        const { store, first, second } = yield* twoInstances
        yield* grant(first, "key", "holder")
        const waiters = yield* Effect.forEach(["a", "b", "c"], (ownerId) => waitFor(second, "key", ownerId))
        assert.strictEqual(sizes(store).waiters, 1)
        yield* Fiber.interruptAll(waiters)
        assert.strictEqual(sizes(store).waiters, 0)
      }))
  })

  describe("wakes waiters", () => {
    it.effect("one at a release, in the order they came", () =>
      Effect.gen(function*() {
        const { first, second } = yield* twoInstances
        yield* grant(first, "key", "holder")
        const waiters = yield* Effect.forEach(["a", "b", "c"], (ownerId) => waitFor(second, "key", ownerId))
        let holder = "holder"
        for (const [index, next] of ["a", "b", "c"].entries()) {
          yield* release(first, "key", holder)
          yield* TestClock.adjust(0)
          assert.deepStrictEqual(ended(waiters), [true, index >= 1, index >= 2])
          yield* grant(second, "key", next)
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(ended(waiters), [true, index >= 1, index >= 2])
          holder = next
        }
      }))

    it.effect("the next, if the one called does not come", () =>
      Effect.gen(function*() {
        const { first, second } = yield* twoInstances
        yield* grant(first, "key", "holder")
        const waiters = yield* Effect.forEach(["a", "b", "c"], (ownerId) => waitFor(second, "key", ownerId))
        yield* release(first, "key", "holder")
        yield* TestClock.adjust("49 millis")
        assert.deepStrictEqual(ended(waiters), [true, false, false])
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(ended(waiters), [true, true, false])
        yield* TestClock.adjust("50 millis")
        assert.deepStrictEqual(ended(waiters), [true, true, true])
      }))

    it.effect("the next, if the one called is interrupted before it runs", () =>
      Effect.gen(function*() {
        const { first, second } = yield* twoInstances
        yield* grant(first, "key", "holder")
        const waiters = yield* Effect.forEach(["a", "b", "c"], (ownerId) => waitFor(second, "key", ownerId))
        yield* Effect.tap(release(first, "key", "holder"), () => Effect.sync(() => waiters[0]?.interruptUnsafe()))
        yield* TestClock.adjust(0)
        assert.deepStrictEqual(ended(waiters), [true, true, false])
      }))

    it.effect("the next, if the one called gives up", () =>
      Effect.gen(function*() {
        const { first, second } = yield* twoInstances
        yield* grant(first, "key", "holder")
        const waiters = yield* Effect.forEach(["a", "b", "c"], (ownerId) => waitFor(second, "key", ownerId))
        yield* release(first, "key", "holder")
        yield* release(second, "key", "a")
        yield* TestClock.adjust(0)
        assert.deepStrictEqual(ended(waiters), [true, true, false])
      }))

    it.effect("the next watcher, if the one that watches is interrupted", () =>
      Effect.gen(function*() {
        const { first, second } = yield* twoInstances
        yield* grant(first, "key", "holder")
        const waiters = yield* Effect.forEach(["a", "b", "c"], (ownerId) => waitFor(second, "key", ownerId))
        yield* release(first, "key", "holder")
        yield* TestClock.adjust("10 millis")
        yield* Fiber.interrupt(waiters[1]!)
        yield* TestClock.adjust("50 millis")
        assert.deepStrictEqual(ended(waiters), [true, true, true])
      }))

    it.effect("at a break with now", () =>
      Effect.gen(function*() {
        const { first, second } = yield* twoInstances
        yield* grant(first, "key", "holder")
        const waiter = yield* waitFor(second, "key", "a")
        assert(first.break !== undefined)
        assert.strictEqual(yield* first.break({ key: "key", ownerId: "holder", now: false, budget }), "Draining")
        yield* TestClock.adjust(0)
        assert.deepStrictEqual(ended([waiter]), [false])
        assert.strictEqual(yield* first.break({ key: "key", ownerId: "holder", now: true, budget }), "Broken")
        yield* TestClock.adjust(0)
        assert.deepStrictEqual(ended([waiter]), [true])
      }))
  })

  describe("is conditional on the grant", () => {
    it.effect("a renewal after expiry is Gone, though nobody took the lock", () =>
      Effect.gen(function*() {
        const { first } = yield* twoInstances
        const { handle } = yield* grant(first, "key", "owner")
        yield* TestClock.adjust(ttl)
        const reply = yield* first.renew({ key: "key", ownerId: "owner", handle, ttl, budget })
        assert.deepStrictEqual(reply, { _tag: "Lost", reason: "Gone" })
      }))

    it.effect("a release with the handle of an earlier grant frees nothing", () =>
      Effect.gen(function*() {
        const { first } = yield* twoInstances
        const old = yield* grant(first, "key", "owner")
        yield* TestClock.adjust(ttl)
        yield* grant(first, "key", "owner")
        assert.strictEqual(yield* release(first, "key", "owner", Option.some(old.handle)), "NotHeld")
        assert.strictEqual((yield* first.inspect({ key: "key", budget })).length, 1)
      }))

    it.effect("a draining lock is not prolonged by a replay of its own holder", () =>
      Effect.gen(function*() {
        const { first, second } = yield* twoInstances
        yield* grant(first, "key", "owner")
        assert(second.break !== undefined)
        yield* second.break({ key: "key", ownerId: "owner", now: false, budget })
        assert.isFalse(yield* isGranted(first, "key", "owner"))
        yield* TestClock.adjust(ttl)
        assert.isTrue(yield* isGranted(second, "key", "another"))
      }))
  })

  describe("reads clocks", () => {
    it.effect("a wall clock that is set does not move an expiry", () =>
      Effect.gen(function*() {
        const { first, second } = yield* twoInstances
        yield* TestClock.setTime(1_000_000)
        yield* grant(first, "key", "owner")
        yield* TestClock.setTime(0)
        yield* TestClock.adjust(Duration.subtract(ttl, Duration.millis(1)))
        assert.isFalse(yield* isGranted(second, "key", "another"))
        yield* TestClock.adjust(1)
        assert.isTrue(yield* isGranted(second, "key", "another"))
      }))

    it.effect("fencing tokens start at the wall clock, in microseconds, and never go back with it", () =>
      Effect.gen(function*() {
        const { first } = yield* twoInstances
        yield* TestClock.setTime(1_700_000_000_000)
        assert.deepStrictEqual((yield* grant(first, "a", "1")).fencingToken, Option.some(1_700_000_000_000_000n))
        assert.deepStrictEqual((yield* grant(first, "b", "2")).fencingToken, Option.some(1_700_000_000_000_001n))
        yield* TestClock.setTime(0)
        assert.deepStrictEqual((yield* grant(first, "c", "3")).fencingToken, Option.some(1_700_000_000_000_002n))
      }))

    it.effect("a store with a clock of its own decides by that one", () =>
      Effect.gen(function*() {
        const store = yield* Memory.makeStore({ clock: yield* Clock.Clock })
        const backend = yield* Memory.make({ store })
        const elsewhere = TestClock.withLive(isGranted(backend, "key", "another"))
        yield* grant(backend, "key", "owner")
        assert.isFalse(yield* elsewhere)
        yield* TestClock.adjust(ttl)
        assert.isTrue(yield* elsewhere)
      }))
  })

  describe("options", () => {
    it.effect("a bad namespace is Misconfigured, at every operation", () =>
      Effect.gen(function*() {
        const backend = yield* Memory.make({ namespace: "line\nbreak" })
        const key = "key"
        const request = { key, ownerId: "owner", handle: "1", ttl, budget, metadata: {}, willWait: true, now: true }
        assert(backend.awaitTurn !== undefined && backend.break !== undefined)
        const failures = yield* Effect.all([
          Effect.flip(backend.tryAcquire(request)),
          Effect.flip(backend.renew(request)),
          Effect.flip(backend.release({ ...request, handle: Option.none(), unanswered: true })),
          Effect.flip(backend.inspect(request)),
          Effect.flip(backend.awaitTurn(request)),
          Effect.flip(backend.break(request))
        ])
        assert.deepStrictEqual(
          failures.map(({ operation, reason }) => [operation, reason._tag]),
          ["acquire", "renew", "release", "inspect", "awaitTurn", "break"].map((name) => [name, "Misconfigured"])
        )
        assert.include(failures[0].message, "namespace")
      }))

    it.effect("layers have stores of their own unless they are given one", () =>
      Effect.gen(function*() {
        const store = yield* Memory.makeStore()
        const free = (ownerId: string) => Effect.flatMap(LockBackend, (backend) => isGranted(backend, "key", ownerId))
        assert.isTrue(yield* Effect.provide(free("1"), Memory.layer()))
        assert.isTrue(yield* Effect.provide(free("2"), Memory.layer()))
        assert.isTrue(yield* Effect.provide(free("3"), Memory.layer({ store })))
        assert.isFalse(yield* Effect.provide(free("4"), Memory.layer({ store })))
      }))

    it.effect("layerConfig reads namespace and defaults", () =>
      Effect.gen(function*() {
        const layer = Memory.layerConfig({
          namespace: Config.String("LOCK_NAMESPACE"),
          defaults: { ttl: Config.Duration("LOCK_TTL") }
        }).pipe(Layer.provide(ConfigProvider.layer(
          ConfigProvider.fromUnknown({ LOCK_NAMESPACE: "app", LOCK_TTL: "7 seconds" })
        )))
        const backend = yield* Effect.provide(LockBackend, layer)
        assert.deepStrictEqual(backend.defaults?.ttl, Duration.seconds(7))
      }))
  })
})

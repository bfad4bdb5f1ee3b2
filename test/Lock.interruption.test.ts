/**
 * Interruption at every operation of an acquisition: a fiber made to yield between almost all of its runtime
 * operations is interrupted after the k-th yield, for every k, and nothing may stay locked.
 */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Option, Schedule, Scheduler, Scope } from "effect"
import { Lock, LockBackend, withLock, withLockIfAvailable } from "effect-lock"
import * as Memory from "effect-lock/layers/Memory"
import { hold, start } from "./backends.ts"

interface World {
  readonly store: Memory.Store
  readonly service: LockBackend["Service"]
}

/** Every verb takes `steps` before and after its effect, so that interrupts also land while a call is in flight. */
const world = (steps: number) =>
  Effect.gen(function*() {
    const store = Memory.makeStoreUnsafe()
    const real = yield* Memory.make({ store })
    const slow = Effect.repeat(Effect.yieldNow, { times: steps - 1 })
    const slowly = <A, E>(self: Effect.Effect<A, E>) => Effect.andThen(slow, Effect.tap(self, () => slow))
    const service = yield* LockBackend.make({
      ...real,
      tryAcquire: (request) => slowly(real.tryAcquire(request)),
      renew: (request) => slowly(real.renew(request)),
      release: (request) => slowly(real.release(request))
    })
    return { store, service }
  })

const heldKeys = ({ store }: World) => [...store.spaces.values()].reduce((sum, space) => sum + space.grants.size, 0)

const traces = ({ service }: World) => {
  const state = service.slot.state as unknown as {
    queues: Map<string, unknown>
    leases: Set<unknown>
    acquiring: number
    keepers: Array<{ size: number; timer: unknown }>
  } | undefined
  return state === undefined
    ? [0, 0, 0, 0]
    : [
      state.queues.size,
      state.leases.size,
      state.acquiring,
      state.keepers.filter((keeper) => keeper.size > 0 || keeper.timer !== undefined).length
    ]
}

const turnOfTheEventLoop = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** How many operations between two yields, and how slow the backend is. */
const paces = [1, 6].flatMap((steps) => [3, 4, 5, 6, 8, 12].map((n) => [n, steps] as const))

/**
 * Runs `program` once for every (n, k): it yields every n operations and is interrupted after k yields. `residue` looks
 * at what is left. Returns how many runs were interrupted before they ended, and how many left something.
 */
const sweep = (
  program: (world: World) => Effect.Effect<unknown, unknown>,
  residue: (world: World) => boolean,
  prepare: (world: World) => Effect.Effect<unknown> = () => Effect.void
) =>
  Effect.gen(function*() {
    let interrupted = 0
    let left = 0
    for (const [n, steps] of paces) {
      for (let k = 0; k < 200; k++) {
        const scope = yield* Scope.make()
        const each = yield* world(steps).pipe(Scope.provide(scope))
        yield* prepare(each)
        const fiber = yield* program(each).pipe(
          Effect.provideService(LockBackend, each.service),
          Effect.provideService(Scheduler.MaxOpsBeforeYield, n),
          Effect.forkDetach(start)
        )
        for (let i = 0; i < k && fiber.pollUnsafe() === undefined; i++) yield* Effect.yieldNow
        const ended = fiber.pollUnsafe() !== undefined
        yield* Fiber.interrupt(fiber)
        if (!ended) interrupted++
        // The keeper stops its timer in the turn after the one that finds nothing left to keep.
        yield* Effect.repeat(turnOfTheEventLoop, { times: 1 })
        if (residue(each)) left++
        yield* Scope.close(scope, Exit.void)
        if (ended) break
      }
    }
    return { interrupted, left }
  })

const locked = (world: World): boolean => heldKeys(world) > 0 || traces(world).some((count) => count > 0)

describe("interrupt at every operation", () => {
  let swept = 0

  it.live(
    "of an uncontended withLock, guard and withLockIfAvailable: nothing stays locked",
    () =>
      Effect.gen(function*() {
        let positions = 0
        for (
          const program of [
            Effect.scoped(Effect.andThen(withLock("k"), Effect.yieldNow)),
            Effect.yieldNow.pipe(Lock.guard("k")),
            Effect.scoped(Effect.andThen(withLockIfAvailable("k"), Effect.yieldNow)),
            Lock.scoped(Effect.flatMap(withLock("k"), (lease) => lease.guard(Effect.yieldNow))),
            Effect.scoped(Effect.flatMap(withLock("k"), (lease) => Effect.andThen(lease.renew, lease.release)))
          ]
        ) {
          const { interrupted, left } = yield* sweep(
            ({ service }) => program.pipe(Effect.provideService(LockBackend, service)),
            locked
          )
          assert.strictEqual(left, 0)
          positions += interrupted
        }
        swept += positions
      }),
    120_000
  )

  it.live(
    "while waiting for another process: the other's lock alone is left, and nobody is in line",
    () =>
      Effect.gen(function*() {
        const { interrupted, left } = yield* sweep(
          ({ service }) =>
            Effect.void.pipe(
              Lock.guard("k", { schedule: Schedule.spaced("1 millis") }),
              Effect.provideService(LockBackend, service)
            ),
          (world) => heldKeys(world) !== 1 || traces(world).some((count) => count > 0),
          ({ store }) =>
            Effect.flatMap(Memory.make({ store }), (other) => hold(other, "k", "other")).pipe(
              Effect.scoped,
              Effect.orDie
            )
        )
        assert.strictEqual(left, 0)
        swept += interrupted
      }),
    120_000
  )

  it.live("of a waiter in line: the turn passes on to the next", () =>
    Effect.gen(function*() {
      let served = 0
      const { interrupted, left } = yield* sweep(
        ({ service }) =>
          Effect.gen(function*() {
            // Holder, then the one who is interrupted, then one who must be served whatever happens to it.
            const holder = yield* Effect.yieldNow.pipe(
              Effect.repeat({ times: 3 }),
              Lock.guard("k"),
              Effect.forkDetach(start)
            )
            const victim = yield* Effect.yieldNow.pipe(Lock.guard("k"), Effect.forkDetach(start))
            const next = yield* Effect.sync(() => served++).pipe(Lock.guard("k"), Effect.forkDetach(start))
            yield* Fiber.await(holder)
            yield* Fiber.interrupt(victim)
            yield* Fiber.await(next)
          }).pipe(Effect.uninterruptible, Effect.provideService(LockBackend, service)),
        locked
      )
      assert.strictEqual(left, 0)
      swept += interrupted
      assert.isAtLeast(served, 100)
    }), 120_000)

  it("those were more than 10,000 positions", () => {
    assert.isAtLeast(swept, 10_000)
  })

  it.live(
    "control: the same sweep finds the leak of an acquire that registers its release too late",
    () =>
      Effect.gen(function*() {
        const naive = (service: LockBackend["Service"]) =>
          Effect.scoped(Effect.gen(function*() {
            const ttl = Duration.seconds(30)
            const request = { key: "k", ownerId: "naive", ttl, metadata: {}, willWait: false, budget: ttl }
            yield* service.tryAcquire(request)
            yield* Effect.addFinalizer(() =>
              Effect.ignore(
                service.release({ key: "k", ownerId: "naive", handle: Option.none(), unanswered: true, budget: ttl })
              )
            )
            yield* Effect.yieldNow
          }))
        const { left } = yield* sweep(({ service }) => naive(service), (world) => heldKeys(world) > 0)
        assert.isAtLeast(left, 10)
      }),
    120_000
  )
})

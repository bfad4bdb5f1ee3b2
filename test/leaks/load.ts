/** Two loads that are too much for a program that is careless: very many leases, and very many waiters with nobody there. */
import { Effect, Exit, Fiber, Scope } from "effect"
import { LockBackend, withLock } from "effect-lock"
import * as Memory from "effect-lock/layers/Memory"
import { monitorEventLoopDelay } from "node:perf_hooks"
import type { Ground, Service } from "./ground.ts"
import { heap } from "./measure.ts"

export interface ManyLeases {
  readonly leases: number
  readonly bytesPerLease: number
  readonly renewalsPerSecond: number
  /** Of the event loop, in milliseconds, while they are renewed: at the 99th percentile. */
  readonly delay: number
  readonly lost: number
  /** Bytes that are still there afterwards, per lease. */
  readonly bytesLeft: number
}

/** Holds `count` leases in memory for `millis`, renewed as they fall due, and gives them back. */
export const manyLeases = (count: number, millis: number): Effect.Effect<ManyLeases> =>
  Effect.scoped(Effect.gen(function*() {
    let renewals = 0
    const memory = yield* Memory.make()
    const { renew } = memory
    const backend = yield* LockBackend.make({
      ...memory,
      renew: (request) => {
        renewals++
        return renew(request)
      }
    })
    const hold = Effect.fnUntraced(function*(keys: number) {
      const scope = yield* Scope.make()
      const leases = yield* Effect.forEach(
        Array.from({ length: keys }),
        (_, index) => withLock(`key ${index}`, { ttl: millis }),
        { concurrency: 100 }
      ).pipe(Scope.provide(scope), Effect.provideService(LockBackend, backend), Effect.orDie)
      return { scope, leases }
    })
    // What is compiled and stored once.
    const once = yield* hold(1000)
    yield* Scope.close(once.scope, Exit.void)
    const before = yield* heap
    const { leases, scope } = yield* hold(count)
    const held = yield* heap
    const histogram = monitorEventLoopDelay({ resolution: 10 })
    histogram.enable()
    renewals = 0
    const startedAt = performance.now()
    yield* Effect.sleep(millis)
    const seconds = (performance.now() - startedAt) / 1000
    histogram.disable()
    const found = {
      leases: count,
      bytesPerLease: (held - before) / count,
      renewalsPerSecond: renewals / seconds,
      delay: histogram.percentile(99) / 1e6,
      lost: (yield* Effect.forEach(leases, ({ state }) => state)).filter((state) => state === "Lost").length
    }
    leases.length = 0
    yield* Scope.close(scope, Exit.void)
    const after = yield* heap
    return { ...found, bytesLeft: (after - before) / count }
  }))

export interface Outage {
  readonly ground: string
  readonly waiters: number
  readonly callsPerSecond: number
  /** Bytes that each waiter took more at the end of the outage than at its beginning. */
  readonly bytesPerWaiter: number
  /** Milliseconds from the server's return until the first acquisition, and until all waiters were served. */
  readonly firstAfter: number
  readonly allAfter: number
  readonly failed: number
}

/** With `count` waiters on one key, the server is gone for `millis`, and comes back. */
export const outage = (ground: Ground, count: number, millis: number): Effect.Effect<Outage, never, Scope.Scope> =>
  Effect.gen(function*() {
    const place = yield* ground.open
    let calls = 0
    const inner: Service = yield* Effect.orDie(place.make)
    const { tryAcquire } = inner
    const backend = yield* LockBackend.make({
      ...inner,
      tryAcquire: (request) => {
        calls++
        return tryAcquire(request)
      }
    })
    const on = <A, E>(self: Effect.Effect<A, E, LockBackend>) => Effect.provideService(self, LockBackend, backend)
    yield* Effect.orDie(on(Effect.scoped(withLock("k"))))

    yield* Effect.forEach(place.servers, (server) => server.kill)
    let served = 0
    let failed = 0
    let firstAt = 0
    const waiter = on(Effect.scoped(withLock("k", { ttl: "5 seconds", outageBudget: "5 minutes" }))).pipe(
      Effect.match({
        onSuccess: () => {
          if (served++ === 0) firstAt = performance.now()
        },
        onFailure: () => {
          failed++
        }
      })
    )
    const fibers = []
    for (let i = 0; i < count; i++) fibers.push(yield* Effect.forkChild(waiter, { startImmediately: true }))
    yield* Effect.sleep(millis / 4)
    calls = 0
    const before = yield* heap
    const startedAt = performance.now()
    yield* Effect.sleep(millis)
    const callsPerSecond = calls / ((performance.now() - startedAt) / 1000)
    const after = yield* heap
    yield* Effect.forEach(place.servers, (server) => server.start)
    const backAt = performance.now()
    for (const fiber of fibers) yield* Fiber.join(fiber)
    return {
      ground: ground.name,
      waiters: count,
      callsPerSecond,
      bytesPerWaiter: (after - before) / count,
      firstAfter: firstAt - backAt,
      allAfter: performance.now() - backAt,
      failed
    }
  })

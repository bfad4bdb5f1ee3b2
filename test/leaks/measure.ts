/** What a backend and the core leave behind, counted: bytes per cycle, and everything that should be back where it was. */
import { Effect, Exit, Fiber, Scope } from "effect"
import { LockBackend, type LockOptions, withLock } from "effect-lock"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import type { Ground, Place, Service, Traces } from "./ground.ts"

export interface Amounts {
  /** Acquire and release. */
  readonly cycles: number
  readonly interrupted: number
  readonly failed: number
  /** On one key. */
  readonly waiters: number
  /** Bytes a cycle above which the heap is measured once more. */
  readonly allowed: number
}

export interface Finding {
  readonly ground: string
  readonly cycles: number
  readonly cyclesPerSecond: number
  /** Of the heap, after a collection. */
  readonly bytesPerCycle: number
  /** Verbs of the backend per acquisition, with all waiters on one key. */
  readonly callsPerAcquisition: number
  readonly waiters: number
  /** What did not come back to where it was, in words. */
  readonly left: ReadonlyArray<string>
}

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void

/** Bytes in use after everything that can be collected is. */
export const heap = Effect.promise(async () => {
  for (let i = 0; i < 4; i++) {
    await new Promise((resolve) => setImmediate(resolve))
    collect()
  }
  return process.memoryUsage().heapUsed
})

/** What the process has open, by kind. */
const handles = (): Traces => {
  const counts: Record<string, number> = {}
  for (const each of process.getActiveResourcesInfo()) {
    if (each !== "Immediate") counts[each] = (counts[each] ?? 0) + 1
  }
  for (const event of process.eventNames()) counts[`listeners of ${String(event)}`] = process.listenerCount(event)
  return counts
}

// While a timer's callback runs, the timer counts as one that is waiting.
const outsideOfTimers = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

/** What the core keeps for a backend. */
const inCore = ({ slot }: Service): Traces => {
  const state = slot.state as unknown as
    | { readonly queues: Map<string, unknown>; readonly leases: Set<unknown>; readonly acquiring: number }
    | undefined
  return { queues: state?.queues.size ?? 0, leases: state?.leases.size ?? 0, acquisitions: state?.acquiring ?? 0 }
}

const allTraces = (place: Place, backend: Service): Effect.Effect<Traces> =>
  Effect.flatMap(
    place.traces,
    (traces) => Effect.map(outsideOfTimers, () => ({ ...traces, ...handles(), ...inCore(backend) }))
  )

const grown = (before: Traces, now: Traces, when: string): ReadonlyArray<string> =>
  Object.entries(now).flatMap(([what, count]) => {
    const was = before[what] ?? 0
    return count > was ? [`${when}: ${count} ${what}, ${was} at the beginning`] : []
  })

/** Waits until nothing is more than it was: sockets and timers take a moment to go. What is left then, in words. */
const settled = (
  before: Traces,
  look: Effect.Effect<Traces>,
  when: string
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.gen(function*() {
    const giveUpAt = performance.now() + 15_000
    for (;;) {
      const left = grown(before, yield* look, when)
      if (left.length === 0 || performance.now() > giveUpAt) return left
      yield* Effect.sleep("50 millis")
    }
  })

const lanes = 8

const cycle = (key: string) => Effect.scoped(withLock(key, { ttl: "30 seconds" }))

const cycles = (count: number) =>
  Effect.forEach(
    Array.from({ length: lanes }, (_, lane) => lane),
    (lane) =>
      Effect.gen(function*() {
        const one = cycle(`lane ${lane}`)
        for (let i = lane; i < count; i += lanes) yield* one
      }),
    { concurrency: "unbounded", discard: true }
  )

/** The slope of a line through the points: the median of all pairs', which one odd collection does not move. */
export const slopeOf = (points: ReadonlyArray<readonly [number, number]>): number => {
  const slopes = points.flatMap(([x, y], index) => points.slice(index + 1).map(([x2, y2]) => (y2 - y) / (x2 - x)))
  return slopes.sort((a, b) => a - b)[Math.floor(slopes.length / 2)] ?? 0
}

const heapSlope = (count: number) =>
  Effect.gen(function*() {
    const steps = 8
    const points: Array<readonly [number, number]> = []
    for (let step = 0; step <= steps; step++) {
      points.push([step * count / steps, yield* heap])
      if (step < steps) yield* cycles(count / steps)
    }
    return slopeOf(points)
  })

/** With the key held by somebody else, so that each of them waits when it is interrupted. */
const interruptions = (count: number, waiting: LockOptions) =>
  Effect.scoped(Effect.gen(function*() {
    yield* withLock("held")
    for (let done = 0; done < count; done += 100) {
      const fibers = []
      for (let i = 0; i < 100; i++) fibers.push(yield* Effect.forkDetach(Effect.scoped(withLock("held", waiting))))
      // Some have not begun, some ask the backend, some wait.
      yield* Effect.sleep(done % 3)
      yield* Fiber.interruptAll(fibers)
    }
  }))

const failures = (count: number, other: Service) =>
  Effect.scoped(Effect.gen(function*() {
    yield* Effect.provideService(withLock("failing"), LockBackend, other)
    for (let i = 0; i < count; i++) yield* Effect.flip(Effect.scoped(withLock("failing", { wait: 0 })))
  }))

const waitersOnOneKey = (count: number) =>
  Effect.gen(function*() {
    let served = 0
    const one = Effect.scoped(Effect.andThen(withLock("crowd", { ttl: "60 seconds" }), Effect.sync(() => served++)))
    yield* Effect.forEach(Array.from({ length: count }), () => one, { concurrency: "unbounded", discard: true })
    return served
  })

/** A backend that counts its calls. */
const counting = (
  service: Service
): Effect.Effect<{ readonly service: Service; readonly calls: () => number }, never, Scope.Scope> => {
  let calls = 0
  const counted = <Q, A, E>(verb: (request: Q) => Effect.Effect<A, E>) => (request: Q) => {
    calls++
    return verb(request)
  }
  const { release, renew, tryAcquire } = service
  return Effect.map(
    LockBackend.make({
      ...service,
      tryAcquire: counted(tryAcquire),
      renew: counted(renew),
      release: counted(release)
    }),
    (service) => ({ service, calls: () => calls })
  )
}

export const measure = (ground: Ground, amounts: Amounts): Effect.Effect<Finding, never, Scope.Scope> =>
  Effect.gen(function*() {
    const place = yield* ground.open
    const scope = yield* Scope.make()
    const atFirst = { ...(yield* place.traces), ...handles() }
    const inner = yield* Effect.orDie(Scope.provide(place.make, scope))
    const { calls, service } = yield* Scope.provide(counting(inner), scope)
    const otherScope = yield* Scope.make()
    const other = yield* Effect.orDie(Scope.provide(place.make, otherScope))
    const on = <A, E>(self: Effect.Effect<A, E, LockBackend>) =>
      Effect.orDie(Effect.provideService(self, LockBackend, service))

    // Until everything is compiled, connected and stored that is needed once.
    yield* on(cycles(Math.max(amounts.cycles / 8, 100)))
    yield* on(interruptions(100, {}))
    yield* on(failures(20, other))
    yield* on(waitersOnOneKey(10))
    yield* on(cycles(Math.max(amounts.cycles / 8, 100)))
    const before = yield* allTraces(place, service)

    const startedAt = performance.now()
    const slope = on(heapSlope(amounts.cycles))
    const first = yield* slope
    const seconds = (performance.now() - startedAt) / 1000
    // Code that is being compiled is done at some time; what leaks goes on.
    const bytesPerCycle = first > amounts.allowed ? yield* slope : first
    const look = allTraces(place, service)
    const left = [...(yield* settled(before, look, `after ${amounts.cycles} cycles`))]
    yield* on(interruptions(amounts.interrupted, {}))
    left.push(...(yield* settled(before, look, `after ${amounts.interrupted} interruptions`)))
    yield* on(failures(amounts.failed, other))
    left.push(...(yield* settled(before, look, `after ${amounts.failed} failures`)))
    const callsBefore = calls()
    const served = yield* on(waitersOnOneKey(amounts.waiters))
    left.push(...(yield* settled(before, look, `after ${amounts.waiters} waiters`)))
    const callsPerAcquisition = (calls() - callsBefore) / served

    yield* Scope.close(scope, Exit.void)
    yield* Scope.close(otherScope, Exit.void)
    // Fencing tokens stay where they are kept; connections and handles don't.
    const closed = Effect.flatMap(
      place.traces,
      (traces) => Effect.map(outsideOfTimers, () => ({ connections: traces["connections"] ?? 0, ...handles() }))
    )
    left.push(...(yield* settled(atFirst, closed, "when it is closed")))
    return {
      ground: ground.name,
      cycles: amounts.cycles,
      cyclesPerSecond: amounts.cycles / seconds,
      bytesPerCycle,
      callsPerAcquisition,
      waiters: amounts.waiters,
      left
    }
  })

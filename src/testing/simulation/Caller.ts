/**
 * What runs in the simulated processes: callers that take the lock in every way there is, write under it, hold on to
 * leases that are over, and are interrupted.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { HeldLease } from "../../internal/heldLease.ts"
import type { Instance } from "../../internal/instance.ts"
import { OwnerIds } from "../../internal/ownerId.ts"
import type { Lease } from "../../Lease.ts"
import * as Lock from "../../Lock.ts"
import { LockBackend } from "../../LockBackend.ts"
import type { LockOptions } from "../../LockOptions.ts"
import { type Faults, type Mix, ttl } from "./Faults.ts"
import { type CallError, operationTimeout, type Oracles } from "./Oracles.ts"
import type { Process } from "./Process.ts"
import { type Chance, chance, type World } from "./World.ts"

/**
 * Where a caller lives.
 *
 * @category models
 */
export interface Place {
  readonly world: World
  readonly process: Process
  readonly backend: LockBackend["Service"]
  readonly faults: Faults
  readonly oracles: Oracles
  readonly mix: Mix
  readonly seed: number
  /** Milliseconds: every call is a guard that holds the lock for so long, if it is given. */
  readonly hold: number | undefined
}

/**
 * The one lock of the simulation.
 *
 * @category constants
 */
export const key = "lock"

// Out within the attempt in flight, the renewal of a grant that came late, and the release; the rest is for the
// difference of clock rates.
const mostUntilOut = 3 * operationTimeout * 1.05 + 5

/**
 * What the core keeps for a simulated backend.
 *
 * @category getters
 */
export const instanceOf = (backend: LockBackend["Service"]): Instance | undefined =>
  backend.slot.state as Instance | undefined

/**
 * One caller: `rounds` calls, one after the other.
 *
 * @category constructors
 */
export const caller = (place: Place, caller: number, rounds: number): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { faults, oracles, process, seed, world } = place
    for (let round = 0; round < rounds; round++) {
      const number = caller * rounds + round
      const next = chance(seed, 7, process.id, number)
      const name = `p${process.id}c${caller}r${round}`
      yield* Effect.sleep(next() * 50)
      const { hampered } = process
      const fiber = yield* Effect.forkChild(callOf(place, name, next))
      const fault = faults.ofCall(process.id, number)
      if (fault === undefined) {
        yield* Fiber.await(fiber)
        continue
      }
      yield* Effect.sleep(fault.by)
      const since = process.active
      world.note(`interrupt ${name}`)
      // Whatever went wrong with its tries: if nothing does from now on, nor with its releases, nothing is left.
      const mishaps = mishapsOf(place)
      world.after(2 * operationTimeout * 1.05, () => {
        if (mishapsOf(place) !== mishaps || process.hampered !== hampered) return
        oracles.onRest("residue", instanceOf(place.backend), name, "two operation timeouts after an interruption")
      })
      yield* Fiber.interrupt(fiber)
      const took = process.active - since
      if (took > mostUntilOut) oracles.violated("late", `${name} was out ${took} ms after its interruption`)
    }
  })

const mishapsOf = ({ faults, process }: Place): number =>
  faults.happened.reduce((sum, each) => each.process === process.id && each.kind !== "interrupt" ? sum + 1 : sum, 0)

/**
 * A call that only wants the lock, and tells when it has it.
 *
 * @category constructors
 */
export const freshCall = (place: Place, acquired: () => void): Effect.Effect<void> =>
  Effect.sync(acquired).pipe(
    Lock.guard(key, { ttl }),
    Effect.provideService(LockBackend, place.backend),
    Effect.provideService(OwnerIds, ownerIds("fresh")),
    Effect.exit,
    Effect.asVoid
  )

const ownerIds = (name: string) => {
  let made = 0
  return () => `${name}.${made++}`
}

const callOf = (place: Place, name: string, next: Chance): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { oracles, process } = place
    const { isOut, knowsAsOf, troubles } = process
    const before = { isOut, knowsAsOf, troubles }
    return kindOf(place, name, next).pipe(
      Effect.provideService(LockBackend, place.backend),
      Effect.provideService(OwnerIds, ownerIds(name)),
      Effect.onExit((exit) => Effect.sync(() => oracles.onExit(process, name, before, exit))),
      Effect.exit,
      Effect.asVoid
    )
  })

const kindOf = (place: Place, name: string, next: Chance): Effect.Effect<unknown, CallError, LockBackend> => {
  if (place.hold !== undefined) return Lock.guard(body(place, name, () => 1, undefined, place.hold / 10), key, { ttl })
  const kind = next()
  const x = next()
  const wait = next() < 0.6 ? "forever" : 100 + next() * 2 * ttl
  const renewal = place.mix.renews === false ? { renewEvery: false } as const : {}
  const options: LockOptions = { ttl, wait, ...renewal }
  if (kind < 0.3) return Lock.guard(body(place, name, next, undefined), key, options)
  if (kind < 0.55) {
    return Effect.scoped(
      Effect.flatMap(Lock.withLock(key, options), (lease) => lease.guard(body(place, name, next, lease)))
    )
  }
  if (kind < 0.65) return Lock.guardIfAvailable(body(place, name, next, undefined), key, { ttl, ...renewal })
  if (kind < 0.75) {
    return Lock.scoped(
      Effect.flatMap(Lock.withLock(key, options), (lease) => body(place, name, next, lease))
    )
  }
  if (kind < 0.9) return outlived(place, next, options, x < 0.5)
  const byHand = { ...options, renewEvery: false } as const
  return Effect.scoped(
    Effect.flatMap(Lock.withLock(key, byHand), (lease) => lease.guard(renewing(lease, next, place, name)))
  )
}

// Whoever holds on to a lease that is over must not trust it: not while its release is under way, not afterwards.
const outlived = (place: Place, next: Chance, options: LockOptions, early: boolean) =>
  Effect.gen(function*() {
    const straggler = yield* Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const lease = yield* restore(Lock.withLock(key, options)).pipe(
          Scope.provide(scope),
          Effect.onError(() => Scope.close(scope, Exit.void))
        )
        const straggler = yield* Effect.forkChild(writes(place, 8, 30, next, trustOf(lease)))
        const close = early
          ? Effect.andThen(lease.release, Scope.close(scope, Exit.void))
          : Scope.close(scope, Exit.void)
        yield* Effect.ensuring(restore(lease.guard(writes(place, 2, 60, next, trustOf(lease)))), close)
        return straggler
      })
    )
    yield* Fiber.await(straggler)
  })

const renewing = (lease: Lease, next: Chance, place: Place, name: string) =>
  Effect.gen(function*() {
    for (let i = 0; i < 3; i++) {
      yield* next() < 0.5 ? lease.renew : lease.ensure(ttl / 2)
      yield* body(place, name, next, lease)
    }
  })

interface Trusted {
  readonly ownerId: string
  readonly fence: number
  readonly isTrusted: () => boolean
}

const trustOf = ({ check, fencingToken, ownerId }: Lease): Trusted => ({
  ownerId,
  fence: Number(Option.getOrThrow(fencingToken)),
  isTrusted: () => Exit.isSuccess(Effect.runSyncExit(check))
})

// Without a lease in hand, as in `Lock.guard`, it is the one that the core has.
const trustOfHeld = (held: HeldLease): Trusted => ({
  ownerId: held.ownerId,
  fence: Number(Option.getOrThrow(held.fencingToken)),
  isTrusted: () => held.verdict() === undefined
})

const body = (
  place: Place,
  name: string,
  next: Chance,
  lease: Lease | undefined,
  pause = 400
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { backend, oracles, process } = place
    const held = instanceOf(backend)?.queues.get(key)?.holder as HeldLease | undefined
    // A process that stood still between grant and start may find its lease lost already.
    if (held === undefined || !held.ownerId.startsWith(`${name}.`)) return Effect.void
    oracles.counts.acquired++
    const ended = oracles.onBody(process, held)
    const trust = lease === undefined ? trustOfHeld(held) : trustOf(lease)
    const times = place.hold === undefined ? 1 + Math.floor(next() * 6) : 10
    return Effect.ensuring(writes(place, times, pause, next, trust), Effect.sync(ended))
  })

// Trust is read at the very moment of the write: whoever reads it before may stand still in between.
const writes = (place: Place, times: number, pause: number, next: Chance, trust: Trusted): Effect.Effect<void> =>
  Effect.gen(function*() {
    for (let i = 0; i < times; i++) {
      yield* Effect.sleep(next() * pause)
      place.oracles.onWrite(trust.ownerId, trust.fence, trust.isTrusted())
    }
  })

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
import { OwnerIds } from "../../internal/ownerId.ts"
import type { Lease } from "../../Lease.ts"
import * as Lock from "../../Lock.ts"
import { LockBackend } from "../../LockBackend.ts"
import type { LockOptions } from "../../LockOptions.ts"
import { ttl } from "./Faults.ts"
import { type CallError, operationTimeout } from "./Oracles.ts"
import { instanceOf, type Place } from "./Place.ts"
import { type Chance, chance } from "./World.ts"

/** One call: who makes it, on what, and what it draws its chance from. */
interface Call {
  readonly place: Place
  readonly name: string
  readonly key: string
  /** The one that was open when it began. */
  readonly backend: LockBackend["Service"]
  readonly next: Chance
}

// Out within the attempt in flight, the renewal of a grant that came late, and the release; the rest is for the
// difference of clock rates.
const mostUntilOut = 3 * operationTimeout * 1.05 + 5

/**
 * One caller: `rounds` calls, one after the other.
 *
 * @category constructors
 */
export const caller = (place: Place, caller: number, rounds: number): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { of: { faults, network, oracles, seed, world }, process } = place
    for (let round = 0; round < rounds; round++) {
      const number = caller * rounds + round
      const next = chance(seed, 7, process.id, number)
      const key = place.keys[Math.floor(chance(seed, 11, process.id, number)() * place.keys.length)]!
      yield* Effect.sleep(next() * 50)
      const { backend } = place
      const call = { place, name: `p${process.id}c${caller}r${round}`, key, backend, next }
      const { hampered } = process
      const fiber = yield* Effect.forkChild(callOf(call))
      const fault = faults.ofCall(process.id, number)
      if (fault === undefined) {
        yield* Fiber.await(fiber)
        continue
      }
      yield* Effect.sleep(fault.by)
      const since = process.active
      world.note(`interrupt ${call.name}`)
      // Whatever went wrong with its tries: if nothing does from now on, nor with its releases, nothing is left.
      const { mishaps } = place
      const interruptedAt = world.now
      world.after(2 * operationTimeout * 1.05, () => {
        if (place.mishaps !== mishaps || process.hampered !== hampered || network.downUntil > interruptedAt) return
        oracles.onRest("residue", instanceOf(backend), call, "two operation timeouts after an interruption")
      })
      yield* Fiber.interrupt(fiber)
      const took = process.active - since
      if (took > mostUntilOut) oracles.violated("late", `${call.name} was out ${took} ms after its interruption`)
    }
  })

/**
 * A call that only wants the lock, and tells when it has it.
 *
 * @category constructors
 */
export const freshCall = (place: Place, key: string, acquired: () => void): Effect.Effect<void> =>
  Effect.sync(acquired).pipe(
    Lock.guard(key, { ttl }),
    Effect.provideService(LockBackend, place.backend),
    Effect.provideService(OwnerIds, ownerIds(`fresh ${key}`)),
    Effect.exit,
    Effect.asVoid
  )

const ownerIds = (name: string) => {
  let made = 0
  return () => `${name}.${made++}`
}

const callOf = (call: Call): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { backend, key, name, place: { of: { oracles, world }, process } } = call
    const { troubles } = process
    const before = { isOut: process.isOut.has(key), knowsAsOf: process.knowsAsOf.get(key) ?? 0, troubles }
    return kindOf(call).pipe(
      Effect.provideService(LockBackend, backend),
      Effect.provideService(OwnerIds, ownerIds(name)),
      Effect.onExit((exit) =>
        Effect.sync(() => {
          oracles.onExit(process, { name, key, isClosed: backend.slot.closed }, before, exit)
          world.after(1, () => onQuiet(call.place), process)
        })
      ),
      Effect.exit,
      Effect.asVoid
    )
  })

// Without a lease or a call there is no timer: the keeper's fiber ends with what it kept.
const onQuiet = ({ backends, of: { oracles }, process }: Place): void => {
  if (backends.some((backend) => (instanceOf(backend)?.kept ?? 0) > 0)) return
  oracles.onCensus(process, (kind) => kind === "keeper", "although there is no lease and no call")
}

const kindOf = (call: Call): Effect.Effect<unknown, CallError, LockBackend> => {
  const { key, next, place } = call
  if (place.hold !== undefined) {
    return Lock.guard(body({ ...call, next: () => 1 }, undefined, place.hold / 10), key, { ttl })
  }
  const kind = next()
  const x = next()
  const wait = next() < 0.6 ? "forever" : 100 + next() * 2 * ttl
  const renewal = place.of.mix.renews === false ? { renewEvery: false } as const : {}
  const options: LockOptions = { ttl, wait, ...renewal }
  if (kind < 0.3) return Lock.guard(body(call, undefined), key, options)
  if (kind < 0.55) {
    return Effect.scoped(
      Effect.flatMap(Lock.withLock(key, options), (lease) => lease.guard(body(call, lease)))
    )
  }
  if (kind < 0.65) return Lock.guardIfAvailable(body(call, undefined), key, { ttl, ...renewal })
  if (kind < 0.75) {
    return Lock.scoped(
      Effect.flatMap(Lock.withLock(key, options), (lease) => body(call, lease))
    )
  }
  if (kind < 0.9) return outlived(call, options, x < 0.5)
  const byHand = { ...options, renewEvery: false } as const
  return Effect.scoped(
    Effect.flatMap(Lock.withLock(key, byHand), (lease) => lease.guard(renewing(lease, call)))
  )
}

// Whoever holds on to a lease that is over must not trust it: not while its release is under way, not afterwards.
const outlived = (call: Call, options: LockOptions, early: boolean) =>
  Effect.gen(function*() {
    const straggler = yield* Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const lease = yield* restore(Lock.withLock(call.key, options)).pipe(
          Scope.provide(scope),
          Effect.onError(() => Scope.close(scope, Exit.void))
        )
        const straggler = yield* Effect.forkChild(writes(call, 8, 30, trustOf(lease)))
        const close = early
          ? Effect.andThen(lease.release, Scope.close(scope, Exit.void))
          : Scope.close(scope, Exit.void)
        yield* Effect.ensuring(restore(lease.guard(writes(call, 2, 60, trustOf(lease)))), close)
        return straggler
      })
    )
    yield* Fiber.await(straggler)
  })

const renewing = (lease: Lease, call: Call) =>
  Effect.gen(function*() {
    for (let i = 0; i < 3; i++) {
      yield* call.next() < 0.5 ? lease.renew : lease.ensure(ttl / 2)
      yield* body(call, lease)
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

// An interruption between the watching and what ends it would leave it watched for ever.
const body = (call: Call, lease: Lease | undefined, pause = 400): Effect.Effect<void> =>
  Effect.uninterruptibleMask((restore) => {
    const { backend, key, name, next, place } = call
    const { of: { oracles }, process } = place
    const held = instanceOf(backend)?.queues.get(key)?.holder as HeldLease | undefined
    // A process that stood still between grant and start may find its lease lost already.
    if (held === undefined || !held.ownerId.startsWith(`${name}.`)) return Effect.void
    oracles.counts.acquired++
    const ended = oracles.onBody(process, held)
    const trust = lease === undefined ? trustOfHeld(held) : trustOf(lease)
    const times = place.hold === undefined ? 1 + Math.floor(next() * 6) : 10
    return Effect.ensuring(restore(writes(call, times, pause, trust)), Effect.sync(ended))
  })

// Trust is read at the very moment of the write: whoever reads it before may stand still in between.
const writes = ({ key, next, place }: Call, times: number, pause: number, trust: Trusted): Effect.Effect<void> =>
  Effect.gen(function*() {
    for (let i = 0; i < times; i++) {
      yield* Effect.sleep(next() * pause)
      place.of.oracles.onWrite(key, trust.ownerId, trust.fence, trust.isTrusted())
    }
  })

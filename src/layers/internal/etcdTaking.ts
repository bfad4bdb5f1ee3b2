/**
 * Taking a lock in etcd: a lease, and a transaction that hangs the lock's key on it.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { code, type EtcdFailure, isStatus } from "./etcdFailure.ts"
import type { Gateway, Limits } from "./etcdGateway.ts"
import { grant, keepAlive, type Kept, type Outcome, take, type Taking } from "./etcdRequests.ts"

/** What came of it. */
export interface Taken {
  /** What was said of the lease before the transaction; `undefined` if only that it is there. */
  readonly kept: Kept | undefined
  readonly outcome: Outcome
}

/**
 * Takes the lock with a lease that an earlier try left.
 *
 * It is kept alive before the transaction, never beside it: only a transaction that comes later, in the same term, proves
 * that whoever kept the lease alive was the leader.
 */
export const takeWithKept = (
  gateway: Gateway,
  limits: Limits,
  at: Taking,
  seconds: number
): Effect.Effect<Taken, EtcdFailure> =>
  Effect.flatMap(keepAlive(gateway, limits, at.lease), (kept) =>
    kept.seconds > 0
      ? Effect.map(take(gateway, limits, at), (outcome) => ({ kept, outcome }))
      : takeWithNew(gateway, limits, at, seconds))

/**
 * Makes the lease and takes the lock with it side by side, which saves one of three round trips.
 *
 * A transaction that overtakes its lease is refused and changes nothing, so it is sent again when both are answered: the
 * lease is there by then. Neither is interrupted because the other fails: it could still arrive, and an attempt that may
 * is only known (`unanswered`) if its own end was waited for.
 */
export const takeWithNew = (
  gateway: Gateway,
  limits: Limits,
  at: Taking,
  seconds: number
): Effect.Effect<Taken, EtcdFailure> =>
  Effect.gen(function*() {
    const [granted, taken] = yield* Effect.all([
      Effect.result(grant(gateway, limits, at.lease, seconds)),
      Effect.result(take(gateway, limits, at))
    ], { concurrency: 2 })
    const kept = yield* Effect.fromResult(granted)
    const isOvertaking = Result.isFailure(taken) && isStatus(taken.failure, code.notFound)
    const outcome = yield* isOvertaking ? take(gateway, limits, at) : Effect.fromResult(taken)
    return { kept, outcome }
  })

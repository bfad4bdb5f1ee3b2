/**
 * Renewing: one change of the object's metadata, conditional on its generation, which each grant has of its own.
 *
 * So a renewal can't touch a successor, and sending it again is harmless. It changes `seq` only: one that arrives late
 * can't bring back a lock that was given back meanwhile. It counts only if the answer shows our grant, held, with a
 * higher metageneration than before: an answer from a memory of the service, or of something between, renews nothing.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as LockBackend from "../../LockBackend.ts"
import { type BackendReason, Protocol } from "../../LockError.ts"
import * as Calls from "./gcsCalls.ts"
import { objectOf } from "./gcsPlace.ts"
import { type LockObject, tokenOf } from "./gcsRecord.ts"
import { type GcsStore, look } from "./gcsStore.ts"

/** What a handle says about a grant. */
export interface Grant {
  readonly generation: bigint
  readonly metageneration: bigint
  readonly ttl: number
  readonly ownerId: string
}

/** Reads a handle; `undefined` if it is none of ours. */
export const parseHandle = (handle: string): Grant | undefined => {
  const [, generation, metageneration, ttl, ownerId] = /^(\d{1,19})\.(\d{1,19})\.(\d{1,15})\.(.+)$/s.exec(handle) ?? []
  return generation === undefined || metageneration === undefined || ownerId === undefined
    ? undefined
    : { generation: BigInt(generation), metageneration: BigInt(metageneration), ttl: Number(ttl), ownerId }
}

/** The handle of the grant that an object shows. */
export const handleOf = ({ generation, metageneration, record }: LockObject): string =>
  `${generation}.${metageneration}.${record.ttl}.${record.ownerId}`

/** The grant that an object shows, as the answer to a try. */
export const acquired = (object: LockObject): LockBackend.Acquired => ({
  _tag: "Acquired",
  fencingToken: Option.some(tokenOf(object)),
  handle: handleOf(object),
  grantedTtl: Duration.millis(object.record.ttl)
})

/** The ttl as the object carries it. */
export const wholeTtl = (ttl: Duration.Duration): number => Math.ceil(Duration.toMillis(ttl))

/** Renews a lease. */
export const renew = (
  store: GcsStore,
  request: LockBackend.RenewRequest
): Effect.Effect<LockBackend.Renewed | LockBackend.Lost, BackendReason> =>
  Effect.gen(function*() {
    const grant = parseHandle(request.handle)
    if (grant === undefined || grant.ownerId !== request.ownerId) return lost("Taken")
    const { name } = yield* objectOf(store.place, request.key)
    const budget = yield* Calls.start(request.budget)
    const ttl = wholeTtl(request.ttl)
    const renewed = ttl > grant.ttl
      ? yield* lengthen(store, budget, name, grant, ttl)
      : yield* extend(store, budget, name, grant)
    if (renewed !== undefined) {
      return { _tag: "Renewed", handle: handleOf(renewed), grantedTtl: Duration.millis(renewed.record.ttl) }
    }
    // That the lease is lost is known; this only tells how, so it need not be known.
    return yield* Effect.match(look(store, budget, name), {
      onFailure: () => lost("Taken"),
      onSuccess: (seen) =>
        lost(
          seen === undefined || seen.object.record.state === "free" || seen.object.record.ownerId === request.ownerId
            ? "Gone"
            : "Taken"
        )
    })
  })

/** Sets the whole ttl of a grant again; `undefined` if it is no more. */
export const extend = (
  { service }: GcsStore,
  budget: Calls.Budget,
  name: string,
  grant: Grant
): Effect.Effect<LockObject | undefined, BackendReason> =>
  Effect.flatMap(
    Calls.patch(service, budget, name, { generation: grant.generation }),
    (answer) => confirmed(grant, answer)
  )

/** The same with a longer ttl, for which the present version must be known: a ttl is never written blindly. */
export const lengthen = (
  store: GcsStore,
  budget: Calls.Budget,
  name: string,
  grant: Grant,
  ttl: number
): Effect.Effect<LockObject | undefined, BackendReason> =>
  Effect.gen(function*() {
    for (let round = 0; round < mostRounds; round++) {
      const seen = yield* look(store, budget, name)
      if (seen === undefined || !isOf(grant, seen.object)) return undefined
      const { generation, metageneration, record } = seen.object
      if (record.ttl >= ttl) return yield* extend(store, budget, name, { ...grant, metageneration })
      const answer = yield* Calls.patch(
        store.service,
        budget,
        name,
        { generation, metageneration },
        { ttl: String(ttl) }
      )
      if (answer._tag !== "Mismatch") return yield* confirmed({ ...grant, metageneration }, answer)
    }
    return yield* unsettled
  })

/** How often one verb decides anew because the object changed between its look and its change. */
export const mostRounds = 3

/** The object changes faster than one can look. */
export const unsettled: Effect.Effect<never, Protocol> = Effect.fail(
  new Protocol({ detail: "the object changed between each look at it and the change that was decided for it" })
)

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const lost = (reason: LockBackend.Lost["reason"]): LockBackend.Lost => ({ _tag: "Lost", reason })

const isOf = (grant: Grant, { generation, record }: LockObject): boolean =>
  generation === grant.generation && record.ownerId === grant.ownerId && record.state === "held"

const confirmed = (grant: Grant, answer: Calls.Answer): Effect.Effect<LockObject | undefined, BackendReason> => {
  if (answer._tag !== "Found" || !isOf(grant, answer.object)) return Effect.succeed(undefined)
  return answer.object.metageneration > grant.metageneration
    ? Effect.succeed(answer.object)
    : Effect.fail(
      new Protocol({
        detail: "patch: the answer to a renewal does not show a higher metageneration than before, so nothing shows "
          + "that it was done. Emulators that don't count metagenerations can't carry locks"
      })
    )
}

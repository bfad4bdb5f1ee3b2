/**
 * Taking, keeping and giving back a lock: a lease is read, judged, and replaced only as it was read.
 *
 * - Every write names the uid and the resourceVersion of what it replaces. So of two writers one is refused, and what
 *   arrives late, after anything else was written, is refused too.
 * - A release keeps the object: the next grant replaces it, and a late write of the last one can't find nothing there.
 * - Who finds its own owner id on the object writes before it says that it has the lock: a duration that began earlier
 *   is nothing to trust.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Option from "effect/Option"
import * as Lease from "../../Lease.ts"
import type { Acquired, AcquireRequest, Held, Lost, Renewed, RenewRequest } from "../../LockBackend.ts"
import type { BackendReason } from "../../LockError.ts"
import * as Api from "./kubernetesApi.ts"
import * as Failure from "./kubernetesFailure.ts"
import * as Found from "./kubernetesLease.ts"
import * as Store from "./kubernetesStore.ts"
import { nowOf } from "./kubernetesTime.ts"
import * as Write from "./kubernetesWrite.ts"
import * as Tombstones from "./tombstones.ts"

/** How often a lease is read anew within one verb, because somebody else wrote in between. */
export const mostRounds = 6

/** Tries to take the lock. */
export const acquire = (
  store: Store.Store,
  request: AcquireRequest
): Effect.Effect<Acquired | Held, BackendReason> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const target = yield* Store.targetOf(store, request.key)
    const timeout = Store.timeoutOf(request.budget)
    const { ownerId } = request
    let own = false
    for (let round = 0; round < mostRounds; round++) {
      const seen = yield* read(store, target, timeout)
      const { lease } = seen
      // Asked after each reading: a release of this owner id may have come in between.
      if (isDead(store, ownerId, clock) || (lease !== undefined && Found.deadOf(lease).has(ownerId))) {
        return lease === undefined ? nobody : heldBy(store, request, lease, Store.judge(store, lease, seen))
      }
      if (lease !== undefined) {
        own = Found.isHeldBy(lease, ownerId)
        const verdict = Store.judge(store, lease, seen)
        if (own && Found.isDraining(lease)) return heldBy(store, request, lease, verdict)
        if (!own && verdict._tag === "Held") return heldBy(store, request, lease, verdict)
      } else own = false
      const life = signOfLife(store, clock, request.ttl, own ? lease : undefined)
      const written = lease !== undefined && own
        ? yield* put(store, target, Write.renew(target, lease, { ...life, metadata: request.metadata }), timeout)
        : yield* put(
          store,
          target,
          Write.take(target, lease, { ...life, ownerId, grant: freshGrant(), metadata: request.metadata }),
          timeout,
          lease === undefined
        )
      if (written !== undefined) {
        Store.remember(store.written, ownerId, written.lease)
        store.refused.delete(ownerId)
        return {
          _tag: "Acquired",
          fencingToken: Option.some(Found.tokenOf(written.lease)),
          handle: handleOf(written.lease),
          grantedTtl: wholeSeconds(request.ttl)
        }
      }
    }
    return own ? yield* Failure.restless() : nobody
  })

/** Renews a grant. */
export const renew = (store: Store.Store, request: RenewRequest): Effect.Effect<Renewed | Lost, BackendReason> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const target = yield* Store.targetOf(store, request.key)
    const timeout = Store.timeoutOf(request.budget)
    const { handle, ownerId } = request
    const known = store.written.get(ownerId)
    let lease = known !== undefined && isGrant(known, ownerId, handle, target) ? known : undefined
    for (let round = 0; round < mostRounds; round++) {
      if (lease === undefined) {
        const seen = yield* read(store, target, timeout)
        if (seen.lease === undefined || !isGrant(seen.lease, ownerId, handle, target) || Found.isDraining(seen.lease)) {
          store.written.delete(ownerId)
          return whyLost(seen.lease, ownerId)
        }
        lease = seen.lease
      }
      const written = yield* put(
        store,
        target,
        Write.renew(target, lease, signOfLife(store, clock, request.ttl, lease)),
        timeout
      )
      if (written !== undefined) {
        Store.remember(store.written, ownerId, written.lease)
        return { _tag: "Renewed", handle, grantedTtl: wholeSeconds(request.ttl) }
      }
      lease = undefined
    }
    return yield* Failure.restless()
  })

/** Reads the lease of a key, and makes sure that it is that key's. */
export const read = (
  store: Store.Store,
  { place }: Write.Target,
  timeout: Duration.Duration
): Effect.Effect<Api.Seen, BackendReason> =>
  Effect.flatMap(Store.noticed(store, Api.get(store.api, place.name, timeout)), (seen) => {
    const { lease } = seen
    if (lease !== undefined && lease.metadata.name !== place.name) {
      return Effect.fail(Failure.unreadable("Lease of the name that was asked for"))
    }
    return lease === undefined || Found.isOf(lease, place)
      ? Effect.succeed(seen)
      : Effect.fail(Failure.foreign(place.name, Found.noteOf(lease, "key"), Found.noteOf(lease, "namespace")))
  })

/**
 * Writes, and believes an answer only if it shows what was written; `undefined` if something else was written in
 * between. What is there then is seen from now on.
 */
export const put = (
  store: Store.Store,
  { place }: Write.Target,
  writing: Write.Writing,
  timeout: Duration.Duration,
  isNew = false
): Effect.Effect<Api.Written | undefined, BackendReason> =>
  Effect.flatMap(
    Store.noticed(
      store,
      isNew ? Api.create(store.api, writing, timeout) : Api.replace(store.api, place.name, writing, timeout)
    ),
    (written) => {
      if (written === undefined) return Effect.undefined
      if (!Write.isKept(writing, written.lease)) return Effect.fail(Failure.unkept())
      Store.sight(store, written.lease, written.after)
      return Effect.succeed(written)
    }
  )

/** Whether the lease is this grant: the owner id's, and the one that the handle was given for. */
export const isGrant = (
  lease: Found.LeaseObject,
  ownerId: string,
  handle: string,
  { place }: Write.Target
): boolean => Found.isHeldBy(lease, ownerId) && handleOf(lease) === handle && lease.metadata.name === place.name

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const nobody: Held = { _tag: "Held", holders: [], retryAfter: Option.none() }

const isDead = (store: Store.Store, ownerId: string, clock: Clock.Clock): boolean =>
  Tombstones.has(store.dead, ownerId, Lease.stamp(clock).monotonic)

const heldBy = (
  store: Store.Store,
  { ownerId, willWait }: AcquireRequest,
  lease: Found.LeaseObject,
  verdict: Store.Verdict
): Held => {
  if (willWait) Store.remember(store.refused, ownerId, lease.metadata.resourceVersion)
  if (verdict._tag !== "Held") return nobody
  const holder = Found.shownHolder(lease, verdict.holder, verdict.left)
  return { _tag: "Held", holders: [holder], retryAfter: holder.remaining }
}

const signOfLife = (
  store: Store.Store,
  clock: Clock.Clock,
  ttl: Duration.Duration,
  found: Found.LeaseObject | undefined
): Write.SignOfLife => ({
  now: nowOf(clock),
  serverTime: Store.serverTimeNow(store, Lease.stamp(clock)),
  seconds: Math.max(secondsOf(ttl), found?.spec?.leaseDurationSeconds ?? 1)
})

// What was written is this, or longer, and is what the server keeps.
const wholeSeconds = (ttl: Duration.Duration): Duration.Duration => Duration.seconds(secondsOf(ttl))

const secondsOf = (ttl: Duration.Duration): number => Math.ceil(Duration.toMillis(ttl) / 1000)

const freshGrant = (): string => Hex.encode(globalThis.crypto.getRandomValues(new Uint8Array(12)))

// The uid too: a grant ends with its object.
const handleOf = (lease: Found.LeaseObject): string => `${Found.grantOf(lease)}.${lease.metadata.uid}`

const whyLost = (lease: Found.LeaseObject | undefined, ownerId: string): Lost => {
  const holder = lease === undefined ? undefined : Found.holderIdentity(lease)
  return { _tag: "Lost", reason: holder === undefined || holder === ownerId ? "Gone" : "Taken" }
}

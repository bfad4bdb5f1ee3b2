/**
 * What one instance of the Kubernetes backend knows, and how it judges what it reads.
 *
 * A lease is over if it was seen unchanged for its duration on our own clock: client-go's rule, which needs no two
 * clocks to agree. Its times are the holder's and say nothing. With `expiry: "serverDate"` it is also over if the API
 * server's own time, by which holders of this library note their renewals, says so.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Holder } from "../../Holder.ts"
import type * as Lease from "../../Lease.ts"
import type { BackendReason } from "../../LockError.ts"
import type { Answer, Api } from "./kubernetesApi.ts"
import { endOnServer, holderIdentity, type LeaseObject, lifeOf, shownHolder, versionOf } from "./kubernetesLease.ts"
import { labelOf, type Place, placeOf } from "./kubernetesName.ts"
import { type ServerTime, serverTimeAtMost } from "./kubernetesTime.ts"
import type { Target } from "./kubernetesWrite.ts"
import * as Sightings from "./sightings.ts"
import * as Tombstones from "./tombstones.ts"

/** What decides that a lease of ours is over. */
export type Expiry = "observed" | "serverDate"

/** One instance's knowledge. Nothing in it is needed to be right, only to ask less. */
export interface Store {
  readonly api: Api
  readonly namespace: string
  readonly label: string
  readonly expiry: Expiry
  readonly sightings: Sightings.Sightings
  readonly dead: Tombstones.Tombstones
  /** What an owner id wrote last, so that its next write needs no reading. */
  readonly written: Map<string, LeaseObject>
  /** The resourceVersion at which a waiting owner id was refused. */
  readonly refused: Map<string, string>
  /** Where keys are: hashing is not free. */
  readonly places: Map<string, Place>
  server: ServerTime | undefined
}

/** Nothing known yet. */
export const make = (api: Api, namespace: string, expiry: Expiry): Effect.Effect<Store> =>
  Effect.map(labelOf(namespace), (label) => ({
    api,
    namespace,
    label,
    expiry,
    sightings: Sightings.make(),
    dead: Tombstones.make(),
    written: new Map(),
    refused: new Map(),
    places: new Map(),
    server: undefined
  }))

/** The most that is remembered of each kind; what is not, costs a request more. */
export const mostRemembered = 4096

/** Remembers `value`, and forgets the oldest. */
export const remember = <A>(map: Map<string, A>, name: string, value: A): void => {
  map.delete(name)
  map.set(name, value)
  if (map.size <= mostRemembered) return
  for (const oldest of map.keys()) {
    map.delete(oldest)
    break
  }
}

/** Where a key's lock is. */
export const targetOf = (store: Store, key: string): Effect.Effect<Target> =>
  Effect.suspend(() => {
    const known = store.places.get(key)
    if (known !== undefined) return Effect.succeed({ place: known, label: store.label })
    return Effect.map(placeOf(store.namespace, key), (place) => {
      remember(store.places, key, place)
      return { place, label: store.label }
    })
  })

/** The bound of one request of a verb. */
export const timeoutOf = (budget: Duration.Duration): Duration.Duration => Duration.times(budget, 1 / 3)

/** Keeps what an answer tells of the server's time, and gives the answer back. */
export const noticed = <A extends Answer | undefined>(
  store: Store,
  self: Effect.Effect<A, BackendReason>
): Effect.Effect<A, BackendReason> =>
  Effect.map(self, (answer) => {
    if (answer?.server !== undefined) store.server = answer.server
    return answer
  })

/** A time not before the server's, if it is known. */
export const serverTimeNow = (store: Store, now: Lease.Stamp): number | undefined =>
  store.server === undefined ? undefined : serverTimeAtMost(store.server, now)

/** Whether a lock is free, and if not, how long it is held at most if it is not renewed, in milliseconds. */
export type Verdict =
  | { readonly _tag: "Free" }
  | { readonly _tag: "Over" }
  | { readonly _tag: "Held"; readonly holder: string; readonly left: number }

/** Judges what was read. */
export const judge = (store: Store, lease: LeaseObject, answer: Answer): Verdict => {
  const holder = holderIdentity(lease)
  if (holder === undefined) return { _tag: "Free" }
  const life = lifeOf(lease)
  if (life === Infinity) return { _tag: "Held", holder, left: Infinity }
  const { after, before } = answer
  const unseen = Sightings.timeLeft(
    store.sightings,
    lease.metadata.name,
    { version: versionOf(lease), before, after },
    life
  )
  const left = store.expiry === "serverDate" ? Math.min(unseen, leftOnServer(lease, answer) ?? Infinity) : unseen
  return left <= 0 ? { _tag: "Over" } : { _tag: "Held", holder, left }
}

/** Notes that a lease was seen as it is: its unchanged time begins, unless it has. */
export const sight = (store: Store, lease: LeaseObject, at: Lease.Stamp): void => {
  const version = versionOf(lease)
  Sightings.timeLeft(store.sightings, lease.metadata.name, { version, before: at, after: at }, 0)
}

/**
 * Who holds it, for people: whoever does by the server's own time, where it is noted. `judged` is as above, if it was.
 *
 * That needs no patience: a decision needs two looks, a lease's duration apart, but a listing has only one.
 */
export const shown = (lease: LeaseObject, answer: Answer, judged: Verdict | undefined): ReadonlyArray<Holder> => {
  const holder = holderIdentity(lease)
  if (holder === undefined || judged?._tag === "Free" || judged?._tag === "Over") return []
  const left = leftOnServer(lease, answer) ?? judged?.left
  return left !== undefined && left <= 0 ? [] : [shownHolder(lease, holder, left)]
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const leftOnServer = (lease: LeaseObject, { server }: Answer): number | undefined => {
  const end = endOnServer(lease)
  return end === undefined || server === undefined ? undefined : end - server.atLeast
}

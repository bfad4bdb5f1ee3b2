/**
 * What the verbs of one backend share.
 */
import * as Effect from "effect/Effect"
import * as Lease from "../../Lease.ts"
import type { BackendReason } from "../../LockError.ts"
import * as Calls from "./gcsCalls.ts"
import type { Place } from "./gcsPlace.ts"
import type { Seen } from "./gcsVerdict.ts"
import type { Sightings } from "./sightings.ts"
import type { Tombstones } from "./tombstones.ts"

/** One backend. */
export interface GcsStore {
  readonly service: Calls.Service
  readonly place: Place
  /** A lock that is given back leaves its object, for the fencing token. */
  readonly keeps: boolean
  /** Leases end by the server's clock, not only by observation. */
  readonly trustsDate: boolean
  readonly dead: Tombstones
  readonly sightings: Sightings
  /** Owner ids that tried before. Each of their further tries is a poll, and begins by looking. */
  readonly tried: Set<string>
}

/** Beyond this the oldest try is forgotten, which costs its next one a request. */
export const mostTried = 4096

/** Whether this owner id tried before; from now on it did. */
export const hasTried = ({ tried }: GcsStore, ownerId: string): boolean => {
  const known = tried.delete(ownerId)
  tried.add(ownerId)
  if (tried.size > mostTried) {
    for (const oldest of tried) {
      tried.delete(oldest)
      break
    }
  }
  return known
}

/** Both local clocks, now. */
export const stamp: Effect.Effect<Lease.Stamp> = Effect.clockWith((clock) => Effect.succeed(Lease.stamp(clock)))

/** What is there; `undefined` if nothing is. */
export const look = (
  { service }: GcsStore,
  budget: Calls.Budget,
  name: string
): Effect.Effect<Seen | undefined, BackendReason> =>
  Effect.gen(function*() {
    const before = yield* stamp
    const answer = yield* Calls.get(service, budget, name)
    return answer._tag === "Found"
      ? { object: answer.object, date: answer.date, before, after: yield* stamp }
      : undefined
  })

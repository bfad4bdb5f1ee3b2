/**
 * Whether the lease in an object has ended. No two clients' clocks are compared, whichever rule tells.
 *
 * - By the server's clock: the `Date` of an answer minus the `updated` of the object in it. Both are the service's own
 *   stamps. `Date` is truncated to seconds, so the age is never overestimated; `updated` is later than the request that
 *   set the lease was sent, so the lease ends later for everybody else than for its holder.
 * - By observation: the same version was seen for the ttl on our own clock. Always safe, but it takes a ttl to find out.
 *
 * The first is N. Cruces' (gmutex), the second that of Kubernetes' leader election.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type { Holder } from "../../Holder.ts"
import type * as Lease from "../../Lease.ts"
import { type LockObject, tokenOf } from "./gcsRecord.ts"
import * as Sightings from "./sightings.ts"

/** How much longer than its ttl a lease is left alone: for clocks that differ within the service, or in rate. */
export const grace = 2000

/** An object and when it was seen: `date` by the server's clock, `before` and `after` its request by ours. */
export interface Seen {
  readonly object: LockObject
  readonly date: number
  readonly before: Lease.Stamp
  readonly after: Lease.Stamp
}

/** How much longer, in milliseconds, until the lease may be taken over; 0 or less if it may. */
export const timeLeft = (sightings: Sightings.Sightings, trustsDate: boolean, seen: Seen): number => {
  const { generation, metageneration, name, record } = seen.object
  const version = `${generation}.${metageneration}`
  const observed = Sightings.timeLeft(sightings, name, { ...seen, version }, record.ttl + grace)
  return trustsDate ? Math.min(observed, timeLeftByDate(seen) ?? Infinity) : observed
}

/** The same by the server's clock alone; `undefined` if it did not tell. */
export const timeLeftByDate = (
  { date, object }: { readonly date: number; readonly object: LockObject }
): number | undefined => {
  const age = date - object.updated
  return Number.isNaN(age) ? undefined : object.record.ttl + grace - Math.max(age, 0)
}

/** The holder that an object shows. */
export const holderOf = (object: LockObject, left: number | undefined): Holder => ({
  ownerId: object.record.ownerId,
  // When this generation was made: at the grant, but for a draining lock, whose present object is the operator's.
  since: object.record.state === "held" ? DateTime.make(object.created) : Option.none(),
  remaining: left === undefined ? Option.none() : Option.some(Duration.millis(Math.max(left, 1))),
  fencingToken: Option.some(tokenOf(object)),
  metadata: object.record.metadata
})

/** Whether anybody holds what the object says, as far as the server's clock tells: for people, not for decisions. */
export const isHeld = (seen: { readonly date: number; readonly object: LockObject }): boolean =>
  seen.object.record.state !== "free" && (timeLeftByDate(seen) ?? 1) > 0

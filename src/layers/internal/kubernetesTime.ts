/**
 * Times as Lease objects have them, and the API server's time as far as we can know it.
 */
import type * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import type * as Headers from "effect/http/Headers"
import * as Option from "effect/Option"
import * as Lease from "../../Lease.ts"

/** A time of `Clock.currentTimeNanos` with exactly six fractional digits: API servers refuse any other number of them. */
export const microTime = (nanos: bigint): string => {
  const micros = nanos / 1000n
  const millis = DateTime.formatIso(DateTime.makeUnsafe(Number(micros / 1000n)))
  return millis.replace(/Z$/, `${String(micros % 1000n).padStart(3, "0")}Z`)
}

/** The present time in that form. */
export const nowOf = (clock: Clock.Clock): string => microTime(clock.currentTimeNanosUnsafe())

/** Milliseconds since 1970 of a time in an object or header, if it is one. */
export const millisOf = (text: string | undefined): number | undefined =>
  text === undefined
    ? undefined
    : Option.getOrUndefined(Option.map(DateTime.make(text), DateTime.toEpochMillis))

/** What an answer told of the server's time, in milliseconds: it is at least `atLeast` when the answer is there. */
export interface ServerTime {
  readonly atLeast: number
  /** Read before the question was sent: at that moment the server's time was at most `atLeast` and a second. */
  readonly askedAt: Lease.Stamp
}

/** The server's time as its `Date` header tells it, if there is one. */
export const serverTime = (headers: Headers.Headers, askedAt: Lease.Stamp): ServerTime | undefined => {
  const date = millisOf(headers["date"])
  return date === undefined ? undefined : { atLeast: date, askedAt }
}

/**
 * A time that is not before the server's at this moment, in milliseconds.
 *
 * The header is cut off to whole seconds, and was written after the question was sent: so a second, and all that passed
 * since the question, are added. A stamp that is too late keeps a dead holder's lease a little longer; one that is too
 * early would end a live one's.
 */
export const serverTimeAtMost = (seen: ServerTime, now: Lease.Stamp): number =>
  Math.ceil(seen.atLeast + 1000 + Lease.elapsedForTrust(seen.askedAt, now))

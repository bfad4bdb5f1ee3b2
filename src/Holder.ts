/**
 * Who holds a lock, as a backend reports it: for people and logs, never a basis for a decision. By the time the
 * answer is read the lock may have changed hands.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/**
 * One holder of a lock.
 *
 * **Details**
 *
 * - `ownerId`: the random identity of the acquisition; what `Lock.break` asks for. An identifier, not a secret.
 * - `since`: when it was acquired, if the backend records that. On the backend's or the holder's clock: for display.
 * - `remaining`: time until the lease expires unless it is renewed, on the backend's clock, if the backend can tell.
 * - `fencingToken`: the holder's fencing token, if the backend has one.
 * - `metadata`: what the holder passed as `metadata`; it may come from an untrusted process.
 *
 * @category models
 */
export const Holder = Schema.Struct({
  ownerId: Schema.String,
  since: Schema.Option(Schema.DateTimeUtc),
  remaining: Schema.Option(Schema.Duration),
  fencingToken: Schema.Option(Schema.BigInt),
  metadata: Schema.Record(Schema.String, Schema.String)
})

/**
 * One holder of a lock; see the schema of the same name for its fields.
 *
 * @category models
 */
export type Holder = typeof Holder.Type

/**
 * One line about a holder, for error messages and listings: who, since when, for how much longer.
 *
 * What comes from the holder is clipped, and its control characters are escaped: it may be anybody's.
 *
 * @category formatting
 */
export const format = (holder: Holder): string => {
  const parts = [`owner ${plain(holder.ownerId)}`]
  if (Option.isSome(holder.since)) parts.push(`since ${DateTime.formatIso(holder.since.value)}`)
  if (Option.isSome(holder.remaining)) {
    parts.push(`expires in ${Duration.format(holder.remaining.value)} unless renewed`)
  }
  const names = Object.keys(holder.metadata)
  for (const name of names.slice(0, mostFields)) parts.push(`${plain(name)}=${plain(holder.metadata[name] ?? "")}`)
  if (names.length > mostFields) parts.push(`and ${names.length - mostFields} more`)
  return parts.join(", ")
}

const mostFields = 8
const longestField = 120

const plain = (text: string): string => {
  const clipped = text.length > longestField ? `${text.slice(0, longestField)}…` : text
  return clipped.replace(/\p{Cc}/gu, (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`)
}

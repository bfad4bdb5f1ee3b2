/**
 * How a lock lies in a memcached: its name, its value, and what a handle says of it.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import type { Holder } from "../../Holder.ts"
import { encode } from "./encodedName.ts"

/**
 * The value of a lock. `grant` is like no other's: a delayed write can't pass for a later grant of the same owner id.
 * `since` in milliseconds, on the holder's clock.
 *
 * As JSON it is one line that starts with a brace: what reads it as commands (a server that does not know the one before
 * it) finds none.
 */
export const MemcachedRecord = Schema.Struct({
  v: Schema.Literal(1),
  namespace: Schema.String,
  key: Schema.String,
  ownerId: Schema.String,
  grant: Schema.String,
  since: Schema.Finite,
  draining: Schema.optionalKey(Schema.Literal(true)),
  metadata: Schema.Record(Schema.String, Schema.String)
})

export type MemcachedRecord = typeof MemcachedRecord.Type

/** The longest name of an item, in bytes. */
export const longestName = 250

/**
 * The name of the item: injective, and of plain characters only. `:` and `#` can't occur in what is encoded, so no two
 * pairs of namespace and key meet, hashed or not.
 */
export const nameOf = (namespace: string, key: string): string => {
  const name = `effect-lock:${encode(namespace)}:${encode(key)}`
  if (name.length <= longestName) return name
  const digest = createHash("sha256").update(JSON.stringify([namespace, key])).digest("hex")
  return `effect-lock#${digest}`
}

/** The text of a record. */
export const encodeRecord = (record: MemcachedRecord): string => JSON.stringify(record)

/** The record that a value is, if it is one. */
export const decodeRecord: (text: string) => Option.Option<MemcachedRecord> = Schema.decodeUnknownOption(
  Schema.fromJsonString(MemcachedRecord)
)

/** The holder that a record stands for. */
export const holderOf = (record: MemcachedRecord, remaining: Option.Option<Duration.Duration>): Holder => ({
  ownerId: record.ownerId,
  since: DateTime.make(record.since),
  remaining,
  fencingToken: Option.none(),
  metadata: record.metadata
})

/**
 * The longest relative expiry in seconds: memcached reads more as a date. A ttl is at most a day, so nothing of ours
 * comes near.
 */
export const longestExpiry = 30 * 24 * 60 * 60

/**
 * Seconds of expiry for a ttl. An item of n seconds lives from n - 1 to n, because the server's clock ticks once a
 * second: hence one more. Never 0, which would be for ever.
 */
export const expiryOf = (ttl: Duration.Duration): number => Math.max(1, Math.ceil(Duration.toSeconds(ttl))) + 1

/**
 * What a handle says. `session` and `cas` are a short cut that is good only on the connection where the cas was learnt;
 * `grant` is what identifies. With the value in it a renewal needs not ask for it.
 */
export interface Handle {
  readonly session: string
  readonly cas: string
  readonly expiry: number
  readonly grant: string
  readonly ownerId: string
  readonly text: string
}

/** As text: five words without blanks, and the value. */
export const encodeHandle = ({ cas, expiry, grant, ownerId, session, text }: Handle): string =>
  `${session} ${cas} ${expiry} ${grant} ${encode(ownerId)} ${text}`

/** What a text says, if it is one of ours, and of this owner id. */
export const decodeHandle = (handle: string, ownerId: string): Handle | undefined => {
  const words = /^(\S+) (\d+) (\d+) (\S+) (\S+) (\{.*\})$/su.exec(handle)
  if (words === null || words[5] !== encode(ownerId)) return undefined
  const [, session = "", cas = "", expiry = "", grant = "", , text = ""] = words
  return { session, cas, expiry: Number(expiry), grant, ownerId, text }
}

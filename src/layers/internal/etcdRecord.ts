/**
 * What a lock is in etcd: the names of its key, its leases and its tombstones, and the value that says who holds it.
 *
 * `effect-lock/<namespace>/locks/<key>`, attached to the lease of its holder, and
 * `effect-lock/<namespace>/dead/<lease>`, attached to a lease that ends by itself. The encoded namespace has no slash, so
 * neither two namespaces nor the two kinds can meet; the key is the rest, as it is.
 */
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import type { Holder } from "../../Holder.ts"
import { Misconfigured } from "../../LockError.ts"
import { encode } from "./encodedName.ts"

/** The names of one namespace. */
export interface Names {
  readonly namespace: string
  readonly locks: string
  readonly dead: string
}

/** The names of `namespace`. */
export const namesOf = (namespace: string): Names => {
  const root = `effect-lock/${encode(namespace)}/`
  return { namespace, locks: `${root}locks/`, dead: `${root}dead/` }
}

/**
 * The lease of one owner id, chosen by us so that granting it can be sent again: 63 bits of a hash.
 *
 * `purpose` is empty for the lease of an acquisition. It belongs to one owner id and one key, so revoking it can free
 * nobody else's lock.
 */
export const leaseId = (names: Names, key: string, ownerId: string, purpose = ""): string => {
  // At once: Web Crypto answers from another thread, which takes longer than all else that is computed for a request.
  const hash = createHash("sha256").update(JSON.stringify([names.namespace, key, ownerId, purpose])).digest()
  const id = hash.readBigInt64BE(0) & 0x7fff_ffff_ffff_ffffn
  // 0 would ask etcd to choose.
  return (id === 0n ? 1n : id).toString()
}

/** The end of the range of everything that starts with `prefix`, in base64: the last byte is one more. */
export const endOfPrefix = (prefix: string): string => {
  const bytes = utf8.encode(prefix)
  // UTF-8 has no byte 0xff, so there is always one more.
  bytes[bytes.length - 1]! += 1
  return Base64.encode(bytes)
}

/** A revision: 63 bits, as text. Longer digits are not etcd's, and would take seconds to read. */
export const Revision = Schema.String.check(Schema.isPattern(/^\d{1,19}$/))

/** A key as etcd shows it: bytes in base64, 64-bit numbers as text, zeros left out. */
export const KeyValue = Schema.Struct({
  key: Schema.String,
  value: Schema.optionalKey(Schema.String),
  create_revision: Revision,
  lease: Schema.optionalKey(Schema.String)
})

/** The key itself. */
export const keyOf = (kv: typeof KeyValue.Type): string => Result.getOrElse(Base64.decodeString(kv.key), () => "")

/** One lock as it was found. `ownerId` is absent where the record is of another version than this code's. */
export interface Found {
  readonly revision: string
  readonly lease: string
  readonly ownerId: string | undefined
  readonly holder: Holder
}

/** The value of a lock's key, in base64. */
export const valueOf = (record: Omit<typeof Record.Type, "v">): string =>
  Base64.encode(JSON.stringify({ v: version, ...record }))

/**
 * What the key of a lock says.
 *
 * A record of another version is a holder like any other: its writer is alive and well, and its lease will end. What is
 * no record of ours, or is attached to no lease, would be held for ever by nobody: that is for an operator to mend.
 */
export const read = (kv: typeof KeyValue.Type): Effect.Effect<Found, Misconfigured> => {
  const text = Result.getOrElse(Base64.decodeString(kv.value ?? ""), () => "")
  const { create_revision: revision, lease = "0" } = kv
  const versioned = lease === "0" ? Option.none() : decodeVersion(text)
  if (Option.isNone(versioned)) {
    const detail = "something else than this library wrote the lock's key, or wrote it without a lease, so it would be "
      + "held for ever: delete the key if nobody needs it"
    return Effect.fail(new Misconfigured({ detail }))
  }
  const record = decodeRecord(text)
  const common = { remaining: Option.none<Duration.Duration>(), fencingToken: Option.some(BigInt(revision)) }
  if (Option.isNone(record)) {
    const ownerId = `other-version:${revision}`
    const holder = { ...common, ownerId, since: Option.none(), metadata: {} }
    return Effect.succeed({ revision, lease, ownerId: undefined, holder })
  }
  const { metadata, ownerId, since } = record.value
  return Effect.succeed({
    revision,
    lease,
    ownerId,
    holder: { ...common, ownerId, since: DateTime.make(since), metadata }
  })
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const version = 1

const utf8 = new TextEncoder()

// `since` in milliseconds of the holder's wall clock: for people.
const Record = Schema.Struct({
  v: Schema.Literal(version),
  ownerId: Schema.String,
  since: Schema.Finite,
  metadata: Schema.Record(Schema.String, Schema.String)
})

const decodeRecord = Schema.decodeUnknownOption(Schema.fromJsonString(Record))
const decodeVersion = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Struct({ v: Schema.Finite })))

/**
 * The requests that locks are made of, each of which can be sent again.
 *
 * Reads are linearizable, always: a serializable one is answered by a member that may have been cut off for long.
 *
 * Source: etcd API reference v3, https://etcd.io/docs/v3.4/dev-guide/api_reference_v3/, and its gRPC gateway.
 */
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Protocol } from "../../LockError.ts"
import { code, type EtcdFailure, isStatus } from "./etcdFailure.ts"
import { call, type Gateway, Header, type Limits } from "./etcdGateway.ts"
import { endOfPrefix, type Found, KeyValue, read } from "./etcdRecord.ts"

/** A lease, seconds it lives without being kept alive (0: it is not there), and the term in which that was said. */
export interface Kept {
  readonly seconds: number
  readonly term: string | undefined
  /** Made by this very request. */
  readonly fresh: boolean
}

/** A lock's key as it was found, and when. */
export interface Seen {
  readonly found: Found | undefined
  readonly term: string | undefined
  readonly revision: bigint
}

/** Makes a lease with an id of our choice; `undefined` if it is there already, whatever its ttl. */
export const grant = (
  gateway: Gateway,
  limits: Limits,
  id: string,
  seconds: number
): Effect.Effect<Kept | undefined, EtcdFailure> =>
  call(gateway, limits, "lease/grant", { ID: id, TTL: String(seconds) }, decodeGrant).pipe(
    Effect.map((answer): Kept => ({ seconds: Number(answer.TTL), term: answer.header.raft_term, fresh: true })),
    Effect.catchIf((failure) => isStatus(failure, code.precondition) && isThere(failure), () => Effect.undefined)
  )

/** Sets the whole ttl of a lease again. It says nothing about keys. */
export const keepAlive = (gateway: Gateway, limits: Limits, id: string): Effect.Effect<Kept, EtcdFailure> =>
  Effect.map(
    call(gateway, limits, "lease/keepalive", { ID: id }, decodeKeepAlive),
    ({ header, TTL = "0" }): Kept => ({ seconds: Number(TTL), term: header.raft_term, fresh: false })
  )

/** Makes a lease or, if it is there, sets its whole ttl again. */
export const grantOrKeep = (
  gateway: Gateway,
  limits: Limits,
  id: string,
  seconds: number
): Effect.Effect<Kept, EtcdFailure> =>
  Effect.flatMap(
    grant(gateway, limits, id, seconds),
    (granted) => granted === undefined ? keepAlive(gateway, limits, id) : Effect.succeed(granted)
  )

/** Ends a lease, and what is attached to it; whether it was there. */
export const revoke = (gateway: Gateway, limits: Limits, id: string): Effect.Effect<boolean, EtcdFailure> =>
  call(gateway, limits, "lease/revoke", { ID: id }, decodeNothing).pipe(
    Effect.as(true),
    Effect.catchIf((failure) => isStatus(failure, code.notFound), () => Effect.succeed(false))
  )

/** Seconds that a lease has left, 0 or less if it is gone: for display. */
export const timeToLive = (gateway: Gateway, limits: Limits, id: string): Effect.Effect<number, EtcdFailure> =>
  Effect.map(
    call(gateway, limits, "lease/timetolive", { ID: id }, decodeTimeToLive),
    ({ TTL = "0" }) => Number(TTL)
  )

/** What is at a lock's key now. */
export const look = (gateway: Gateway, limits: Limits, key: string): Effect.Effect<Seen, EtcdFailure> =>
  Effect.flatMap(
    call(gateway, limits, "kv/range", { key: Base64.encode(key) }, decodeRange),
    ({ header, kvs }) => seen(header, kvs)
  )

/** The keys with a prefix, from `from` on, at most `limit`, and whether there are more. */
export const lookAll = (
  gateway: Gateway,
  limits: Limits,
  range: { readonly from: string; readonly prefix: string; readonly limit: number }
): Effect.Effect<{ readonly kvs: ReadonlyArray<typeof KeyValue.Type>; readonly more: boolean }, EtcdFailure> =>
  Effect.map(
    call(gateway, limits, "kv/range", {
      key: Base64.encode(range.from),
      range_end: endOfPrefix(range.prefix),
      limit: String(range.limit)
    }, decodeRange),
    ({ kvs = [], more = false }) => ({ kvs, more })
  )

/** The answer to a transaction; `seen` is what the failed one found at the lock's key. */
export type Outcome =
  | { readonly _tag: "Done"; readonly revision: string; readonly term: string | undefined }
  | { readonly _tag: "Buried"; readonly seen: Seen }
  | { readonly _tag: "Refused"; readonly seen: Seen }

/** A lock's key, the lease it is to hang on, the tombstone that must not be there, and the value, in base64. */
export interface Taking {
  readonly key: string
  readonly tombstone: string
  readonly lease: string
  readonly value: string
}

/** Takes the lock if nobody has it and its owner id has no tombstone. */
export const take = (
  gateway: Gateway,
  limits: Limits,
  at: Taking
): Effect.Effect<Outcome, EtcdFailure> => {
  const [key, tombstone] = [Base64.encode(at.key), Base64.encode(at.tombstone)]
  return Effect.flatMap(
    call(gateway, limits, "kv/txn", {
      compare: [
        { target: "CREATE", result: "EQUAL", key, create_revision: "0" },
        { target: "CREATE", result: "EQUAL", key: tombstone, create_revision: "0" }
      ],
      success: [{ request_put: { key, value: at.value, lease: at.lease } }],
      failure: [{ request_range: { key } }, { request_range: { key: tombstone, keys_only: true } }]
    }, decodeTransaction),
    ({ header, responses = [], succeeded = false }) => {
      if (succeeded && header.revision !== undefined) {
        return Effect.succeed<Outcome>({ _tag: "Done", revision: header.revision, term: header.raft_term })
      }
      const [lock, dead] = responses.map((response) => response.response_range)
      if (succeeded || lock === undefined || dead === undefined) {
        return Effect.fail(new Protocol({ detail: "kv/txn: an answer without its parts" }))
      }
      const _tag = (dead.kvs ?? []).length > 0 ? "Buried" : "Refused"
      return Effect.map(seen(header, lock.kvs), (seen): Outcome => ({ _tag, seen }))
    }
  )
}

/** Attaches a lock that is still this grant to another lease; whether it was. */
export const move = (
  gateway: Gateway,
  limits: Limits,
  at: { readonly key: string; readonly revision: string; readonly from: string; readonly to: string }
): Effect.Effect<boolean, EtcdFailure> => {
  const key = Base64.encode(at.key)
  return Effect.map(
    call(gateway, limits, "kv/txn", {
      compare: [
        { target: "CREATE", result: "EQUAL", key, create_revision: at.revision },
        { target: "LEASE", result: "EQUAL", key, lease: at.from }
      ],
      success: [{ request_put: { key, ignore_value: true, lease: at.to } }]
    }, decodeTransaction),
    ({ succeeded = false }) => succeeded
  )
}

/** Puts up a tombstone, and looks at the lock's key in the same instant. */
export const bury = (
  gateway: Gateway,
  limits: Limits,
  at: { readonly key: string; readonly tombstone: string; readonly lease: string }
): Effect.Effect<Seen, EtcdFailure> =>
  Effect.flatMap(
    call(gateway, limits, "kv/txn", {
      success: [
        { request_put: { key: Base64.encode(at.tombstone), lease: at.lease } },
        { request_range: { key: Base64.encode(at.key) } }
      ]
    }, decodeTransaction),
    ({ header, responses = [] }) => {
      const lock = responses[1]?.response_range
      return lock === undefined
        ? Effect.fail(new Protocol({ detail: "kv/txn: an answer without its parts" }))
        : seen(header, lock.kvs)
    }
  )

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const seen = (
  header: typeof Header.Type,
  kvs: ReadonlyArray<typeof KeyValue.Type> | undefined
): Effect.Effect<Seen, EtcdFailure> => {
  const common = { term: header.raft_term, revision: BigInt(header.revision ?? 0) }
  const kv = kvs?.[0]
  return kv === undefined
    ? Effect.succeed({ ...common, found: undefined })
    : Effect.map(read(kv), (found) => ({ ...common, found }))
}

const isThere = (failure: EtcdFailure): boolean =>
  failure._tag === "EtcdStatus" && failure.message.includes("lease already exists")

const { decodeUnknownOption, fromJsonString, optionalKey, Struct } = Schema
const kvs = optionalKey(Schema.Array(KeyValue))
const int64 = Schema.String.check(Schema.isPattern(/^-?\d{1,19}$/))

const decodeNothing = decodeUnknownOption(fromJsonString(Struct({ header: Header })))
const decodeGrant = decodeUnknownOption(fromJsonString(Struct({ header: Header, TTL: int64 })))
const decodeTimeToLive = decodeUnknownOption(fromJsonString(Struct({ header: Header, TTL: optionalKey(int64) })))
const decodeRange = decodeUnknownOption(
  fromJsonString(Struct({ header: Header, kvs, more: optionalKey(Schema.Boolean) }))
)
const decodeTransaction = decodeUnknownOption(fromJsonString(Struct({
  header: Header,
  succeeded: optionalKey(Schema.Boolean),
  responses: optionalKey(Schema.Array(Struct({ response_range: optionalKey(Struct({ kvs })) })))
})))
const decodeStreamed = decodeUnknownOption(
  fromJsonString(Struct({ result: Struct({ header: Header, TTL: optionalKey(int64) }) }))
)
const decodeKeepAlive = (text: string) => Option.map(decodeStreamed(text), ({ result }) => result)

/**
 * The record of one grant: an immutable file. What changes about a grant is not in it but in its mtime (the last
 * renewal, 0 once it is released) and in the names beside it.
 */
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Holder } from "../../Holder.ts"
import { ProcessIdentity } from "./processIdentity.ts"

/** The version this code writes. */
export const version = 1

/** More than this is not read: a record is at most about 8 KiB (4 KiB of metadata, names of 512 bytes). */
export const longest = 16_384

/** What is in a record; `ttl` and `acquiredAt` in milliseconds. */
export const FileRecord = Schema.Struct({
  v: Schema.Literal(version),
  namespace: Schema.String,
  key: Schema.String,
  ownerId: Schema.String,
  ttl: Schema.Finite.check(Schema.isGreaterThan(0)),
  acquiredAt: Schema.Finite,
  ...ProcessIdentity.fields,
  metadata: Schema.Record(Schema.String, Schema.String)
})

export type FileRecord = typeof FileRecord.Type

/** What was found in a record's file. */
export type Found =
  | { readonly _tag: "Record"; readonly record: FileRecord }
  | { readonly _tag: "OtherVersion" }
  | { readonly _tag: "Damaged" }

/** The text of a record. */
export const encode = (record: FileRecord): string => JSON.stringify(record)

/**
 * Reads a record, whatever is in the file.
 *
 * Another version is not damage: its writer is alive and well, and what frees its lock is its business.
 */
export const decode = (text: string): Found => {
  const record = decodeRecord(text)
  if (Option.isSome(record)) return { _tag: "Record", record: record.value }
  const versioned = decodeVersion(text)
  return { _tag: Option.isSome(versioned) && versioned.value.v !== version ? "OtherVersion" : "Damaged" }
}

/** The holder that a record's file stands for; `generation` is its fencing token. */
export const holderOf = (found: Found, generation: string, remaining: Option.Option<Duration.Duration>): Holder => {
  const fencingToken = Option.some(BigInt(generation))
  if (found._tag === "Record") {
    const { acquiredAt, metadata, ownerId } = found.record
    return { ownerId, since: DateTime.make(acquiredAt), remaining, fencingToken, metadata }
  }
  const what = found._tag === "Damaged" ? "damaged" : "other-version"
  return { ownerId: `${what}:${generation}`, since: Option.none(), remaining, fencingToken, metadata: {} }
}

const decodeRecord = Schema.decodeUnknownOption(Schema.fromJsonString(FileRecord))
const decodeVersion = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Struct({ v: Schema.Finite })))

/**
 * Where locks are in a bucket: the location that a user writes, and the object of a key.
 *
 * `<objectPrefix>n-<namespace>/l-<key>`, both encoded by `encodedName.ts`, so that no two pairs of namespace and key are
 * one object. A name too long is a hash; the record then carries the key itself.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { invalidNamespace } from "../../LockOptions.ts"
import { decode, encode, fileName, longest } from "./encodedName.ts"

/** A bucket, and what the names of its locks start with. */
export interface Place {
  readonly bucket: string
  readonly folder: string
}

/** The options that say where. */
export interface Location {
  readonly bucket: string
  readonly objectPrefix?: string | undefined
  readonly namespace?: string | undefined
}

/** Reads the location; a failure says what is wrong with it. */
export const parse = (location: Location): Result.Result<{ bucket: string; prefix: string }, string> => {
  if (typeof location.bucket !== "string") return Result.fail(bucketIs("what was given"))
  const [, inUrl, path] = /^gs:\/\/([^/]*)\/?(.*)$/s.exec(location.bucket) ?? []
  if (path !== undefined && path !== "" && location.objectPrefix !== undefined) {
    return Result.fail(
      "bucket names a location with a prefix, and objectPrefix gives another one: leave out one of the two"
    )
  }
  const bucket = inUrl ?? location.bucket
  if (!/^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$/.test(bucket)) return Result.fail(bucketIs("it"))
  const prefix = location.objectPrefix ?? path ?? ""
  if (
    typeof prefix !== "string" || !prefix.isWellFormed() || /\p{Cc}/u.test(prefix) || prefix.startsWith("/") ||
    utf8.encode(prefix).length > longestPrefix
  ) {
    return Result.fail(
      `objectPrefix must be text without control characters, at most ${longestPrefix} bytes, that does not start `
        + "with /, such as \"locks/\""
    )
  }
  if (prefix.startsWith(".well-known/acme-challenge/")) {
    return Result.fail("objectPrefix: Cloud Storage keeps .well-known/acme-challenge/ for itself; choose another one")
  }
  const invalid = invalidNamespace(location.namespace ?? "")
  return invalid === undefined ? Result.succeed({ bucket, prefix }) : Result.fail(invalid.message)
}

/** The place that a valid location names. */
export const make = (
  { bucket, namespace, prefix }: { bucket: string; prefix: string; namespace: string }
): Effect.Effect<Place> =>
  Effect.map(fileName("n", namespace), (name): Place => ({ bucket, folder: `${prefix}${name}/` }))

/** The object of a key, and whether its name tells the key. */
export const objectOf = (place: Place, key: string): Effect.Effect<ObjectName> =>
  Effect.map(fileName("l", key), (name) => ({ name: place.folder + name, hashed: name.startsWith("lh-") }))

/** An object's name; `hashed`: the key can't be read from it. */
export interface ObjectName {
  readonly name: string
  readonly hashed: boolean
}

/** What the names of all objects start with whose key starts with `keyPrefix`. */
export const prefixesOf = (place: Place, keyPrefix: string): ReadonlyArray<string> => {
  const encoded = encode(keyPrefix)
  const hashed = `${place.folder}lh-`
  return encoded.length > longest ? [hashed] : [`${place.folder}l-${encoded}`, hashed]
}

/** The key that an object's name tells, if it does. */
export const keyOf = (place: Place, name: string): string | undefined =>
  name.startsWith(`${place.folder}l-`) ? decode(name.slice(place.folder.length + 2)) : undefined

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const utf8 = new TextEncoder()

// An object's name has at most 1024 bytes; ours take up to 2 × 202 and a slash of them.
const longestPrefix = 600

const bucketIs = (what: string): string =>
  `bucket must be a bucket's name or a location such as "gs://my-locks/app/", and ${what} is none (3 to 222 lower case `
  + "letters, digits, \"-\", \"_\" or \".\")"

/**
 * Names of users as names of Lease objects: lower-case DNS-1123 subdomains.
 *
 * The readable part loses what such names can't carry, so the hash after it tells keys apart; the true key is an
 * annotation of the object, and is compared whenever it is read.
 */
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"

/** Whose lock an object is. */
export interface Place {
  readonly name: string
  readonly namespace: string
  readonly key: string
}

/** The longest readable part of a name. */
export const longestSlug = 40

/** The place of a key: `<what can be read of it>-<20 hex digits of the hash of namespace and key>`. */
export const placeOf = (namespace: string, key: string): Effect.Effect<Place> =>
  // As JSON, so that no two pairs of namespace and key are spelled alike.
  Effect.map(hash(JSON.stringify([namespace, key])), (digits) => ({
    name: `${slug(key)}-${digits}`,
    namespace,
    key
  }))

/** The value of the label that all locks of one namespace have. */
export const labelOf = (namespace: string): Effect.Effect<string> => hash(JSON.stringify([namespace]))

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const utf8 = new TextEncoder()

const slug = (key: string): string => {
  const readable = key.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-/, "").slice(0, longestSlug)
    .replace(/-$/, "")
  return readable === "" ? "lock" : readable
}

const hash = (text: string): Effect.Effect<string> =>
  Effect.map(
    Effect.promise(() => globalThis.crypto.subtle.digest("SHA-256", utf8.encode(text))),
    (digest) => Hex.encode(new Uint8Array(digest)).slice(0, 20)
  )

/**
 * The names of a lock's keys in Redis, and back.
 *
 * `lock:<namespace>:{<key>}` is the record; `:f`, `:q` and `:d:<owner id>` after it are what belongs to it. The braces
 * make Redis Cluster place them all in one slot. Escapes keep the parts apart: no two (namespace, key) pairs share a
 * name, and a namespace is a prefix that an ACL rule can name.
 */

/** The keys of one lock. */
export interface LockKeys {
  /** Who holds it; expires with the lease. */
  readonly record: string
  /** The last fencing token; outlives the record. */
  readonly fence: string
  /** Who waits for it: a sorted set, first come first. */
  readonly queue: string
}

/** How keys and channels of one namespace are called. */
export interface Names {
  readonly keysOf: (key: string) => LockKeys
  /** Marks the owner id as dead. */
  readonly tombstone: (key: string, owner: string) => string
  /** What the channels of this namespace start with. */
  readonly channels: string
  /** Of SCAN: the records of keys that start with `keyPrefix`. */
  readonly pattern: (keyPrefix: string) => string
  /** The key that a record belongs to, as the server names it; `undefined` if it is none of this namespace. */
  readonly keyOf: (record: string) => string | undefined
}

/** Of a namespace, behind a client that puts `clientPrefix` before every key, but not before channels and patterns. */
export const make = (namespace: string, clientPrefix: string): Names => {
  const space = `lock:${escape(namespace)}:`
  const recordOf = (key: string) => `${space}{${escape(key)}}`
  return {
    keysOf: (key) => {
      const record = recordOf(key)
      return { record, fence: `${record}:f`, queue: `${record}:q` }
    },
    tombstone: (key, owner) => `${recordOf(key)}:d:${owner}`,
    channels: `${clientPrefix}${space}i:`,
    pattern: (keyPrefix) => `${literal(`${clientPrefix}${space}{${escape(keyPrefix)}`)}*}`,
    keyOf: (record) => {
      const start = `${clientPrefix}${space}{`
      if (!record.startsWith(start) || !record.endsWith("}")) return undefined
      const escaped = record.slice(start.length, -1)
      const key = unescape(escaped)
      return key !== "" && escape(key) === escaped ? key : undefined
    }
  }
}

/**
 * An owner id as part of a record, a queue member and a message, whose parts are separated by `|`.
 */
export const escapeOwner = (ownerId: string): string => ownerId.replace(/[%|]/g, escapeCharacter)

/** The owner id again. */
export const unescapeOwner = (owner: string): string => unescape(owner)

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const special = /[%{}:]/
const specials = /[%{}:]/g

const escape = (text: string): string => special.test(text) ? text.replace(specials, escapeCharacter) : text

const escapeCharacter = (character: string): string =>
  `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`

const unescape = (text: string): string =>
  text.replace(/%([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))

// What SCAN would read as a pattern stands for itself.
const literal = (text: string): string => text.replace(/[*?[\]\\^-]/g, "\\$&")

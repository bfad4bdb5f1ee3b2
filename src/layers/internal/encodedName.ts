/**
 * Names of users as names of files, injectively: two different texts never become one file, on a disk that folds case
 * either, and none leaves its directory.
 */
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"

const utf8 = new TextEncoder()
const plain = /^[a-z0-9_-]*$/
const escaped = /^(?:[a-z0-9_-]|%[0-9A-F]{2})*$/

/** The longest encoded text that is used as it is; longer ones are hashed. */
export const longest = 200

/**
 * `[a-z0-9_-]` as they are, every other byte of the UTF-8 text as `%XX`.
 *
 * Upper case is escaped too, because disks fold it; so is `.`, because of `..`, `.lock` and names like `nul.txt`. The
 * encoding of a prefix is a prefix of the encoding.
 */
export const encode = (text: string): string => {
  if (plain.test(text)) return text
  let encoded = ""
  for (const byte of utf8.encode(text)) {
    const character = String.fromCharCode(byte)
    encoded += plain.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`
  }
  return encoded
}

/** What was encoded; `undefined` if nothing can have been. */
export const decode = (encoded: string): string | undefined => {
  if (!escaped.test(encoded)) return undefined
  const bytes: Array<number> = []
  for (let at = 0; at < encoded.length; at++) {
    if (encoded[at] === "%") {
      bytes.push(Number.parseInt(encoded.slice(at + 1, at + 3), 16))
      at += 2
    } else bytes.push(encoded.charCodeAt(at))
  }
  const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(new Uint8Array(bytes))
  return encode(text) === encoded ? text : undefined
}

/**
 * `<kind>-<encoded>`, or `<kind>h-<sha256>` where that would be too long. The two can't meet, because `-` and `h`
 * differ; kinds are single letters.
 */
export const fileName = (kind: string, text: string): Effect.Effect<string> => {
  const encoded = encode(text)
  if (encoded.length <= longest) return Effect.succeed(`${kind}-${encoded}`)
  return Effect.map(
    Effect.promise(() => globalThis.crypto.subtle.digest("SHA-256", utf8.encode(text))),
    (digest) => `${kind}h-${Hex.encode(new Uint8Array(digest))}`
  )
}

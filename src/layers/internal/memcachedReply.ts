/**
 * What a memcached says, cut from the stream of bytes: one status line, with a block of data where the line announces
 * one; or a list of settings.
 *
 * Source: doc/protocol.txt of memcached ("Meta Commands", "Error strings").
 */
import * as Option from "effect/Option"
import type { BackendReason } from "../../LockError.ts"
import { Misconfigured, Protocol, Throttled, Unauthorized } from "../../LockError.ts"

/** One answer: `line` without its end, `value` the block of data, as text. */
export interface Reply {
  readonly line: string
  readonly value: string | undefined
}

/** What is expected: one line, or lines up to `END`. */
export type Expected = "Line" | "Settings"

/** `undefined` = not all there yet. `Garbage` = no memcached says this; `detail` never quotes it, it may be an echo. */
export type Parsed =
  | { readonly _tag: "Reply"; readonly reply: Reply; readonly end: number }
  | { readonly _tag: "Garbage"; readonly detail: string }
  | undefined

/** The longest status line in bytes; those of memcached are far below. */
export const longestLine = 2048

/** The longest block of data in bytes; a record of ours is below 40 KiB. */
export const longestValue = 1024 * 1024

/** The answer that starts at `start`. */
export const parse = (bytes: Buffer, start: number, expected: Expected): Parsed =>
  expected === "Line" ? parseLine(bytes, start) : parseSettings(bytes, start)

/** The two letters (or the word) that a line starts with. */
export const codeOf = (reply: Reply): string => {
  const end = reply.line.indexOf(" ")
  return end < 0 ? reply.line : reply.line.slice(0, end)
}

/** What follows the letter `flag` on a status line of a meta command. */
export const flagOf = (reply: Reply, flag: string): string | undefined => {
  const at = reply.line.indexOf(` ${flag}`)
  if (at < 0) return undefined
  const end = reply.line.indexOf(" ", at + 1)
  return reply.line.slice(at + 2, end < 0 ? undefined : end)
}

/**
 * The reason that an error line stands for, or that a line is no answer to what was asked. `inOrder`: the server has
 * read the whole request, so the next answer belongs to the next one.
 */
export const refusalOf = ({ line }: Reply): { readonly reason: BackendReason; readonly inOrder: boolean } => {
  if (line === "SERVER_ERROR out of memory storing object") {
    const detail = "the server is out of memory: give it more (-m), or a server to the locks alone"
    return { reason: new Throttled({ detail, retryAfter: Option.none() }), inOrder: true }
  }
  if (line === "SERVER_ERROR object too large for cache") {
    const detail =
      "the record of the lock is too large for the server: raise its largest item (-I), or pass less metadata"
    return { reason: new Misconfigured({ detail }), inOrder: true }
  }
  if (line === "ERROR Too many open connections" || line.startsWith("SERVER_ERROR out of memory")) {
    const detail = "the server is out of connections or memory: raise its limits (-c, -m)"
    return { reason: new Throttled({ detail, retryAfter: Option.none() }), inOrder: false }
  }
  if (/^CLIENT_ERROR (un)?authenticat/.test(line)) {
    const detail = line.startsWith("CLIENT_ERROR un")
      ? "the server wants a user and a password: pass auth"
      : "the server does not accept the user and password of auth"
    return { reason: new Unauthorized({ detail }), inOrder: false }
  }
  if (line === "ERROR") {
    const detail =
      "the server does not know a meta command: memcached 1.6 or newer is needed, and a proxy in front of it "
      + "must pass meta commands on"
    return { reason: new Misconfigured({ detail }), inOrder: false }
  }
  const said = /^(CLIENT|SERVER)_ERROR /.test(line) ? line.slice(0, 120) : "an answer to something else"
  return { reason: new Protocol({ detail: `the server said: ${said}` }), inOrder: false }
}

/** The reason of a line that nobody asked for; `undefined` if not even that. */
export const unasked = (reply: Reply | undefined): BackendReason =>
  reply === undefined
    ? new Protocol({ detail: "the server said something that nobody asked for" })
    : refusalOf(reply).reason

/** A server whose cas values are all 0: a comparison with 0 compares nothing. */
export const withoutCas = new Misconfigured({ detail: "the server runs without compare-and-swap: start it without -C" })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const lineFeed = 10
const known =
  /^(?:(?:HD|NS|EX|NF|EN|MN|STORED|END)(?: [\x21-\x7e]*)*|VA \d{1,10}(?: [\x21-\x7e]*)*|STAT .*|ERROR(?: .*)?|(?:CLIENT|SERVER)_ERROR .*)$/

// Without its end; `end` is where the next begins.
const lineAt = (
  bytes: Buffer,
  start: number
): { readonly line: string; readonly end: number } | Extract<Parsed, { readonly _tag: "Garbage" }> | undefined => {
  const at = bytes.indexOf(lineFeed, start)
  if (at < 0 ? bytes.length - start > longestLine : at - start > longestLine) return garbage(bytes, start)
  if (at < 0) return undefined
  const line = bytes.toString("latin1", start, at - 1)
  return bytes[at - 1] === 13 && known.test(line) ? { line, end: at + 1 } : garbage(bytes, start)
}

const parseLine = (bytes: Buffer, start: number): Parsed => {
  const found = lineAt(bytes, start)
  if (found === undefined || "_tag" in found) return found
  const { end, line } = found
  if (!line.startsWith("VA ")) return { _tag: "Reply", reply: { line, value: undefined }, end }
  const size = Number.parseInt(line.slice(3), 10)
  if (size > longestValue) {
    return { _tag: "Garbage", detail: `what is under the lock's name is longer than ${longestValue} bytes` }
  }
  if (bytes.length < end + size + 2) return undefined
  if (bytes[end + size] !== 13 || bytes[end + size + 1] !== lineFeed) return garbage(bytes, start)
  return { _tag: "Reply", reply: { line, value: bytes.toString("utf8", end, end + size) }, end: end + size + 2 }
}

// The settings as one text; an error line is a reply too, it says that there are none to be had.
const parseSettings = (bytes: Buffer, start: number): Parsed => {
  let text = ""
  let at = start
  while (at - start < longestValue) {
    const found = lineAt(bytes, at)
    if (found === undefined || "_tag" in found) return found
    at = found.end
    if (!found.line.startsWith("STAT ")) {
      return { _tag: "Reply", reply: { line: found.line, value: text }, end: at }
    }
    text += `${found.line}\n`
  }
  return garbage(bytes, start)
}

const garbage = (bytes: Buffer, start: number): Extract<Parsed, { readonly _tag: "Garbage" }> => {
  const begin = bytes.toString("latin1", start, start + 8)
  const what = begin.startsWith("HTTP/")
    ? "it speaks HTTP"
    : /^[-+*$:]/.test(begin)
    ? "it seems to speak the protocol of Redis"
    : "its answer is none of memcached's text protocol"
  return { _tag: "Garbage", detail: `what listens there is not a memcached: ${what}` }
}

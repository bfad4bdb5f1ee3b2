/**
 * The bearer token: read anew each minute, because the kubelet rotates what it projects into a pod, and at once when the
 * API server does not know it any more.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { type BackendReason, Misconfigured, Unauthorized } from "../../LockError.ts"

/** Where the token comes from, and the one that is in use. */
export interface Token {
  readonly read: Effect.Effect<Redacted.Redacted<string> | undefined, unknown>
  /** Whether reading again can give another one. */
  readonly changes: boolean
  /** Whether one is sent at all, as far as is known before it is read. */
  readonly isSent: boolean
  last: { readonly value: string | undefined; readonly readAt: number } | undefined
}

/** A token that stays the same; `undefined` sends none. */
export const fixed = (value: Redacted.Redacted<string> | undefined): Token => ({
  read: Effect.succeed(value),
  changes: false,
  isSent: value !== undefined,
  last: undefined
})

/** A token that is read again. */
export const rotating = (read: Effect.Effect<Redacted.Redacted<string> | undefined, unknown>): Token => ({
  read,
  changes: true,
  isSent: true,
  last: undefined
})

/** How long a token is used before it is read again, in milliseconds. */
export const life = 60_000

/** The present token. One that can't be read anew stays in use: the server says when it is over. */
export const current = (self: Token): Effect.Effect<string | undefined, BackendReason> =>
  Effect.flatMap(now, (at) => {
    const { last } = self
    if (last === undefined) return readAgain(self)
    return !self.changes || at - last.readAt < life
      ? Effect.succeed(last.value)
      : Effect.catch(readAgain(self), () => Effect.succeed(last.value))
  })

/** Another token than `refused`, if there is one by now. */
export const successorOf = (
  self: Token,
  refused: string | undefined
): Effect.Effect<string | undefined, BackendReason> => {
  if (!self.changes) return Effect.undefined
  if (self.last !== undefined && self.last.value !== refused) return Effect.succeed(self.last.value)
  return Effect.map(readAgain(self), (value) => value === refused ? undefined : value)
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const now = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

// What a header can carry. A client's complaint about another value would show it.
const sendable = /^[\x21-\x7e]+$/

// The cause is left out: it may show what was read, or the arguments of a program that makes tokens.
const readAgain = (self: Token): Effect.Effect<string | undefined, BackendReason> =>
  self.read.pipe(
    Effect.catchCause(() =>
      Effect.fail(
        new Unauthorized({ detail: "the bearer token can't be read: check the token file, or what makes it" })
      )
    ),
    Effect.flatMap((redacted) => {
      const value = redacted === undefined ? undefined : Redacted.value(redacted).trim()
      if (value !== undefined && !sendable.test(value)) {
        return Effect.fail(
          new Misconfigured({ detail: "the bearer token is empty or has characters that no header can carry" })
        )
      }
      return Effect.map(now, (readAt) => {
        self.last = { value, readAt }
        return value
      })
    })
  )

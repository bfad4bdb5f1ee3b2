/**
 * The way to a memcached: one session at a time, opened when it is needed, watched for answers that are overdue.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type BackendReason, Unreachable } from "../../LockError.ts"
import type { Address } from "./memcachedAddress.ts"
import type { Reply } from "./memcachedReply.ts"
import { millis, Session } from "./memcachedSession.ts"

/** Opened lazily; closed with its scope. */
export interface Connection {
  readonly address: Address
  readonly clock: Clock.Clock
  readonly scope: Scope.Scope
  /** Like no other's: the sessions are named after it. */
  readonly id: string
  session: Session | undefined
  sessions: number
  /** When somebody looks for overdue answers next. */
  watchedAt: number
  closed: boolean
}

/** A connection that is not open yet. */
export const make = (address: Address, id: string): Effect.Effect<Connection, never, Scope.Scope> =>
  Effect.gen(function*() {
    const connection: Connection = {
      address,
      clock: yield* Clock.Clock,
      scope: yield* Effect.scope,
      id,
      session: undefined,
      sessions: 0,
      watchedAt: Infinity,
      closed: false
    }
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        connection.closed = true
        return connection.session === undefined ? Effect.void : connection.session.close
      })
    )
    return connection
  })

/** Runs `use` on the open session, after opening one if there is none. `timeout` bounds the opening, in milliseconds. */
export const withSession = <A, E>(
  self: Connection,
  timeout: number,
  use: (session: Session) => Effect.Effect<A, E | BackendReason>
): Effect.Effect<A, E | BackendReason> =>
  Effect.suspend(() => {
    if (self.closed) return Effect.fail(new Unreachable({ detail: "the layer of the backend was closed" }))
    const session = self.session !== undefined && !self.session.hasEnded
      ? self.session
      : (self.session = new Session(`${self.id}.${++self.sessions}`, self.address))
    if (session.isOpen) return use(session)
    const now = millis(self.clock)
    const arrived = watched(self, now, now + timeout, session.arrival(timeout, now + timeout))
    return Effect.flatMap(arrived, () => use(session))
  })

/** One request on `session`, whose answer is due within `timeout` milliseconds; if it is overdue then, the session ends. */
export const ask = (
  self: Connection,
  session: Session,
  command: string,
  timeout: number
): Effect.Effect<Reply, BackendReason> =>
  Effect.suspend(() => {
    const now = millis(self.clock)
    return watched(self, now, now + timeout, session.ask(command, timeout, now + timeout))
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

// One look-out serves all who ask while it lasts, so that asking costs no fiber and no timer of its own. One whose time
// has passed may never have started: its caller was interrupted.
const watched = <A>(
  self: Connection,
  now: number,
  deadline: number,
  asking: Effect.Effect<A, BackendReason>
): Effect.Effect<A, BackendReason> => {
  if (self.watchedAt > now && deadline >= self.watchedAt) return asking
  const watching = Effect.suspend(() => {
    self.watchedAt = deadline
    return Effect.forkIn(lookOut(self, deadline), self.scope)
  })
  return Effect.andThen(Effect.uninterruptible(watching), asking)
}

const lookOut = (self: Connection, at: number): Effect.Effect<void> =>
  Effect.suspend(() => Effect.sleep(Math.max(0, at - millis(self.clock)))).pipe(
    Effect.flatMap(() => {
      if (self.watchedAt === at) self.watchedAt = Infinity
      self.session?.check(millis(self.clock))
      const next = self.session?.nextDeadline ?? Infinity
      if (next >= self.watchedAt) return Effect.void
      self.watchedAt = next
      return lookOut(self, next)
    }),
    Effect.provideService(Clock.Clock, self.clock)
  )

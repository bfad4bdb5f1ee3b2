/**
 * The verbs on one server (or cluster): what each sends, and what the answers mean.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as LockBackend from "../../LockBackend.ts"
import { type BackendReason, LockBackendError } from "../../LockError.ts"
import { integerOf } from "./redisAnswer.ts"
import type { RedisClient } from "./redisClient.ts"
import { foreignData, notUnderstood } from "./redisFailure.ts"
import { Inbox } from "./redisInbox.ts"
import { escapeOwner, type Names } from "./redisKeys.ts"
import { holderOf } from "./redisRecord.ts"
import * as Scripts from "./redisScripts.ts"
import type { ServerCheck } from "./redisServerCheck.ts"

/** Short name for errors. */
export const name = "redis"

/** What verbs run on. */
export interface Locks {
  readonly client: RedisClient
  readonly names: Names
  readonly check: ServerCheck
  /** Absent on a cluster, whose waiters poll. */
  readonly inbox: Inbox | undefined
}

/** Opens nothing yet: the first command connects. */
export const make = (client: RedisClient, names: Names, check: ServerCheck, scope: Scope.Scope): Locks => {
  const decline = (owner: string, record: string) => {
    const key = names.keyOf(record)
    return key === undefined
      ? Effect.void
      : Effect.ignore(sendRelease({ client, names }, key, owner, "w", "", false, declineTimeout))
  }
  return {
    client,
    names,
    check,
    inbox: client.kind === "cluster" ? undefined : new Inbox(client, names.channels, scope, decline)
  }
}

// It is a courtesy: whoever was called in vain loses the lock after its claim window anyway.
const declineTimeout = Duration.millis(Scripts.claimWindow)

// -----------------------------------------------------------------------------
// verbs
// -----------------------------------------------------------------------------

export const tryAcquire = (
  self: Locks,
  request: LockBackend.AcquireRequest
): Effect.Effect<LockBackend.Acquired | LockBackend.Held, BackendReason> =>
  Effect.suspend(() => {
    const given = request.provisional === true ? self.inbox?.take(escapeOwner(request.ownerId)) : undefined
    if (given !== undefined) return Effect.succeed(provisional(given, request.ttl))
    if (self.check.isDone) return attempt(self, request, request.budget)
    const third = thirdOf(request.budget)
    return Effect.flatMap(self.check.run(third), () => attempt(self, request, third))
  })

const provisional = (fence: string, ttl: Duration.Duration): LockBackend.Acquired => ({
  _tag: "Acquired",
  fencingToken: Option.some(BigInt(fence)),
  handle: fence,
  grantedTtl: Duration.min(ttl, Duration.millis(Scripts.claimWindow)),
  provisional: true
})

const attempt = (
  self: Locks,
  request: LockBackend.AcquireRequest,
  timeout: Duration.Duration
): Effect.Effect<LockBackend.Acquired | LockBackend.Held, BackendReason> => {
  const { inbox } = self
  if (!request.willWait || inbox === undefined) return sendAcquire(self, request, undefined, timeout)
  if (inbox.isOpen) return sendAcquire(self, request, inbox, timeout)
  // Most locks are free: who needs no queue needs no subscription.
  const third = thirdOf(request.budget)
  return Effect.flatMap(sendAcquire(self, request, undefined, third), (reply) => {
    if (reply._tag === "Acquired") return Effect.succeed(reply)
    return Effect.matchEffect(within(inbox.open, third), {
      onSuccess: (opened) => opened ? sendAcquire(self, request, inbox, third) : Effect.succeed(reply),
      // Without a queue the waiter polls, and the next try subscribes anew.
      onFailure: (reason) => reason.isRetryable ? Effect.succeed(reply) : Effect.fail(reason)
    })
  })
}

const thirdOf = (budget: Duration.Duration) => Duration.millis(Math.floor(Duration.toMillis(budget) / 3))

const within = <E>(self: Effect.Effect<void, E>, timeout: Duration.Duration): Effect.Effect<boolean, E> =>
  Effect.timeoutOrElse(Effect.as(self, true), { duration: timeout, orElse: () => Effect.succeed(false) })

const sendAcquire = (
  self: Locks,
  request: LockBackend.AcquireRequest,
  inbox: Inbox | undefined,
  timeout: Duration.Duration
): Effect.Effect<LockBackend.Acquired | LockBackend.Held, BackendReason> => {
  const { key, ownerId } = request
  const owner = escapeOwner(ownerId)
  const ttl = millis(request.ttl)
  const metadata = JSON.stringify(request.metadata)
  const member = inbox === undefined ? "" : inbox.enter(owner, ttl, metadata)
  return Effect.flatMap(
    self.client.run(
      Scripts.acquire,
      keysOf(self.names, key, owner),
      [owner, ttl, metadata, member, self.names.channels],
      timeout
    ),
    (answer): Effect.Effect<LockBackend.Acquired | LockBackend.Held, BackendReason> => {
      if (!Array.isArray(answer)) return notUnderstood(self.client)
      const [verdict, second, record] = answer
      const granted = integerOf(verdict)
      if (granted === 0 && integerOf(second) !== undefined) {
        const refusal = refusalOf(record, second)
        inbox?.refused(owner, Option.getOrUndefined(refusal.holders[0]?.fencingToken ?? Option.none()))
        return Effect.succeed(refusal)
      }
      if (granted !== 1 || !isFence(second)) return notUnderstood(self.client)
      self.inbox?.delete(owner)
      return Effect.succeed({
        _tag: "Acquired",
        fencingToken: Option.some(BigInt(second)),
        handle: second,
        grantedTtl: request.ttl
      })
    }
  )
}

const refusalOf = (record: unknown, left: unknown): LockBackend.Held => {
  const holder = holderOf(record, left)
  return holder === undefined
    ? { _tag: "Held", holders: [], retryAfter: Option.none() }
    : { _tag: "Held", holders: [holder], retryAfter: holder.remaining }
}

export const renew = (
  { client, names }: Locks,
  request: LockBackend.RenewRequest
): Effect.Effect<LockBackend.Renewed | LockBackend.Lost, BackendReason> =>
  Effect.suspend(() => {
    const owner = escapeOwner(request.ownerId)
    const { fence, record } = names.keysOf(request.key)
    return Effect.flatMap(
      client.run(Scripts.renew, [record, fence], [owner, request.handle, millis(request.ttl)], request.budget),
      (answer): Effect.Effect<LockBackend.Renewed | LockBackend.Lost, BackendReason> => {
        switch (integerOf(answer)) {
          case 1:
            return Effect.succeed({ _tag: "Renewed", handle: request.handle, grantedTtl: request.ttl })
          case 0:
            return Effect.succeed({ _tag: "Lost", reason: "Gone" })
          case -1:
            return Effect.succeed({ _tag: "Lost", reason: "Taken" })
          default:
            return notUnderstood(client)
        }
      }
    )
  })

export const release = (
  self: Locks,
  request: LockBackend.ReleaseRequest
): Effect.Effect<"Released" | "NotHeld", BackendReason> =>
  Effect.suspend(() => {
    const owner = escapeOwner(request.ownerId)
    const which = Option.getOrElse(request.handle, () => "")
    const member = self.inbox?.leave(owner) ?? ""
    return Effect.flatMap(
      sendRelease(self, request.key, owner, which, member, request.unanswered, request.budget),
      (answer) => {
        self.inbox?.delete(owner)
        const reply = released[integerOf(answer) ?? -1]
        return reply === undefined ? notUnderstood(self.client) : Effect.succeed(reply)
      }
    )
  })

const sendRelease = (
  { client, names }: Pick<Locks, "client" | "names">,
  key: string,
  owner: string,
  which: string,
  member: string,
  unanswered: boolean,
  timeout: Duration.Duration
): Effect.Effect<unknown, BackendReason> =>
  client.run(
    Scripts.release,
    keysOf(names, key, owner),
    [owner, which, member, unanswered ? String(Scripts.tombstoneLife) : "", names.channels],
    timeout
  )

export const inspect = (
  { client, names }: Locks,
  key: string,
  timeout: Duration.Duration
): Effect.Effect<ReadonlyArray<LockBackend.HeldKey["holders"][number]>, BackendReason> =>
  Effect.flatMap(
    Effect.suspend(() => client.run(Scripts.inspect, [names.keysOf(key).record], [], timeout)),
    (answer) => {
      if (!Array.isArray(answer)) return notUnderstood(client)
      const holder = holderOf(answer[0], answer[1])
      if (holder !== undefined) return Effect.succeed([holder])
      return answer[0] === null ? Effect.succeed([]) : Effect.fail(foreignData(client.endpoint))
    }
  )

export const breakLock = (
  { client, names }: Locks,
  request: LockBackend.BreakRequest
): Effect.Effect<"Draining" | "Broken" | "NotHeld", BackendReason> =>
  Effect.suspend(() => {
    const { fence, queue, record } = names.keysOf(request.key)
    return Effect.flatMap(
      client.run(
        Scripts.breakLock,
        [record, fence, queue],
        [escapeOwner(request.ownerId), request.now ? "now" : "drain", names.channels],
        request.budget
      ),
      (answer) => {
        const reply = broken[integerOf(answer) ?? -1]
        return reply === undefined ? notUnderstood(client) : Effect.succeed(reply)
      }
    )
  })

const released = ["NotHeld", "Released"] as const
const broken = ["NotHeld", "Draining", "Broken"] as const

// -----------------------------------------------------------------------------
// answers
// -----------------------------------------------------------------------------

/** A reason as the port's error. */
export const failed =
  (operation: LockBackendError["operation"], key?: string) => (reason: BackendReason): LockBackendError =>
    new LockBackendError({ backend: name, operation, reason, ...(key === undefined ? {} : { key }) })

const isFence = (text: unknown): text is string => typeof text === "string" && /^\d{1,19}$/.test(text)

const keysOf = (names: Names, key: string, owner: string): ReadonlyArray<string> => {
  const { fence, queue, record } = names.keysOf(key)
  return [record, fence, queue, names.tombstone(key, owner)]
}

// A whole number, rounded up: Redis counts in milliseconds.
const millis = (duration: Duration.Duration): string => String(Math.max(Math.ceil(Duration.toMillis(duration)), 1))

/**
 * The life of one grant: taken by a transaction, kept alive and proven, ended by revoking its lease.
 *
 * A lease is revoked only as the last act of its owner id. A request that was given up can arrive late; if a refused try
 * were cleaned up by revoking, and the same owner id tried again, that revocation could still come and end the grant.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as LockBackend from "../../LockBackend.ts"
import { Unreachable } from "../../LockError.ts"
import type { EtcdFailure } from "./etcdFailure.ts"
import { code, isStatus } from "./etcdFailure.ts"
import { type Gateway, type Limits, limitsOf } from "./etcdGateway.ts"
import { leaseId, type Names, valueOf } from "./etcdRecord.ts"
import * as Requests from "./etcdRequests.ts"
import { takeWithKept, takeWithNew } from "./etcdTaking.ts"
import * as Tombstones from "./tombstones.ts"

/** A backend: where etcd is, its names, and what this process remembers, all of which may be lost. */
export interface Etcd {
  readonly gateway: Gateway
  readonly names: Names
  readonly dead: Tombstones.Tombstones
  /** Keys that somebody else held when they were last asked for: the next try looks before it makes a lease. */
  readonly contended: Set<string>
  /** Owner ids that were refused and have a lease, which their next try keeps alive instead of making one. */
  readonly leased: Set<string>
  /** Owner ids with a request that stayed without an answer, though another attempt of it was answered. */
  readonly uncertain: Set<string>
}

/** How long a tombstone lives, in seconds. */
export const tombstoneSeconds = 75

/** Takes the lock, or finds that it is this owner id's already and renews it. */
export const acquire = (
  etcd: Etcd,
  request: LockBackend.AcquireRequest
): Effect.Effect<LockBackend.Acquired | LockBackend.Held, EtcdFailure> =>
  Effect.gen(function*() {
    const { key, ownerId } = request
    const limits = yield* limitsOf(request.budget)
    const isDead = Tombstones.has(etcd.dead, ownerId, yield* monotonic)
    if (isDead || etcd.contended.has(key)) {
      const { found } = yield* Requests.look(etcd.gateway, limits, etcd.names.locks + key)
      if (isDead || (found !== undefined && found.ownerId !== ownerId)) return held(found)
    }
    return yield* Effect.ensuring(
      attempt(etcd, limits, request),
      Effect.sync(() => {
        if (limits.unanswered) remember(etcd.uncertain, ownerId, true)
      })
    )
  }).pipe(
    Effect.catchIf(
      (failure) => isStatus(failure, code.notFound),
      () => Effect.fail(new Unreachable({ detail: "the lease was revoked before it was used" }))
    )
  )

/** Renews a grant: the whole ttl again, and proof that the lock is still this grant. */
export const renew = (
  etcd: Etcd,
  request: LockBackend.RenewRequest
): Effect.Effect<LockBackend.Renewed | LockBackend.Lost, EtcdFailure> =>
  Effect.gen(function*() {
    const limits = yield* limitsOf(request.budget)
    const lease = leaseId(etcd.names, request.key, request.ownerId)
    return yield* confirm(etcd, limits, { ...request, revision: request.handle, lease })
  })

/** Gives back what an owner id holds, and ends its life. */
export const release = (
  etcd: Etcd,
  request: LockBackend.ReleaseRequest
): Effect.Effect<"Released" | "NotHeld", EtcdFailure> =>
  Effect.gen(function*() {
    const { handle, key, ownerId } = request
    Tombstones.add(etcd.dead, ownerId, !request.unanswered, yield* monotonic)
    const limits = yield* limitsOf(request.budget)
    const own = leaseId(etcd.names, key, ownerId)
    const unanswered = request.unanswered || etcd.uncertain.has(ownerId)
    const isFreed = !unanswered && Option.isSome(handle) && (yield* Requests.revoke(etcd.gateway, limits, own))
    const reply = isFreed ? "Released" : yield* retire(etcd, limits, { key, ownerId, own, unanswered })
    remember(etcd.leased, ownerId, false)
    remember(etcd.uncertain, ownerId, false)
    return reply
  })

/** Ends the lease of whoever holds the lock by this owner id. */
export const breakLock = (
  etcd: Etcd,
  { budget, key, ownerId }: LockBackend.BreakRequest
): Effect.Effect<"Broken" | "NotHeld", EtcdFailure> =>
  Effect.gen(function*() {
    const limits = yield* limitsOf(budget)
    const { found } = yield* Requests.look(etcd.gateway, limits, etcd.names.locks + key)
    if (found === undefined || found.holder.ownerId !== ownerId) return "NotHeld"
    // The lease belongs to this owner id alone: if the lock changes hands meanwhile, nobody else's ends.
    return (yield* Requests.revoke(etcd.gateway, limits, found.lease)) ? "Broken" : "NotHeld"
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const monotonic: Effect.Effect<number> = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

const secondsOf = (ttl: Duration.Duration): number => Math.ceil(Duration.toMillis(ttl) / 1000)

// What a process remembers is bounded; to forget costs a request more.
const mostRemembered = 4096

const remember = (set: Set<string>, name: string, present: boolean): void => {
  set.delete(name)
  if (!present) return
  set.add(name)
  if (set.size <= mostRemembered) return
  for (const oldest of set) {
    set.delete(oldest)
    return
  }
}

// The grant is the revision that created the key; its lease follows from the owner id.
const acquired = (revision: string, grantedTtl: Duration.Duration): LockBackend.Acquired => ({
  _tag: "Acquired",
  fencingToken: Option.some(BigInt(revision)),
  handle: revision,
  grantedTtl
})

const held = (found: Requests.Seen["found"]): LockBackend.Held => ({
  _tag: "Held",
  holders: found === undefined ? [] : [found.holder],
  retryAfter: Option.none()
})

const attempt = (
  etcd: Etcd,
  limits: Limits,
  request: LockBackend.AcquireRequest
): Effect.Effect<LockBackend.Acquired | LockBackend.Held, EtcdFailure> =>
  Effect.gen(function*() {
    const { gateway, names } = etcd
    const { key, ownerId, ttl } = request
    const own = leaseId(names, key, ownerId)
    const seconds = secondsOf(ttl)
    const value = valueOf({ ownerId, since: yield* Clock.currentTimeMillis, metadata: request.metadata })
    const at = { key: names.locks + key, tombstone: names.dead + own, lease: own, value }
    const take = etcd.leased.has(ownerId) ? takeWithKept : takeWithNew
    const { kept, outcome } = yield* take(gateway, limits, at, seconds)
    if (outcome._tag === "Done") {
      remember(etcd.contended, key, false)
      remember(etcd.leased, ownerId, false)
      // A lease that was there before lives as long as whoever kept it alive says, if that was the leader.
      const isWhole = kept !== undefined && kept.seconds >= seconds && (kept.fresh || kept.term === outcome.term)
      return isWhole
        ? acquired(outcome.revision, Duration.seconds(kept.seconds))
        : yield* replayed(etcd, limits, request, outcome.revision, own)
    }
    const { found } = outcome.seen
    const isOurs = found !== undefined && found.ownerId === ownerId
    if (isOurs && outcome._tag === "Refused") return yield* replayed(etcd, limits, request, found.revision, found.lease)
    if (found !== undefined) remember(etcd.contended, key, true)
    // Who will try again keeps the lease; who will not has nothing more to do than to end it.
    if (request.willWait && outcome._tag === "Refused") remember(etcd.leased, ownerId, true)
    else {
      const { unanswered } = limits
      yield* Effect.ignore(
        unanswered
          ? retire(etcd, limits, { key, ownerId, own, unanswered })
          : Requests.revoke(gateway, limits, own)
      )
    }
    return held(isOurs ? undefined : found)
  })

/**
 * The last act of an owner id: revokes its lease, and with it the lock if it has it.
 *
 * If something of it may still arrive, the tombstone comes first: an attempt that arrives after the tombstone finds it,
 * and one that came before is seen together with it.
 */
const retire = (
  { gateway, names }: Etcd,
  limits: Limits,
  { key, ownerId, own, unanswered }: {
    readonly key: string
    readonly ownerId: string
    readonly own: string
    readonly unanswered: boolean
  }
): Effect.Effect<"Released" | "NotHeld", EtcdFailure> =>
  Effect.gen(function*() {
    let seen: Requests.Seen
    if (unanswered) {
      const lease = leaseId(names, key, ownerId, "tombstone")
      yield* Requests.grantOrKeep(gateway, limits, lease, tombstoneSeconds)
      seen = yield* Requests.bury(gateway, limits, { key: names.locks + key, tombstone: names.dead + own, lease })
    } else seen = yield* Requests.look(gateway, limits, names.locks + key)
    const { found } = seen
    const isOurs = found !== undefined && found.ownerId === ownerId
    const wasThere = yield* Requests.revoke(gateway, limits, isOurs ? found.lease : own)
    return isOurs && wasThere ? "Released" : "NotHeld"
  })

// The owner id has the lock, so the answer is that of a renewal.
const replayed = (
  etcd: Etcd,
  limits: Limits,
  request: LockBackend.AcquireRequest,
  revision: string,
  lease: string
): Effect.Effect<LockBackend.Acquired | LockBackend.Held, EtcdFailure> =>
  Effect.map(
    confirm(etcd, limits, { ...request, revision, lease }),
    (reply) => reply._tag === "Lost" ? held(undefined) : acquired(revision, reply.grantedTtl)
  )

interface Grant {
  readonly key: string
  readonly ownerId: string
  readonly ttl: Duration.Duration
  readonly revision: string
  /** Where it is believed to be attached. */
  readonly lease: string
}

// Rounds: the lease may have been moved, and the leader may have changed.
const mostRounds = 4

/**
 * Keeps the lease alive, then proves by a linearizable read that the lock is still attached to it.
 *
 * Only a leader keeps leases alive, and it does so without asking the others: one that was stopped and goes on may answer
 * before it learns that it has a successor, whose lease ends sooner. The read is confirmed by a majority, so if it was
 * given in the same term, that leader was the leader; else the lease is kept alive once more.
 */
const confirm = (
  etcd: Etcd,
  limits: Limits,
  { key, ownerId, revision, ttl, ...grant }: Grant
): Effect.Effect<LockBackend.Renewed | LockBackend.Lost, EtcdFailure> =>
  Effect.gen(function*() {
    const { gateway, names } = etcd
    const path = names.locks + key
    const seconds = secondsOf(ttl)
    let lease = grant.lease
    for (let round = 0; round < mostRounds; round++) {
      const kept = yield* Requests.keepAlive(gateway, limits, lease)
      const { found, term } = yield* Requests.look(gateway, limits, path)
      if (found === undefined) return { _tag: "Lost", reason: "Gone" }
      if (found.ownerId !== ownerId) return { _tag: "Lost", reason: "Taken" }
      if (found.revision !== revision) return { _tag: "Lost", reason: "Gone" }
      if (found.lease !== lease) lease = found.lease
      else if (kept.seconds <= 0) {
        return yield* Effect.fail(
          new Unreachable({ detail: "the lease is ending, or a new leader does not know it yet" })
        )
      } else if (kept.term === term) {
        if (kept.seconds >= seconds) return renewed(revision, kept.seconds)
        // A lease can't be made longer; the lock can be attached to a longer one.
        const to = leaseId(names, key, ownerId, String(seconds))
        const longer = yield* Requests.grantOrKeep(gateway, limits, to, seconds)
        if (yield* Requests.move(gateway, limits, { key: path, revision, from: lease, to })) {
          yield* Effect.ignore(Requests.revoke(gateway, limits, lease))
          if (longer.fresh) return renewed(revision, longer.seconds)
          lease = to
        }
      }
    }
    return yield* Effect.fail(new Unreachable({ detail: "leaders change faster than a lease can be renewed" }))
  })

const renewed = (revision: string, seconds: number): LockBackend.Renewed => ({
  _tag: "Renewed",
  handle: revision,
  grantedTtl: Duration.seconds(seconds)
})

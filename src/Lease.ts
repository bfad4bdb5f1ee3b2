/**
 * The lease model: states, and the arithmetic of trust. Pure; `docs/lease-model.md` is the same in words.
 *
 * The backend decides who owns a lock. The local clock only decides when we stop trusting that we do, so it can end a
 * lease earlier and never later; no two machines' clocks are compared. Times in this file are milliseconds.
 */
import type * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import type { InvalidLockRequest, LockBackendError, LockLost } from "./LockError.ts"

/**
 * How a holder sees its lease: `Held → InJeopardy → Lost`, or `→ Released`.
 *
 * **Details**
 *
 * - `Held`: trusted.
 * - `InJeopardy`: still trusted, but a renewal is overdue (none confirmed for two thirds of the ttl).
 * - `Lost`: over, and final; a renewal that succeeds later does not undo it.
 * - `Released`: given back by its holder.
 *
 * @category models
 */
export type LeaseState = "Held" | "InJeopardy" | "Lost" | "Released"

/**
 * The right to a lock for a limited time, kept alive by renewal until it is released or lost.
 *
 * **Gotchas**
 *
 * A lease can be lost at any moment: the process may be paused, the network cut, the lock broken by an operator. Run
 * the work under `guard`, and pass `fencingToken` to whatever it writes to, so that a paused holder's last write can
 * be refused. No lock can prevent that write from being sent.
 *
 * @category models
 */
export interface Lease {
  /** The lock's name. */
  readonly key: string
  /** The random identity of this acquisition. An identifier, not a secret. */
  readonly ownerId: string
  /**
   * Strictly larger for every later grant of the same key, where the backend can promise it; `None` where it can't.
   * Let the resource refuse a smaller one than it has seen.
   */
  readonly fencingToken: Option.Option<bigint>
  /** The present state. No I/O. */
  readonly state: Effect.Effect<LeaseState>
  /** The present state, then each new one; ends after `Lost` or `Released`. Costs nothing until it is run. */
  readonly changes: Stream.Stream<LeaseState>
  /** Never succeeds; fails once the lease is lost or released. */
  readonly lost: Effect.Effect<never, LockLost>
  /** Fails if the lease is no longer trusted at this very moment. No I/O; a comparison of clocks, not a flag. */
  readonly check: Effect.Effect<void, LockLost>
  /** How much trust is left (zero once lost). No I/O. */
  readonly remaining: Effect.Effect<Duration.Duration>
  /**
   * Runs `effect` while the lease is trusted: if it is lost, `effect` is interrupted, its finalizers are awaited, and
   * the result is `LockLost`. Also fails with `LockLost` if trust is over when `effect` succeeds.
   *
   * **Gotchas**
   *
   * `effect` runs in a child fiber: what it forks with `forkChild` ends with it. An uninterruptible region in it
   * delays the interruption, not the loss.
   */
  readonly guard: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | LockLost, R>
  /** Renews now, or joins the renewal in flight. Renewal happens by itself; this is for a lease with none. */
  readonly renew: Effect.Effect<void, LockLost | LockBackendError>
  /**
   * Makes sure that at least `duration` of trust is left, renewing if it is not.
   *
   * Fails with `InvalidLockRequest` if `duration` is more than a fresh lease has (ttl − safetyMargin).
   */
  readonly ensure: (
    duration: Duration.Input
  ) => Effect.Effect<void, LockLost | LockBackendError | InvalidLockRequest>
  /** Gives the lease back before its scope closes. Idempotent. Guards still running fail with `LockLost(Released)`. */
  readonly release: Effect.Effect<void>
}

// -----------------------------------------------------------------------------
// time
// -----------------------------------------------------------------------------

/**
 * Both local clocks at one moment, in milliseconds; only differences mean anything.
 *
 * Two clocks because each misses something: the monotonic clock may stop while the machine sleeps, the wall clock can
 * be set.
 *
 * @category time
 */
export interface Stamp {
  readonly monotonic: number
  readonly wall: number
}

/**
 * Reads both clocks.
 *
 * @category time
 */
export const stamp = (clock: Clock.Clock): Stamp => ({
  monotonic: Number(clock.monotonicTimeNanosUnsafe()) / 1e6,
  wall: clock.currentTimeMillisUnsafe()
})

/**
 * Milliseconds below which two moments are one: clocks tick in nanoseconds, sums of them round, and a sleep for less
 * than a tick does not move the clock that it waits for.
 *
 * @category time
 */
export const roundOff = 1e-3

/**
 * Elapsed time for ending our own trust: the larger of the two differences, so that a machine that slept, or whose
 * wall clock was stepped forward, stops early.
 *
 * @category time
 */
export const elapsedForTrust = (from: Stamp, to: Stamp): number =>
  Math.max(to.monotonic - from.monotonic, to.wall - from.wall, 0)

/**
 * Elapsed time for taking over by observation ("unchanged for its ttl on my clock"): the smaller of the two
 * differences, so that a stepped clock can't make a live holder look dead.
 *
 * **Gotchas**
 *
 * `from` is read after the first observation was received, `to` before the last one was sent.
 *
 * @category time
 */
export const elapsedForTakeover = (from: Stamp, to: Stamp): number =>
  Math.max(Math.min(to.monotonic - from.monotonic, to.wall - from.wall), 0)

// -----------------------------------------------------------------------------
// trust
// -----------------------------------------------------------------------------

/**
 * What we trust, and from when: read `sentAt` **before** the request that set the lease was sent, so that a slow reply
 * shortens trust instead of lengthening it.
 *
 * `trusted` is the granted ttl minus the safety margin, in milliseconds.
 *
 * @category trust
 */
export interface Trust {
  readonly sentAt: Stamp
  readonly trusted: number
}

/**
 * Trust left at `now`, in milliseconds; 0 or less means that the lease must not be used.
 *
 * @category trust
 */
export const remainingTrust = (trust: Trust, now: Stamp): number => trust.trusted - elapsedForTrust(trust.sentAt, now)

/**
 * Whether the lease may be used at `now`.
 *
 * **Gotchas**
 *
 * The answer can turn from `false` to `true` when a clock is set back: whoever holds a lease must latch the first
 * `false`.
 *
 * @category trust
 */
export const isTrusted = (trust: Trust, now: Stamp): boolean => remainingTrust(trust, now) > 0

/**
 * The trust that lasts longer at `now`: a renewal never shortens a lease.
 *
 * @category trust
 */
export const longer = (a: Trust, b: Trust, now: Stamp): Trust =>
  remainingTrust(b, now) >= remainingTrust(a, now) ? b : a

/**
 * The default safety margin in milliseconds: max(50 ms, 5 % of ttl) plus the backend's time granularity, at most a
 * quarter of the ttl. It covers clock *rates* that differ between the backend and us.
 *
 * @category trust
 */
export const safetyMargin = (ttl: number, granularity: number): number =>
  Math.min(Math.max(50, ttl * 0.05) + granularity, ttl / 4)

/**
 * The least trust that a grant must come with to be handed out: half of its ttl. A grant with less is renewed once,
 * else given back.
 *
 * @category trust
 */
export const leastTrustOfGrant = (ttl: number): number => ttl / 2

/**
 * How long a lease is trusted, and what keeps it so: its renewals, one at a time.
 */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Lease from "../Lease.ts"
import type { Acquired, Renewed } from "../LockBackend.ts"
import { type LockBackendError, type LockLost, retryAfter } from "../LockError.ts"
import type { ResolvedOptions } from "../LockOptions.ts"
import { bounded, type Call } from "./bounded.ts"
import type { Instance } from "./instance.ts"
import { isLost, isRenewed, unknownReply } from "./reply.ts"
import { spanned } from "./telemetry.ts"

/** The lease that is renewed. */
export interface Renewable {
  readonly key: string
  readonly ownerId: string
  /** Nothing is concluded from a reply that comes after the lease has ended. */
  readonly hasEnded: boolean
  lose(reason: LockLost["reason"]): void
  /** A renewal was confirmed. */
  onConfirmed(now: Lease.Stamp): void
  /** A renewal that took a while has ended, whatever its outcome. */
  onSettled(now: Lease.Stamp): void
}

/** The trust of one lease and its renewal. */
export class Renewal {
  private readonly lease: Renewable
  private readonly instance: Instance
  private readonly options: ResolvedOptions
  private readonly fiber: Fiber.Fiber<unknown, unknown>
  private readonly context: Context.Context<never>
  private readonly clock: Clock.Clock
  private readonly endsAt: number
  private failures = 0
  private inFlight: Fiber.Fiber<void> | undefined
  trust: Lease.Trust
  handle: string
  lastError: LockBackendError | undefined
  /** Monotonic milliseconds; `Infinity` while one is in flight, and where there are none. */
  nextAt = Infinity

  constructor(
    lease: Renewable,
    instance: Instance,
    options: ResolvedOptions,
    fiber: Fiber.Fiber<unknown, unknown>,
    clock: Clock.Clock,
    reply: Acquired,
    sentAt: Lease.Stamp,
    grantedAt: Lease.Stamp
  ) {
    this.lease = lease
    this.instance = instance
    this.options = options
    this.fiber = fiber
    // Captured here: the acquiring fiber forgets its context when it ends, which changes nothing for the lease.
    this.context = fiber.context
    this.clock = clock
    this.endsAt = grantedAt.monotonic + options.maxHold
    this.trust = trustOf(options, sentAt, reply)
    this.handle = reply.handle
    this.plan(sentAt)
    // Soon, but not at once: most leases are given back before.
    if (reply.provisional === true) this.nextAt = grantedAt.monotonic + this.remaining(grantedAt) / 8
  }

  /** Trust left at `now`, in milliseconds. */
  remaining(now: Lease.Stamp): number {
    return Lease.remainingTrust(this.trust, now)
  }

  /** The trust of a lease that was renewed just now, in milliseconds. */
  get mostTrust(): number {
    return Math.max(this.trust.trusted, this.options.ttl - this.options.safetyMargin)
  }

  /** Until a renewal is overdue, in milliseconds: none was confirmed for two thirds of the ttl. */
  untilOverdue(now: Lease.Stamp): number {
    const { operationTimeout, renewEvery, ttl } = this.options
    if (renewEvery === false) return Infinity
    return Math.max(ttl * 2 / 3, renewEvery + operationTimeout) - Lease.elapsedForTrust(this.trust.sentAt, now)
  }

  /** Starts one, unless one is in flight: the keeper's, `renew`'s and `ensure`'s share one call. */
  start(): void {
    if (this.inFlight !== undefined) return
    this.nextAt = Infinity
    const attributes = { key: this.lease.key, ownerId: this.lease.ownerId }
    const fiber = Effect.runForkWith(this.context)(spanned(this.fiber, "Lock.renew", attributes, this.once))
    if (fiber.pollUnsafe() !== undefined) return
    this.inFlight = fiber
    fiber.addObserver(() => {
      this.inFlight = undefined
      this.lease.onSettled(Lease.stamp(this.clock))
    })
  }

  /** Waits for the one in flight; its outcome is in the lease's state and `lastError`. */
  get settled(): Effect.Effect<void> {
    return Effect.suspend(() => this.inFlight === undefined ? Effect.void : Effect.asVoid(Fiber.await(this.inFlight)))
  }

  /** Stops the one in flight, and waits until it has stopped or its budget is spent. */
  get stopped(): Effect.Effect<void> | undefined {
    return this.inFlight === undefined ? undefined : Fiber.interrupt(this.inFlight)
  }

  private get once(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { backend, telemetry } = this.instance
      const { key, ownerId } = this.lease
      const sentAt = Lease.stamp(this.clock)
      const budget = this.options.operationTimeout
      const call: Call = { backend: backend.name, operation: "renew", key, budget }
      const request = {
        key,
        ownerId,
        ttl: Duration.millis(this.options.ttl),
        handle: this.handle,
        budget: Duration.millis(budget)
      }
      return Effect.match(bounded(this.instance, call, Effect.suspend(() => backend.renew(request))), {
        onSuccess: (reply) => {
          if (this.lease.hasEnded) return
          if (isRenewed(reply)) this.onRenewed(reply, sentAt)
          else if (isLost(reply)) this.lease.lose(reply.reason)
          else this.onFailed(unknownReply(call))
        },
        onFailure: (error) => {
          telemetry.onBackendError(this.context, error)
          if (!this.lease.hasEnded) this.onFailed(error)
        }
      })
    })
  }

  private onRenewed(reply: Renewed, sentAt: Lease.Stamp): void {
    const now = Lease.stamp(this.clock)
    this.instance.telemetry.onRenewed(this.context, now.monotonic - sentAt.monotonic, this.remaining(now))
    this.handle = reply.handle
    this.trust = Lease.longer(this.trust, trustOf(this.options, sentAt, reply), now)
    this.failures = 0
    this.lastError = undefined
    this.plan(sentAt)
    this.lease.onConfirmed(now)
  }

  // Every error is tried again until trust ends, also one that is not retryable by itself: credentials rotate, and
  // there is nothing to lose by asking.
  private onFailed(error: LockBackendError): void {
    this.lastError = error
    const { renewEvery } = this.options
    if (renewEvery === false) return
    const asked = Option.match(retryAfter(error), { onNone: () => 0, onSome: Duration.toMillis })
    const pause = backoff(this.context, this.failures++, renewEvery)
    this.nextAt = Lease.stamp(this.clock).monotonic + Math.max(pause, asked)
  }

  private plan(from: Lease.Stamp): void {
    const { renewEvery } = this.options
    // A tenth early at random, so that leases taken together don't renew together for ever.
    const at = renewEvery === false
      ? Infinity
      : from.monotonic + renewEvery * (1 - Context.get(this.context, Random.Random).nextDoubleUnsafe() / 10)
    this.nextAt = at >= this.endsAt ? Infinity : at
  }
}

/**
 * The pause before asking a backend again that failed `failures` times in a row, in milliseconds: exponential from
 * 50 ms, at most 2 s and `most`, full jitter.
 */
export const backoff = (context: Context.Context<never>, failures: number, most = Infinity): number => {
  const ceiling = Math.min(50 * 2 ** Math.min(failures, 10), 2000, most)
  return Math.max(1, ceiling * Context.get(context, Random.Random).nextDoubleUnsafe())
}

/** The trust that a grant or a renewal gives, counted from before its request was sent. */
export const trustOf = (
  options: ResolvedOptions,
  sentAt: Lease.Stamp,
  reply: { readonly grantedTtl: Duration.Duration }
): Lease.Trust => {
  const { safetyMargin, ttl } = options
  const lasts = Duration.toMillis(reply.grantedTtl)
  // The margin is for clock rates, so that of a grant which lasts a part of the ttl is that part of it.
  const margin = lasts < ttl ? Math.min(safetyMargin, Math.max(safetyMargin * lasts / ttl, 50)) : safetyMargin
  return { sentAt, trusted: lasts - margin }
}

/**
 * A lease from its grant to its end: trust, renewal, loss, release.
 */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Holder } from "../Holder.ts"
import * as Lease from "../Lease.ts"
import type { Acquired } from "../LockBackend.ts"
import { type LockBackendError, LockLost } from "../LockError.ts"
import type { ResolvedOptions } from "../LockOptions.ts"
import { timedOut } from "./bounded.ts"
import { guarded } from "./guarded.ts"
import type { Instance } from "./instance.ts"
import type { Keeper, Kept } from "./keeper.ts"
import type { LocalQueue, Place } from "./localQueue.ts"
import { CurrentRegion } from "./region.ts"
import { type Renewable, Renewal } from "./renewal.ts"
import { holdSpan, warn } from "./telemetry.ts"

/** What an acquisition hands over when it is granted. */
export interface Grant {
  readonly instance: Instance
  readonly queue: LocalQueue
  readonly place: Place
  readonly options: ResolvedOptions
  readonly ownerId: string
  readonly reply: Acquired
  /** An earlier attempt of the owner id stayed without an answer. */
  readonly unanswered: boolean
  /** Read before the request that set the lease was sent. */
  readonly sentAt: Lease.Stamp
  /** Where the lease goes back if nobody releases it before; none in a guard, which releases by itself. */
  readonly scope: Scope.Scope | undefined
}

/** A lease as the core has it; its holder sees a `LeaseFace`. */
export class HeldLease implements Kept, Renewable {
  readonly key: string
  readonly ownerId: string
  readonly fencingToken: Option.Option<bigint>
  readonly fiberId: number
  readonly scope: Scope.Scope | undefined
  readonly ttl: number
  dueAt = 0
  place = -1
  /** Closes the lease's own scope, if it has one, so that an early release leaves nothing in the caller's. */
  closeScope: Effect.Effect<void> | undefined

  private readonly grant: Grant
  private readonly context: Context.Context<never>
  private readonly clock: Clock.Clock
  private readonly keeper: Keeper
  private readonly grantedAt: Lease.Stamp
  readonly renewal: Renewal
  private readonly endHoldSpan: ((exit: Exit.Exit<unknown, unknown>, at: bigint) => void) | undefined
  private inJeopardy = false
  private ended: LockLost["reason"] | undefined
  private lostError: LockLost | undefined
  private releasing: "not yet" | "sent" | "done" = "not yet"
  private listeners: Set<(state: Lease.LeaseState) => void> | undefined
  private releaseWaiters: Set<() => void> | undefined

  constructor(grant: Grant, fiber: Fiber.Fiber<unknown, unknown>, clock: Clock.Clock, now: Lease.Stamp) {
    const { instance, options, reply } = grant
    this.grant = grant
    this.fiberId = fiber.id
    this.context = fiber.context
    this.clock = clock
    this.key = grant.queue.key
    this.ownerId = grant.ownerId
    this.fencingToken = reply.fencingToken
    this.scope = grant.scope
    this.ttl = options.ttl
    this.grantedAt = now
    this.renewal = new Renewal(this, instance, options, fiber, clock, reply, grant.sentAt, now)
    this.endHoldSpan = holdSpan(fiber, { key: this.key, ownerId: this.ownerId, backend: instance.backend.name })
    this.keeper = instance.keeperOf(fiber, clock)
    this.plan(now)
    grant.queue.holder = this
    instance.leases.add(this)
    this.keeper.keep(this, now)
    instance.telemetry.onAcquired(this.context, now.monotonic - grant.place.since)
    if (instance.isNewlyDegraded(reply)) {
      this.warn(`lock ${JSON.stringify(this.key)} was granted, but degraded: ${reply.degraded}`)
    }
  }

  // ---------------------------------------------------------------------------
  // trust
  // ---------------------------------------------------------------------------

  get hasEnded(): boolean {
    return this.ended !== undefined
  }

  get isLive(): boolean {
    return this.remainingMillis() > 0
  }

  /** The loss, if trust is over at this moment. */
  verdict(): LockLost | undefined {
    if (this.remainingMillis() > 0) return undefined
    // Made when somebody asks: most leases end by their release, and nobody does.
    this.lostError ??= new LockLost({
      key: this.key,
      ownerId: this.ownerId,
      reason: this.ended!,
      ...(this.renewal.lastError === undefined ? undefined : { cause: this.renewal.lastError })
    })
    return this.lostError
  }

  /** Trust left, in milliseconds; the first look that finds none ends the lease for good. */
  remainingMillis(now = Lease.stamp(this.clock)): number {
    if (this.ended !== undefined) return 0
    const left = this.renewal.remaining(now)
    if (left > 0) return left
    this.lose("Expired", now)
    return 0
  }

  stateNow(): Lease.LeaseState {
    if (this.remainingMillis() > 0) return this.inJeopardy ? "InJeopardy" : "Held"
    return this.ended === "Released" ? "Released" : "Lost"
  }

  /** Calls `stop` once, when the lease ends; at once if it has. */
  watch(stop: () => void): () => void {
    if (!this.isLive) {
      stop()
      return () => {}
    }
    return this.listen((state) => {
      if (state === "Lost" || state === "Released") stop()
    })
  }

  listen(listener: (state: Lease.LeaseState) => void): () => void {
    this.listeners ??= new Set()
    this.listeners.add(listener)
    return () => this.listeners?.delete(listener)
  }

  private announce(state: Lease.LeaseState): void {
    if (this.listeners === undefined) return
    for (const listener of [...this.listeners]) listener(state)
  }

  /** Runs `effect` while the lease is trusted; `lease.guard` looks whether it is before. */
  guard<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | LockLost, R> {
    return Effect.withFiber((fiber) => {
      const outer = fiber.getRef(CurrentRegion)
      const region = { outer, scope: undefined, leases: new Set([this]), join: undefined }
      return guarded(effect, region, { watch: (stop) => this.watch(stop), verdict: () => this.verdict() })
    })
  }

  // ---------------------------------------------------------------------------
  // the keeper's side
  // ---------------------------------------------------------------------------

  onDue(now: Lease.Stamp): void {
    const { renewal } = this
    if (renewal.remaining(now) <= Lease.roundOff) return this.lose("Expired", now)
    if (!this.inJeopardy && renewal.untilOverdue(now) <= Lease.roundOff) {
      this.inJeopardy = true
      this.warn(`lease of lock ${JSON.stringify(this.key)} is in jeopardy: no renewal was confirmed for too long`)
      this.announce("InJeopardy")
    }
    if (renewal.nextAt <= now.monotonic + Lease.roundOff) renewal.start()
    if (!this.hasEnded) this.plan(now)
  }

  onConfirmed(now: Lease.Stamp): void {
    if (!this.inJeopardy || this.renewal.untilOverdue(now) <= 0) return
    this.inJeopardy = false
    this.announce("Held")
  }

  onSettled(now: Lease.Stamp): void {
    if (this.hasEnded) return
    this.plan(now)
    this.keeper.keep(this, now)
  }

  private plan(now: Lease.Stamp): void {
    this.dueAt = Math.min(
      now.monotonic + this.renewal.remaining(now),
      this.renewal.nextAt,
      this.inJeopardy ? Infinity : now.monotonic + this.renewal.untilOverdue(now)
    )
  }

  // ---------------------------------------------------------------------------
  // the end
  // ---------------------------------------------------------------------------

  /** Ends the lease here and now; one conditional release is still sent, because an unconfirmed lease may exist. */
  lose(reason: LockLost["reason"], now = Lease.stamp(this.clock)): void {
    if (this.ended !== undefined) return
    this.end(reason, now)
    Effect.runForkWith(this.context)(this.sendRelease(now, 0), { uninterruptible: true })
  }

  /** Ends the lease, gives it back, and waits until that was answered or its budget is spent. Idempotent. */
  get giveBack(): Effect.Effect<void> {
    return Effect.suspend(() => this.finish("Released"))
  }

  /** `giveBack` with another reason for those who still use the lease. */
  finish(reason: LockLost["reason"]): Effect.Effect<void> {
    if (this.releasing === "done") return Effect.void
    if (this.releasing === "sent") return this.awaitRelease
    const now = Lease.stamp(this.clock)
    const retryFor = Math.min(this.remainingMillis(now), 2 * this.grant.options.operationTimeout)
    // Looking at what remains may have found the lease expired, which starts its release.
    if (this.releasing !== "not yet") return this.awaitRelease
    this.end(reason, now)
    return this.sendRelease(now, retryFor)
  }

  private end(reason: LockLost["reason"], now: Lease.Stamp): void {
    const { instance } = this.grant
    this.ended = reason
    // Before anybody is told: whoever hears of the end gives the lease back too, and one release is enough.
    this.releasing = "sent"
    this.keeper.drop(this)
    instance.telemetry.onEnded(this.context, now.monotonic - this.grantedAt.monotonic)
    if (reason !== "Released") {
      instance.telemetry.onLost(this.context, reason)
      this.warn(this.verdict()!.message)
    }
    this.endHoldSpan?.(
      reason === "Released" ? Exit.void : Exit.fail(this.verdict()),
      this.clock.currentTimeNanosUnsafe()
    )
    this.announce(reason === "Released" ? "Released" : "Lost")
    this.listeners = undefined
  }

  private sendRelease(now: Lease.Stamp, retryFor: number): Effect.Effect<void> {
    const { instance, options } = this.grant
    const send = instance.sendRelease({
      key: this.key,
      ownerId: this.ownerId,
      // An attempt that was never answered may have taken the lock anew after an expiry, under a handle nobody knows.
      handle: () => this.grant.unanswered ? Option.none() : Option.some(this.renewal.handle),
      unanswered: this.grant.unanswered,
      operationTimeout: options.operationTimeout,
      retryUntil: now.monotonic + retryFor,
      context: this.context
    })
    // A renewal still on its way when the release arrives is best not sent at all.
    const stopped = this.renewal.stopped
    // The next in line is woken by a task of its own, so its request comes right behind this release.
    if (stopped === undefined && instance.backend.capabilities.ordered === true) {
      this.grant.queue.leave(this.grant.place)
    }
    return Effect.map(stopped === undefined ? send : Effect.andThen(stopped, send), () => {
      this.releasing = "done"
      instance.leases.delete(this)
      this.grant.queue.leave(this.grant.place)
      for (const resume of this.releaseWaiters ?? []) resume()
    })
  }

  private get awaitRelease(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      if (this.releasing === "done") return resume(Effect.void)
      this.releaseWaiters ??= new Set()
      const done = () => resume(Effect.void)
      this.releaseWaiters.add(done)
      return Effect.sync(() => {
        this.releaseWaiters?.delete(done)
      })
    })
  }

  /** The error of a renewal that was confirmed too late to be of use. */
  get tooSlow(): LockBackendError {
    const { instance, options } = this.grant
    return timedOut({
      backend: instance.backend.name,
      operation: "renew",
      key: this.key,
      budget: options.operationTimeout
    })
  }

  private warn(message: string): void {
    const { lastError } = this.renewal
    warn(this.context, message, ...(lastError === undefined ? [] : [lastError]))
  }

  // ---------------------------------------------------------------------------
  // how it looks
  // ---------------------------------------------------------------------------

  /** This lease as those see it who wait behind it. */
  describe(): Holder {
    return {
      ownerId: this.ownerId,
      since: Option.some(DateTime.makeUnsafe(this.grantedAt.wall)),
      remaining: Option.some(Duration.millis(this.remainingMillis())),
      fencingToken: this.fencingToken,
      metadata: this.grant.options.metadata
    }
  }
}

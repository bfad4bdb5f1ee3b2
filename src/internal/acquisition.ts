/**
 * One acquire call: its place in the local queue, its tries, its waiting, and what it gives back when it gives up.
 *
 * One attempt is atomic and uninterruptible but bounded; only the waiting is interruptible. Whatever ends the call
 * before the grant, a conditional release is sent if any of its attempts may have taken the lock, or may yet.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Lease from "../Lease.ts"
import type { Acquired, Held } from "../LockBackend.ts"
import { type LockBackendError, type LockContended, retryAfter } from "../LockError.ts"
import type { ResolvedOptions } from "../LockOptions.ts"
import { boundedToTheEnd, type Call, timedOut } from "./bounded.ts"
import { HeldLease } from "./heldLease.ts"
import { closedError, type Instance } from "./instance.ts"
import { isEnough, refresh } from "./lateGrant.ts"
import { LocalQueue, Place } from "./localQueue.ts"
import { OwnerIds } from "./ownerId.ts"
import { pause } from "./pause.ts"
import { Push } from "./push.ts"
import { Refusals } from "./refusals.ts"
import { backoff } from "./renewal.ts"
import { isAcquired, isHeld, unknownReply } from "./reply.ts"
import { signalWithin } from "./signal.ts"

/** What an acquisition can fail with. */
export type AcquireError = LockContended | LockBackendError

/** Who asks, for what. */
export interface Asked {
  readonly instance: Instance
  readonly key: string
  readonly options: ResolvedOptions
  /** Give up at the first refusal, local or remote, with `undefined`. */
  readonly ifAvailable: boolean
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly clock: Clock.Clock
  readonly scope: Scope.Scope | undefined
}

/** Acquires; `undefined` only where `ifAvailable`. Must run in the uninterruptible region that `restore` belongs to. */
export const acquire = (
  asked: Asked,
  restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
): Effect.Effect<HeldLease | undefined, AcquireError> =>
  Effect.suspend(() => {
    const acquisition = new Acquisition(asked, restore)
    return Effect.onExitPrimitive(
      // Called here and now: a queue is found and entered in one step, or it may be gone in between.
      acquisition.enter(),
      (exit) => Exit.isSuccess(exit) && exit.value !== undefined ? acquisition.over() : acquisition.giveUp(exit)
    )
  })

class Acquisition {
  private readonly asked: Asked
  private readonly restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  private readonly queue: LocalQueue
  private readonly place: Place
  private readonly wait: number
  private readonly calledAt: Lease.Stamp
  private readonly call: Call
  private ownerId: string
  private readonly refusals: Refusals
  /** An attempt of this owner id stayed without an answer: it may hold the lock, or take it later. */
  private unanswered = false
  /** There is something to give back: a grant, a place in the backend's queue, or what was not answered. */
  private mayHold = false
  /** Before the last try was sent that was refused: a lock that was given to this owner id since lives from then on. */
  private refusedAt: Lease.Stamp | undefined
  private failures = 0
  private push: Push | undefined
  private waiting = false

  constructor(asked: Asked, restore: Acquisition["restore"]) {
    const { clock, fiber, instance, key, options } = asked
    this.asked = asked
    this.restore = restore
    this.queue = LocalQueue.of(instance.queues, key)
    this.wait = asked.ifAvailable ? 0 : options.wait
    this.calledAt = Lease.stamp(clock)
    this.call = { backend: instance.backend.name, operation: "acquire", key, budget: options.operationTimeout }
    this.place = new Place(fiber, this.calledAt.monotonic, this.wait, options.outageBudget)
    this.refusals = new Refusals(options.schedule, clock, this.queue, this.place, instance.backend.name)
    this.ownerId = fiber.getRef(OwnerIds)()
  }

  enter(): Effect.Effect<HeldLease | undefined, AcquireError> {
    const { asked, place, queue } = this
    asked.instance.begin()
    const isFree = queue.isFree
    if (!isFree) {
      if (asked.ifAvailable) return Effect.undefined
      if (this.wait <= 0) return Effect.fail(queue.outage?.error ?? this.refusals.contended("WaitOver"))
      if (queue.parked >= asked.options.maxWaiters) return Effect.fail(this.refusals.contended("QueueFull"))
      this.startWaiting()
    }
    queue.enter(place)
    // Nothing came between the call and its first attempt: one look at the clocks serves both.
    return isFree ? this.attemptAt(this.calledAt) : Effect.andThen(this.park, this.again)
  }

  // ---------------------------------------------------------------------------
  // in line
  // ---------------------------------------------------------------------------

  /** Waits for the turn. A schedule of the caller's own is stepped meanwhile: being refused locally is being refused. */
  private get park(): Effect.Effect<void, AcquireError> {
    return Effect.suspend(() => {
      const { woken } = this.place
      if (woken !== undefined) return woken === "turn" ? Effect.void : Effect.fail(woken)
      const now = this.monotonic()
      if (this.isWaitOver(now)) return Effect.fail(this.refusals.waitOver)
      const left = this.place.until - now
      if (!this.asked.options.ownSchedule) return this.parkFor(left)
      this.refusals.count++
      return Effect.flatMap(this.refusals.nextDelay, (delay) => this.parkFor(Math.min(left, delay)))
    })
  }

  private parkFor(millis: number): Effect.Effect<void, AcquireError> {
    const wait = signalWithin<void>(this.asked.instance, millis, (signal) => {
      if (this.place.woken !== undefined) signal()
      this.place.wake = () => signal()
      return () => {
        this.place.wake = undefined
      }
    })
    return Effect.andThen(this.restore(wait), this.park)
  }

  // ---------------------------------------------------------------------------
  // at the head of the line
  // ---------------------------------------------------------------------------

  private attemptAt(
    sentAt: Lease.Stamp,
    provisional = this.refusedAt !== undefined
  ): Effect.Effect<HeldLease | undefined, AcquireError> {
    const { instance, options } = this.asked
    if (instance.isClosed) return Effect.fail(closedError(instance.backend.name, "acquire"))
    this.mayHold = true
    const request = {
      key: this.asked.key,
      ownerId: this.ownerId,
      ttl: Duration.millis(options.ttl),
      metadata: options.metadata,
      willWait: this.wait > 0,
      provisional: provisional && options.renewEvery !== false,
      budget: Duration.millis(this.call.budget)
    }
    const reply = boundedToTheEnd(instance, this.call, Effect.suspend(() => instance.backend.tryAcquire(request)))
    return Effect.matchEffect(reply, {
      onSuccess: (reply) => {
        if (isAcquired(reply)) return this.onAcquired(reply, sentAt)
        if (!isHeld(reply)) return this.onFailed(unknownReply(this.call))
        this.refusedAt = sentAt
        // A fair backend has queued who will wait.
        this.mayHold = this.unanswered || request.willWait
        return this.onHeld(reply)
      },
      onFailure: (error) => {
        this.unanswered = true
        return this.onFailed(error)
      }
    })
  }

  private onAcquired(reply: Acquired, sentAt: Lease.Stamp): Effect.Effect<HeldLease | undefined, AcquireError> {
    const { clock, options } = this.asked
    const now = Lease.stamp(clock)
    const from = reply.provisional === true ? this.refusedAt : sentAt
    if (from !== undefined && isEnough(options, reply, from, now)) return Effect.succeed(this.grant(reply, from, now))
    if (reply.provisional === true) return this.attemptAt(now, false)
    return Effect.flatMap(
      refresh({ ...this.asked, ownerId: this.ownerId }, reply),
      (refreshed) =>
        refreshed === undefined
          ? this.giveBack
          : Effect.succeed(this.grant(refreshed.reply, refreshed.sentAt, Lease.stamp(clock)))
    )
  }

  // Too little of the grant is left, so it is tried again; under a fresh owner id, because one that was released is dead.
  private get giveBack(): Effect.Effect<HeldLease | undefined, AcquireError> {
    return Effect.flatMap(this.sendRelease, () => {
      this.ownerId = this.asked.fiber.getRef(OwnerIds)()
      this.mayHold = false
      this.unanswered = false
      this.refusedAt = undefined
      return this.onFailed(timedOut(this.call))
    })
  }

  private grant(reply: Acquired, sentAt: Lease.Stamp, now: Lease.Stamp): HeldLease {
    const { asked, ownerId, place, queue, unanswered } = this
    queue.outage = undefined
    queue.refusedBy = undefined
    const { clock, fiber, instance, options, scope } = asked
    const grant = { instance, queue, place, options, ownerId, unanswered, reply, sentAt, scope }
    return new HeldLease(grant, fiber, clock, now)
  }

  private onHeld(reply: Held): Effect.Effect<HeldLease | undefined, AcquireError> {
    this.refusals.count++
    this.queue.outage = undefined
    this.queue.refusedBy = reply.holders
    if (this.asked.ifAvailable) return Effect.undefined
    if (this.isWaitOver(this.monotonic())) return Effect.fail(this.refusals.waitOver)
    this.startWaiting()
    return Effect.flatMap(this.refusals.nextDelay, (delay) => {
      // A lease that nobody renews is free at its expiry: never sleep past it.
      const free = Option.match(reply.retryAfter, { onNone: () => Infinity, onSome: (d) => Duration.toMillis(d) + 1 })
      return Effect.andThen(this.pause(Math.min(delay, free), true), this.again)
    })
  }

  private onFailed(error: LockBackendError): Effect.Effect<HeldLease | undefined, AcquireError> {
    const { asked, place, queue } = this
    const now = this.monotonic()
    asked.instance.telemetry.onBackendError(asked.fiber.context, error)
    queue.outage = { since: queue.outage?.since ?? now, error }
    if (!error.isRetryable) return Effect.fail(error)
    if (this.isWaitOver(now)) return Effect.fail(this.refusals.waitOver)
    const outageLeft = asked.options.outageBudget - (now - Math.max(queue.outage.since, place.since))
    if (outageLeft <= Lease.roundOff) {
      queue.failParked(queue.outage, now)
      return Effect.fail(error)
    }
    this.startWaiting()
    const askedFor = Option.match(retryAfter(error), { onNone: () => 0, onSome: Duration.toMillis })
    const delay = Math.max(backoff(asked.fiber.context, this.failures++), askedFor)
    return Effect.andThen(this.pause(Math.min(delay, outageLeft), false), this.again)
  }

  private get again(): Effect.Effect<HeldLease | undefined, AcquireError> {
    return Effect.suspend(() => {
      const now = Lease.stamp(this.asked.clock)
      return this.isWaitOver(now.monotonic) ? Effect.fail(this.refusals.waitOver) : this.attemptAt(now)
    })
  }

  // ---------------------------------------------------------------------------
  // pausing
  // ---------------------------------------------------------------------------

  private pause(delay: number, mayBePushed: boolean): Effect.Effect<void> {
    const { asked, place, queue } = this
    const push = mayBePushed ? (this.push ??= new Push(asked.instance.backend, asked.fiber)) : undefined
    return pause({ ...asked, ownerId: this.ownerId, queue, place, push, delay, restore: this.restore })
  }

  // ---------------------------------------------------------------------------
  // ending
  // ---------------------------------------------------------------------------

  giveUp(exit: Exit.Exit<HeldLease | undefined, AcquireError>): Effect.Effect<void> | undefined {
    const { fiber, instance } = this.asked
    const error = Option.getOrUndefined(Exit.findErrorOption(exit))
    if (error?._tag === "LockContended") instance.telemetry.onContended(fiber.context, error.reason)
    if (Exit.isSuccess(exit)) instance.telemetry.onContended(fiber.context, "WaitOver")
    return this.mayHold ? Effect.map(this.sendRelease, () => this.letGo()) : this.letGo()
  }

  /** At most one operationTimeout: whoever is interrupted is out within the attempt in flight and this. */
  private get sendRelease(): Effect.Effect<void> {
    const { operationTimeout } = this.asked.options
    return this.asked.instance.sendRelease({
      key: this.asked.key,
      ownerId: this.ownerId,
      handle: Option.none,
      unanswered: this.unanswered,
      operationTimeout,
      retryUntil: this.monotonic() + operationTimeout,
      context: this.asked.fiber.context
    })
  }

  private letGo(): undefined {
    this.queue.leave(this.place)
    this.over()
  }

  /** The waiting has ended, with a lease or without. */
  over(): undefined {
    this.push?.stop()
    this.asked.instance.end()
    if (this.waiting) this.asked.instance.telemetry.onWaiting(this.asked.fiber.context, -1)
  }

  // ---------------------------------------------------------------------------

  private startWaiting(): void {
    if (this.waiting) return
    this.waiting = true
    this.asked.instance.telemetry.onWaiting(this.asked.fiber.context, 1)
  }

  private isWaitOver(now: number): boolean {
    return this.place.until <= now + Lease.roundOff
  }

  private monotonic(): number {
    return Lease.stamp(this.asked.clock).monotonic
  }
}

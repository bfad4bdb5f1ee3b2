/**
 * A lease as its holder sees it.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Inspectable from "effect/Inspectable"
import type * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type * as Lease from "../Lease.ts"
import type { InvalidLockRequest, LockBackendError, LockLost } from "../LockError.ts"
import { resolveDuration } from "../LockOptions.ts"
import type { HeldLease } from "./heldLease.ts"

/** Getters, so that a lease costs nothing for what is not asked of it. */
export class LeaseFace implements Lease.Lease {
  readonly key: string
  readonly ownerId: string
  readonly fencingToken: Option.Option<bigint>
  private readonly held: HeldLease

  constructor(held: HeldLease) {
    this.held = held
    this.key = held.key
    this.ownerId = held.ownerId
    this.fencingToken = held.fencingToken
  }

  get state(): Effect.Effect<Lease.LeaseState> {
    return Effect.sync(() => this.held.stateNow())
  }

  get changes(): Stream.Stream<Lease.LeaseState> {
    return Stream.callback<Lease.LeaseState>((queue) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const emit = (state: Lease.LeaseState) => {
            Queue.offerUnsafe(queue, state)
            if (state === "Lost" || state === "Released") Queue.endUnsafe(queue)
          }
          const state = this.held.stateNow()
          emit(state)
          return this.held.hasEnded ? () => {} : this.held.listen(emit)
        }),
        (unlisten) => Effect.sync(unlisten)
      )
    )
  }

  get lost(): Effect.Effect<never, LockLost> {
    return Effect.callback<never, LockLost>((resume) => {
      const stop = this.held.watch(() => resume(Effect.fail(this.held.verdict()!)))
      return Effect.sync(stop)
    })
  }

  get check(): Effect.Effect<void, LockLost> {
    return Effect.suspend(() => {
      const lost = this.held.verdict()
      return lost === undefined ? Effect.void : Effect.fail(lost)
    })
  }

  get remaining(): Effect.Effect<Duration.Duration> {
    return Effect.sync(() => Duration.millis(this.held.remainingMillis()))
  }

  get guard(): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | LockLost, R> {
    return (effect) =>
      Effect.suspend(() => {
        const lost = this.held.verdict()
        return lost === undefined ? this.held.guard(effect) : Effect.fail(lost)
      })
  }

  get renew(): Effect.Effect<void, LockLost | LockBackendError> {
    return Effect.suspend((): Effect.Effect<void, LockLost | LockBackendError> => {
      const lost = this.held.verdict()
      if (lost !== undefined) return Effect.fail(lost)
      this.held.renewal.start()
      return Effect.flatMap(this.held.renewal.settled, (): Effect.Effect<void, LockLost | LockBackendError> => {
        const lost = this.held.verdict()
        if (lost !== undefined) return Effect.fail(lost)
        return this.held.renewal.lastError === undefined ? Effect.void : Effect.fail(this.held.renewal.lastError)
      })
    })
  }

  get ensure(): (
    duration: Duration.Input
  ) => Effect.Effect<void, LockLost | LockBackendError | InvalidLockRequest> {
    return (duration) =>
      Effect.suspend((): Effect.Effect<void, LockLost | LockBackendError | InvalidLockRequest> => {
        const most = { most: this.held.renewal.mostTrust, mostIs: "ttl - safetyMargin" }
        const millis = resolveDuration("duration", duration, most)
        if (Result.isFailure(millis)) return Effect.fail(millis.failure)
        const enough = Effect.map(this.check, () => this.held.remainingMillis() >= millis.success)
        const renewed = Effect.andThen(this.renew, enough)
        return Effect.flatMap(enough, (yes) =>
          yes ? Effect.void : Effect.flatMap(renewed, (yes) =>
            yes ? Effect.void : Effect.fail(this.held.tooSlow)))
      })
  }

  get release(): Effect.Effect<void> {
    return Effect.uninterruptible(Effect.suspend(() => this.held.closeScope ?? this.held.giveBack))
  }

  toJSON(): unknown {
    return { _id: "effect-lock/Lease", key: this.key, ownerId: this.ownerId, state: this.held.stateNow() }
  }

  [Inspectable.NodeInspectSymbol](): unknown {
    return this.toJSON()
  }
}

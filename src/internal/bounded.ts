/**
 * One backend call, bounded: it answers within its budget whatever the driver does, even if that ignores interruption.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Lease from "../Lease.ts"
import { LockBackendError, Protocol, TimedOut, Unreachable } from "../LockError.ts"
import { type Keepers, signalWithin } from "./signal.ts"

/** What a call is, for its errors, and how long it may take, in milliseconds. */
export interface Call {
  readonly backend: string
  readonly operation: LockBackendError["operation"]
  readonly key: string
  readonly budget: number
}

/**
 * Runs `self` in a fiber of its own, because `Effect.timeout` would wait for a driver that can't be interrupted. A call
 * that answers at once costs that fiber and nothing else. One that outlives its budget is told to stop and left behind.
 *
 * Interruption tells the call to stop and waits for that until the budget is spent, so that a renewal is over before
 * the release of the same lease is sent.
 *
 * Never a defect: a backend that dies is reported as `Protocol`.
 */
export const bounded = <A>(
  keepers: Keepers,
  call: Call,
  self: Effect.Effect<A, LockBackendError>
): Effect.Effect<A, LockBackendError> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.forkDetach(self, { startImmediately: true }), (fiber) => {
      const exit = fiber.pollUnsafe()
      if (exit !== undefined) return settle(call, exit)
      return Effect.clockWith((clock) => {
        const since = Lease.stamp(clock).monotonic
        const stopped = () => {
          fiber.interruptUnsafe()
          return signalWithin(
            keepers,
            call.budget - (Lease.stamp(clock).monotonic - since),
            (signal) => fiber.addObserver(() => signal(undefined))
          )
        }
        return Effect.onInterrupt(restore(answered(keepers, call, fiber)), stopped)
      })
    })
  )

/** `bounded` for who can't be interrupted there anyway. */
export const boundedToTheEnd = <A>(
  keepers: Keepers,
  call: Call,
  self: Effect.Effect<A, LockBackendError>
): Effect.Effect<A, LockBackendError> =>
  Effect.flatMap(Effect.forkDetach(self, { startImmediately: true }), (fiber) => {
    const exit = fiber.pollUnsafe()
    return exit === undefined ? answered(keepers, call, fiber) : settle(call, exit)
  })

const answered = <A>(
  keepers: Keepers,
  call: Call,
  fiber: Fiber.Fiber<A, LockBackendError>
): Effect.Effect<A, LockBackendError> =>
  Effect.flatMap(
    signalWithin<Exit.Exit<A, LockBackendError>>(keepers, call.budget, (signal) => fiber.addObserver(signal)),
    (exit) => {
      if (exit !== undefined) return settle(call, exit)
      fiber.interruptUnsafe()
      return Effect.fail(timedOut(call))
    }
  )

/** The error of a call that did not answer in time. */
export const timedOut = (call: Call): LockBackendError => {
  const after = Duration.millis(call.budget)
  return new LockBackendError({
    backend: call.backend,
    operation: call.operation,
    key: call.key,
    reason: new TimedOut({ after, detail: `no answer within ${Duration.format(after)}; the outcome is unknown` })
  })
}

const settle = <A>(call: Call, exit: Exit.Exit<A, LockBackendError>): Effect.Effect<A, LockBackendError> => {
  if (Exit.isSuccess(exit)) return exit
  const error = Cause.findErrorOption(exit.cause)
  if (error._tag === "Some") return Effect.fail(error.value)
  const { backend, key, operation } = call
  const reason = Cause.hasInterruptsOnly(exit.cause)
    ? new Unreachable({ detail: "the backend interrupted its own call; the outcome is unknown" })
    : new Protocol({ detail: "the backend died; this is a defect in it", cause: Cause.squash(exit.cause) })
  return Effect.fail(new LockBackendError({ backend, operation, key, reason }))
}

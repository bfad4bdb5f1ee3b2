/**
 * Running an effect for as long as something is trusted: the mechanism of `lease.guard`, `Lock.guard` and
 * `Lock.scoped`.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { LockLost } from "../LockError.ts"
import { CurrentRegion, type Region } from "./region.ts"

/** What the effect depends on. */
export interface Trusted {
  /** Calls `stop` once trust ends (at once if it has); returns what undoes that. */
  readonly watch: (stop: () => void) => () => void
  /** The loss, if trust is over at this moment. */
  readonly verdict: () => LockLost | undefined
}

/**
 * Runs `effect` in a child fiber that is interrupted when trust ends; its finalizers are awaited before the result.
 *
 * The loss alone is the result then, with no interruption beside it, because callers match on the typed failure. A
 * defect of a finalizer is kept. An effect that succeeds after trust has ended has not succeeded under the lock.
 */
export const guarded = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  region: Region,
  trusted: Trusted
): Effect.Effect<A, E | LockLost, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Effect.forkChild(Effect.provideService(effect, CurrentRegion, region), { startImmediately: true }),
      (child): Effect.Effect<A, E | LockLost> => {
        const exit = child.pollUnsafe()
        if (exit !== undefined) return result(exit, trusted, false)
        let stopped = false
        const unwatch = trusted.watch(() => {
          stopped = true
          child.interruptUnsafe()
        })
        const await_ = Effect.onInterrupt(restore(Fiber.await(child)), () => Fiber.interrupt(child))
        return Effect.flatMap(
          Effect.onExitPrimitive(await_, () => {
            unwatch()
            return undefined
          }),
          (exit) => result(exit, trusted, stopped)
        )
      }
    )
  )

const result = <A, E>(exit: Exit.Exit<A, E>, trusted: Trusted, stopped: boolean): Effect.Effect<A, E | LockLost> => {
  // A failure of its own that came before the loss was noticed is the truer story.
  if (Exit.isFailure(exit) && !stopped) return exit
  const lost = trusted.verdict()
  if (lost === undefined) return exit
  const defects = Exit.isFailure(exit) ? exit.cause.reasons.filter(Cause.isDieReason) : []
  return Effect.failCause(
    defects.length === 0 ? Cause.fail(lost) : Cause.combine(Cause.fail(lost), Cause.fromReasons(defects))
  )
}

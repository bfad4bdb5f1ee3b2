/**
 * Waiting for a callback, at most so long: the one place where the core suspends a fiber on something that is neither
 * an effect nor a clock.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Lease from "../Lease.ts"

/**
 * Waits until `register`'s signal is called, at most `millis` (which may be `Infinity`); `undefined` when time is up.
 *
 * `register` returns what undoes it; that runs exactly once, whichever way the wait ends. One timer fiber, none for an
 * infinite wait.
 */
export const signalWithin = <A>(
  millis: number,
  register: (signal: (value: A) => void) => () => void
): Effect.Effect<A | undefined> =>
  Effect.withFiber((fiber) =>
    Effect.callback<A | undefined>((resume) => {
      let timer: Fiber.Fiber<void> | undefined
      let undo = () => {}
      let over = false
      const end = (value: A | undefined) => {
        if (over) return
        over = true
        undo()
        timer?.interruptUnsafe()
        resume(Effect.succeed(value))
      }
      const unregister = register(end)
      // A signal given while registering found nothing to undo yet.
      if (over) return unregister()
      undo = unregister
      if (millis < Infinity) {
        timer = Effect.runForkWith(fiber.context)(nap(millis))
        timer.addObserver(() => end(undefined))
      }
      return Effect.sync(() => {
        over = true
        undo()
        timer?.interruptUnsafe()
      })
    })
  )

/**
 * Sleeps for `millis`; for a fraction, less half of what is one moment anyway, because the sum of fractions would else
 * end a trifle beyond the moment that was meant.
 */
export const nap = (millis: number): Effect.Effect<void> =>
  Effect.sleep(Duration.millis(Number.isInteger(millis) ? millis : Math.max(millis - Lease.roundOff / 2, 0)))

/**
 * Waiting for a callback, at most so long: the one place where the core suspends a fiber on something that is neither
 * an effect nor a clock.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Lease from "../Lease.ts"
import type { Keeper, Kept } from "./keeper.ts"

/** Whose keeper watches the time: one timer serves everybody who waits. */
export interface Keepers {
  keeperOf(fiber: Fiber.Fiber<unknown, unknown>, clock: Clock.Clock): Keeper
}

/**
 * Waits until `register`'s signal is called, at most `millis` (which may be `Infinity`); `undefined` when time is up.
 *
 * `register` returns what undoes it; that runs exactly once, whichever way the wait ends.
 */
export const signalWithin = <A>(
  keepers: Keepers,
  millis: number,
  register: (signal: (value: A) => void) => () => void
): Effect.Effect<A | undefined> =>
  Effect.withFiber((fiber) =>
    Effect.callback<A | undefined>((resume) => {
      let deadline: Deadline | undefined
      let undo = () => {}
      let over = false
      const stop = () => {
        if (over) return
        over = true
        undo()
        deadline?.drop()
      }
      const end = (value: A | undefined) => {
        if (over) return
        stop()
        resume(Effect.succeed(value))
      }
      const unregister = register(end)
      // A signal given while registering found nothing to undo yet.
      if (over) return unregister()
      undo = unregister
      if (millis < Infinity) {
        const clock = fiber.getRef(Clock.Clock)
        deadline = new Deadline(keepers.keeperOf(fiber, clock), Lease.stamp(clock), millis, () => end(undefined))
      }
      return Effect.sync(stop)
    })
  )

class Deadline implements Kept {
  place = -1
  readonly ttl = Infinity
  dueAt: number
  private readonly keeper: Keeper
  private readonly expire: () => void

  constructor(keeper: Keeper, now: Lease.Stamp, millis: number, expire: () => void) {
    this.keeper = keeper
    this.dueAt = now.monotonic + millis
    this.expire = expire
    keeper.keep(this, now)
  }

  onDue(now: Lease.Stamp): void {
    if (this.dueAt <= now.monotonic + Lease.roundOff) this.expire()
  }

  drop(): void {
    this.keeper.drop(this)
  }
}

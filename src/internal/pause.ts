/**
 * The pause between two tries of the caller that has the turn.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Lease from "../Lease.ts"
import type { Instance } from "./instance.ts"
import type { LocalQueue, Place } from "./localQueue.ts"
import type { Push } from "./push.ts"
import { signalWithin } from "./signal.ts"

/** A pause of `delay` milliseconds, cut short by `push` if that is given. */
export interface Pause {
  readonly instance: Instance
  readonly key: string
  readonly ownerId: string
  readonly clock: Clock.Clock
  readonly queue: LocalQueue
  readonly place: Place
  readonly push: Push | undefined
  readonly delay: number
  readonly restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** While others wait behind the caller, its own schedule does not make them wait longer than this for a try. */
const mostForOthers = 2000

/**
 * Sleeps until it is time for another try: the delay is over, the backend pushed, the wait ended, or others came to
 * wait behind the caller, whose patience counts too.
 */
export const pause = (self: Pause): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { clock, delay, instance, key, ownerId, place, push, queue, restore } = self
    const start = Lease.stamp(clock).monotonic
    const pushFrom = start + (push?.delay ?? Infinity)
    let listening = false
    const loop: Effect.Effect<void> = Effect.suspend(() => {
      const now = Lease.stamp(clock).monotonic
      if (!listening && now + Lease.roundOff >= pushFrom) {
        listening = true
        push!.start(key, ownerId)
      }
      if (listening && push!.take()) return Effect.void
      const others = queue.parked === 0 ? Infinity : Math.min(start + mostForOthers, now + queue.shortestWait(now))
      const until = Math.min(start + delay, place.until, others)
      if (until <= now + Lease.roundOff || instance.isClosed) {
        push?.settle()
        return Effect.void
      }
      const nap = signalWithin<void>(instance, (listening ? until : Math.min(until, pushFrom)) - now, (signal) => {
        queue.nudge = () => signal()
        if (push !== undefined) push.wake = () => signal()
        return () => {
          queue.nudge = undefined
          if (push !== undefined) push.wake = undefined
        }
      })
      return Effect.andThen(restore(nap), loop)
    })
    return loop
  })

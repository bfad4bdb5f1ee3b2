/** Time as the core keeps it, for tests of what waits. */
import { Clock, type Duration, Effect } from "effect"
import { Keeper } from "../../src/internal/keeper.ts"
import type { Keepers } from "../../src/internal/signal.ts"

/** Keepers as an instance has them, one for each clock. */
const kept = new Map<Clock.Clock, Keeper>()

export const keepers: Keepers = {
  keeperOf(fiber, clock) {
    const keeper = kept.get(clock) ?? new Keeper(fiber, clock)
    kept.set(clock, keeper)
    return keeper
  }
}

/** How many sleeps were started on the clock, and are pending. */
export const countingSleeps = Effect.map(Clock.Clock, (clock) => {
  const sleeps = { started: 0, pending: 0 }
  // The live clock's methods are its prototype's.
  const counting: Clock.Clock = Object.assign(Object.create(clock), {
    sleep: (duration: Duration.Duration) =>
      Effect.suspend(() => {
        sleeps.started++
        sleeps.pending++
        return Effect.ensuring(clock.sleep(duration), Effect.sync(() => sleeps.pending--))
      })
  })
  return { sleeps, on: Effect.provideService(Clock.Clock, counting) }
})

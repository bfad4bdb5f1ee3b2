import { Effect } from "effect"

/**
 * Milliseconds on the host's monotonic clock.
 *
 * Every process of this machine reads the same clock, so moments that different workers report can be compared. The
 * library itself never does that: it has to work where there is no such clock.
 */
export const now: Effect.Effect<number> = Effect.sync(() => Number(process.hrtime.bigint()) / 1e6)

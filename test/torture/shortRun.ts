/** The torture that every change goes through. */
import type { Options } from "./torture.ts"

export const shortRun: Pick<Options, "millis" | "workers" | "keys" | "every"> = {
  millis: 30_000,
  workers: 3,
  keys: 3,
  every: [200, 1200]
}

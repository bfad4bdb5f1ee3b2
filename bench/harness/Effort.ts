/** How long and how often everything is measured. */

export interface Effort {
  readonly name: "full" | "quick" | "tiny"
  /** Slices of each contestant, and their length in milliseconds. */
  readonly slices: number
  readonly slice: number
  readonly warmUp: number
  /** Rounds of a crowd in one process, and how long they may take in all, in milliseconds. */
  readonly rounds: number
  readonly roundsWithin: number
  readonly waiters: number
  /** How long processes compete, in milliseconds. */
  readonly crowd: number
  /** As processes × waiters. */
  readonly crowds: ReadonlyArray<readonly [processes: number, waiters: number]>
  /** How long each state of the five masters is measured, in milliseconds. */
  readonly phase: number
  readonly leases: ReadonlyArray<number>
  /** How long renewals are watched, in milliseconds. */
  readonly renewals: number
  /** How often a module is imported in a fresh process. */
  readonly imports: number
}

export const efforts: Readonly<Record<Effort["name"], Effort>> = {
  full: {
    name: "full",
    slices: 15,
    slice: 100,
    warmUp: 4000,
    rounds: 7,
    roundsWithin: 6000,
    waiters: 50,
    crowd: 5000,
    crowds: [[8, 10], [50, 20]],
    phase: 4000,
    leases: [1000, 10_000, 100_000],
    renewals: 15_000,
    imports: 15
  },
  quick: {
    name: "quick",
    slices: 4,
    slice: 50,
    warmUp: 400,
    rounds: 2,
    roundsWithin: 1000,
    waiters: 50,
    crowd: 1500,
    crowds: [[8, 10]],
    phase: 1000,
    leases: [1000, 10_000],
    renewals: 6000,
    imports: 3
  },
  tiny: {
    name: "tiny",
    slices: 2,
    slice: 10,
    warmUp: 20,
    rounds: 1,
    roundsWithin: 200,
    waiters: 4,
    crowd: 150,
    crowds: [[2, 2]],
    phase: 100,
    leases: [20],
    renewals: 300,
    imports: 1
  }
}

/** One made-up history of a quorum. */
import { type Options, type Outcome, simulate as simulateModel } from "../../src/testing/simulation/Simulation.ts"
import type { QuorumMix } from "./quorumMixes.ts"
import { isDisturbed, quorumOf } from "./quorumWorld.ts"

/** Simulates the history of `seed`. */
export const simulate = (
  seed: number,
  { masters, mix }: QuorumMix,
  options: Pick<Options, "processes" | "rounds" | "keepHistory"> = {}
): Outcome => {
  const { processes = 3, rounds = 2 } = options
  const model = quorumOf(masters, processes)
  const outcome = simulateModel(seed, mix, { ...options, processes, rounds, callers: 1, keys: 1, model })
  return {
    ...outcome,
    // Masters that are down, or do not vote, are troubles that no message tells of.
    violations: outcome.violations.filter(({ detail, oracle }) =>
      !(isDisturbed(masters) && oracle === "error" && detail.includes("told of an outage"))
    )
  }
}

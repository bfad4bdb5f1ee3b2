/**
 * One process of `histories.ts`.
 */
import { Simulation } from "effect-lock/testing"
import type { Done, Piece } from "./histories.ts"
import { worlds } from "./worlds.ts"

// Errors are made by the thousand, and nobody looks at where.
Error.stackTraceLimit = 0

const simulate = ({ from, name, processes, rounds, to }: Piece): Done => {
  const { mix, model } = worlds[name]!
  const total = { histories: 0, acquired: 0, trustedWrites: 0, lost: 0 }
  for (let seed = from; seed < to; seed++) {
    const { counts, violations } = Simulation.simulate(seed, mix, { processes, rounds, model })
    total.histories++
    for (const each of ["acquired", "trustedWrites", "lost"] as const) total[each] += counts[each]
    if (violations.length > 0) return { ...total, failed: seed }
  }
  return { ...total, failed: undefined }
}

process.on("message", (piece: Piece) => process.send!(simulate(piece)))
// Whoever asked is gone.
process.on("disconnect", () => process.exit())

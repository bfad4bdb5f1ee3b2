/**
 * The core in many made-up histories. A failure prints what replays it: `npm run sim -- --seed S --mix M`.
 */
import { assert, describe, it } from "@effect/vitest"
import { Simulation } from "effect-lock/testing"

/** Processes × rounds, and how many seeds of every mix. */
const shapes = [
  { processes: 2, rounds: 1, seeds: 2000 },
  { processes: 3, rounds: 3, seeds: 200 },
  { processes: 8, rounds: 5, seeds: 8 }
]
const replays = 200

const mixNames = Object.keys(Simulation.mixes) as ReadonlyArray<Simulation.MixName>

const pass = (seed: number, name: Simulation.MixName, options: Simulation.Options): Simulation.Outcome => {
  const outcome = Simulation.simulate(seed, Simulation.mixes[name], options)
  if (outcome.violations.length > 0) assert.fail(Simulation.report(seed, name, options))
  return outcome
}

// Errors are made by the thousand, and nobody looks at where.
Error.stackTraceLimit = 3

describe("simulation", () => {
  it("one seed is one history", () => {
    for (let seed = 0; seed < replays; seed++) {
      const { everything } = Simulation.mixes
      const first = Simulation.simulate(seed, everything)
      const second = Simulation.simulate(seed, everything)
      assert.deepStrictEqual(second, first, `seed ${seed}`)
    }
  })

  it("a history is the same when its faults are given instead of drawn", () => {
    for (let seed = 0; seed < replays; seed++) {
      const { everything } = Simulation.mixes
      const first = Simulation.simulate(seed, everything, { processes: 2 })
      const second = Simulation.simulate(seed, everything, { processes: 2, faults: first.faults })
      assert.deepStrictEqual(second, first, `seed ${seed}`)
    }
  })

  for (const name of mixNames) {
    it(`the core keeps its promises under ${name}`, { timeout: 600_000 }, () => {
      const total = { acquired: 0, trustedWrites: 0, lost: 0 }
      const startedAt = performance.now()
      let histories = 0
      for (const { processes, rounds, seeds } of shapes) {
        for (let seed = 0; seed < seeds; seed++) {
          const { counts } = pass(seed, name, { processes, rounds })
          for (const key of ["acquired", "trustedWrites", "lost"] as const) total[key] += counts[key]
          histories++
        }
      }
      const seconds = (performance.now() - startedAt) / 1000
      process.stdout.write(
        `${name}: ${histories} histories, ${(histories / seconds).toFixed(0)} a second; ${total.acquired} acquired, `
          + `${total.trustedWrites} trusted writes, ${total.lost} lost\n`
      )
      // A simulation in which hardly anything is acquired would pass too.
      assert.isAbove(total.acquired, histories)
      assert.isAbove(total.trustedWrites, histories)
    })
  }
})

/**
 * The core in many made-up histories. A failure prints what replays it: `npm run sim -- --seed S --mix M`.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Simulation } from "effect-lock/testing"
import { availableParallelism } from "node:os"
import { Histories, split } from "./histories.ts"
import { worlds } from "./worlds.ts"

/** Processes × rounds, and how many seeds of every mix: the first are those that mutants are noticed by. */
const shapes = [
  { processes: 2, rounds: 1, seeds: 10_000, most: 250 },
  { processes: 3, rounds: 3, seeds: 300, most: 25 },
  { processes: 8, rounds: 5, seeds: 16, most: 2 }
]
const replays = 200

const { everything } = Simulation.mixes

// Errors are made by the thousand, and nobody looks at where.
Error.stackTraceLimit = 3

describe("simulation", () => {
  it("one seed is one history", () => {
    for (let seed = 0; seed < replays; seed++) {
      const first = Simulation.simulate(seed, everything)
      const second = Simulation.simulate(seed, everything)
      assert.deepStrictEqual(second, first, `seed ${seed}`)
    }
  })

  it("a history is the same when its faults are given instead of drawn", () => {
    for (let seed = 0; seed < replays; seed++) {
      const first = Simulation.simulate(seed, everything, { processes: 2 })
      const second = Simulation.simulate(seed, everything, { processes: 2, faults: first.faults })
      assert.deepStrictEqual(second, first, `seed ${seed}`)
    }
  })
})

describe("the core keeps its promises", () => {
  let histories: Histories
  beforeAll(() => {
    histories = new Histories(Math.min(2, availableParallelism()))
  })
  afterAll(() => histories.close())

  for (const [name, { mix, model, share }] of Object.entries(worlds)) {
    it(`under ${name}`, { timeout: 600_000 }, async () => {
      const total = { histories: 0, acquired: 0, trustedWrites: 0, lost: 0 }
      const startedAt = performance.now()
      const pieces = shapes.flatMap(({ most, processes, rounds, seeds }) =>
        split({ name, processes, rounds, from: 0, to: Math.ceil(seeds * share) }, most)
      )
      const failed = await histories.run(pieces, (done) => {
        for (const each of ["histories", "acquired", "trustedWrites", "lost"] as const) total[each] += done[each]
      })
      if (failed !== undefined) {
        assert.fail(
          Simulation.report(failed.seed, name, mix, { processes: failed.processes, rounds: failed.rounds, model })
        )
      }
      const seconds = (performance.now() - startedAt) / 1000
      process.stdout.write(
        `${name}: ${total.histories} histories in ${seconds.toFixed(1)} s; ${total.acquired} acquired, `
          + `${total.trustedWrites} trusted writes, ${total.lost} lost\n`
      )
      // A simulation in which hardly anything is acquired would pass too.
      assert.isAbove(total.acquired, total.histories)
      assert.isAbove(total.trustedWrites, total.histories)
    })
  }
})

/**
 * Redlock in many made-up histories.
 */
import { assert, describe, it } from "@effect/vitest"
import { simulate } from "./quorumHistory.ts"
import { mixes, type MixName } from "./quorumMixes.ts"

/** How many seeds of every mix. */
const seeds = Number(process.env["QUORUM_SEEDS"] ?? 50)
const mixNames = Object.keys(mixes) as ReadonlyArray<MixName>

Error.stackTraceLimit = 3

describe("a quorum of masters", () => {
  it("one seed is one history", () => {
    for (let seed = 0; seed < 20; seed++) {
      assert.deepStrictEqual(simulate(seed, mixes.everything), simulate(seed, mixes.everything), `seed ${seed}`)
    }
  })

  for (const name of mixNames) {
    it(`keeps its promises under ${name}`, { timeout: 600_000 }, () => {
      const total = { acquired: 0, trustedWrites: 0, lost: 0, contended: 0 }
      const startedAt = performance.now()
      for (let seed = 0; seed < seeds; seed++) {
        const { counts, violations } = simulate(seed, mixes[name])
        if (violations.length > 0) {
          const { history } = simulate(seed, mixes[name], { keepHistory: true })
          const told = violations.map(({ at, detail, oracle }) => `${oracle} at ${at.toFixed(3)} ms: ${detail}`)
          assert.fail([`seed ${seed} of ${name} fails:`, ...told, ...history].join("\n"))
        }
        for (const key of ["acquired", "trustedWrites", "lost", "contended"] as const) total[key] += counts[key]
      }
      const seconds = (performance.now() - startedAt) / 1000
      process.stdout.write(
        `${name}: ${seeds} histories, ${(seeds / seconds).toFixed(0)} a second; ${total.acquired} acquired, `
          + `${total.trustedWrites} trusted writes, ${total.lost} lost, ${total.contended} contended\n`
      )
      // A simulation in which hardly anything is acquired would pass too.
      assert.isAbove(total.acquired, seeds)
      assert.isAbove(total.trustedWrites, seeds)
    })
  }
})

/**
 * Every placement of up to two faults over one acquire, renew and release by each of two processes: nothing is left to
 * chance here.
 */
import { assert, describe, it } from "@effect/vitest"
import { Simulation } from "effect-lock/testing"

/** Holds long enough for one renewal; process faults and interruptions are placed on a grid of so many milliseconds. */
const hold = 500
const grid = 200
const until = 1600
const seed = 1

/** One length each: one that is over soon for what is bounded, one beyond the ttl for the rest. */
const ofMessages: ReadonlyArray<readonly [Simulation.Kind, by: number]> = [
  ["lostRequest", 0],
  ["lostReply", 0],
  ["resetBefore", 0],
  ["resetAfter", 0],
  ["slow", 190],
  ["late", 1300],
  ["duplicate", 700],
  ["resent", 120]
]
const ofProcesses: ReadonlyArray<readonly [Simulation.Kind, by: number]> = [
  ["pause", 1300],
  ["suspend", 1300],
  ["kill", 0],
  ["forward", 2000],
  ["backward", 2000]
]

const run = (faults: ReadonlyArray<Simulation.Fault>): Simulation.Outcome => {
  // A server whose network repeats requests must remember more, which would hide what a release forgets to tell.
  const repeats = faults.some(({ kind }) => kind === "duplicate")
  const mix = repeats ? { disorder: 0, duplicate: 1 } : { disorder: 0 }
  const options = { processes: 2, rounds: 1, callers: 1, hold, faults }
  const outcome = Simulation.simulate(seed, mix, options)
  if (outcome.violations.length > 0) {
    const { history } = Simulation.simulate(seed, mix, { ...options, keepHistory: true })
    assert.fail([JSON.stringify(faults), ...history].join("\n"))
  }
  return outcome
}

/** Every single fault that can meet something in a history like `outcome`. */
const placements = ({ messages }: Simulation.Outcome): ReadonlyArray<Simulation.Fault> => {
  const faults: Array<Simulation.Fault> = []
  messages.forEach((sent, process) => {
    for (const [kind, by] of ofMessages) for (let at = 0; at < sent; at++) faults.push({ kind, process, at, by })
    for (let at = grid / 2; at < until; at += grid) {
      for (const [kind, by] of ofProcesses) faults.push({ kind, process, at, by })
      faults.push({ kind: "interrupt", process, at: 0, by: at })
    }
  })
  return faults
}

const nameOf = ({ at, by, kind, process }: Simulation.Fault) => `${kind}/${process}/${at}/${by}`

Error.stackTraceLimit = 3

describe("simulation", () => {
  it("every placement of one or two faults over one acquire, renew and release", { timeout: 600_000 }, () => {
    const startedAt = performance.now()
    const calm = run([])
    assert.deepStrictEqual(calm.counts.acquired, 2)
    const singles = placements(calm)
    const indexOf = new Map(singles.map((fault, index) => [nameOf(fault), index]))
    let histories = 1
    singles.forEach((first, index) => {
      const outcome = run([first])
      histories++
      for (const second of placements(outcome)) {
        // Each pair once; but what can be met only because of the first is in no other pair.
        const isLater = (indexOf.get(nameOf(second)) ?? Infinity) > index
        const isSamePlace = first.process === second.process && first.at === second.at
          && (first.kind === "interrupt") === (second.kind === "interrupt")
        if (!isLater || isSamePlace) continue
        run([first, second])
        histories++
      }
    })
    const seconds = (performance.now() - startedAt) / 1000
    process.stdout.write(
      `${singles.length} single faults, ${histories} histories, ${(histories / seconds).toFixed(0)} a second\n`
    )
    assert.isAbove(histories, 10_000)
  })
})

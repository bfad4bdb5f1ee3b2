/** What the nemesis plans. */
import { assert, describe, it } from "@effect/vitest"
import { grounds } from "./arenas.ts"
import { plan, type PlanOptions } from "./plan.ts"

const options = (seed: string, choices = grounds[1]!.choices): PlanOptions => ({
  seed,
  millis: 60_000,
  workers: 3,
  servers: 3,
  choices,
  every: [100, 500]
})

describe("plan", () => {
  it("a seed has one plan, and another seed another", () => {
    assert.deepStrictEqual(plan(options("a")), plan(options("a")))
    assert.notDeepEqual(plan(options("a")), plan(options("b")))
  })

  it("every fault of every backend has its turn", () => {
    for (const { choices, name } of grounds) {
      const struck = new Set(["a", "b", "c"].flatMap((seed) => plan(options(seed, choices)).map(({ fault }) => fault)))
      assert.sameMembers([...struck], choices.map(({ fault }) => fault), name)
    }
  })

  it("servers fail one at a time, and nothing lasts longer than the run", () => {
    const choices = grounds.find(({ name }) => name === "redlock")!.choices
    const servers = new Set(choices.filter(({ target }) => target === "server").map(({ fault }) => fault))
    const strokes = plan(options("a", choices))
    const outages = strokes.filter(({ fault }) => servers.has(fault))
    assert.isAbove(outages.length, 5)
    outages.slice(1).forEach(({ at }, index) => assert.isAbove(at, outages[index]!.at + outages[index]!.lasts))
    for (const { at, lasts } of strokes) assert.isAtMost(at + lasts, 60_001)
  })
})

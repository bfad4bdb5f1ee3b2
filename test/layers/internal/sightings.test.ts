import { assert, describe, it } from "@effect/vitest"
import * as Sightings from "../../../src/layers/internal/sightings.ts"

const at = (monotonic: number, wall = monotonic) => ({ monotonic, wall })

describe("sightings", () => {
  it("counts from the receipt of the first sighting to the sending of the last", () => {
    const sightings = Sightings.make()
    const look = (before: number, after: number, version = "1") =>
      Sightings.timeLeft(sightings, "lock", { version, before: at(before), after: at(after) }, 100)
    assert.strictEqual(look(0, 10), 100)
    assert.strictEqual(look(50, 60), 60)
    assert.strictEqual(look(109, 500), 1)
    assert.strictEqual(look(110, 500), 0)
  })

  it("starts anew when what is seen has changed", () => {
    const sightings = Sightings.make()
    const look = (moment: number, version: string) =>
      Sightings.timeLeft(sightings, "lock", { version, before: at(moment), after: at(moment) }, 100)
    assert.strictEqual(look(0, "1"), 100)
    assert.strictEqual(look(90, "2"), 100)
    assert.strictEqual(look(150, "2"), 40)
    assert.strictEqual(look(160, "1"), 100)
  })

  it("trusts the clock that moved less", () => {
    const sightings = Sightings.make()
    const look = (monotonic: number, wall: number) =>
      Sightings.timeLeft(
        sightings,
        "lock",
        { version: "1", before: at(monotonic, wall), after: at(monotonic, wall) },
        100
      )
    assert.strictEqual(look(0, 0), 100)
    assert.strictEqual(look(20, 5000), 80)
    assert.strictEqual(look(5000, -5000), 100)
  })

  it("forgets the oldest when it knows too many", () => {
    const sightings = Sightings.make()
    for (let lock = 0; lock <= Sightings.most; lock++) {
      Sightings.timeLeft(sightings, `${lock}`, { version: "1", before: at(0), after: at(0) }, 100)
    }
    assert.strictEqual(sightings.size, Sightings.most)
    assert(!sightings.has("0"))
    assert(sightings.has("1"))
  })
})

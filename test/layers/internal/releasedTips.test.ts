import { assert, describe, it } from "@effect/vitest"
import * as Listing from "../../../src/layers/internal/fileListing.ts"
import * as ReleasedTips from "../../../src/layers/internal/releasedTips.ts"

const generation = (number: number): string => String(number).padStart(16, "0")

/** Two grants of this process, one after the other, of which `last` is the second. */
const twice = (self: ReleasedTips.ReleasedTips, directory: string, last: number) => {
  ReleasedTips.add(self, directory, generation(last - 1))
  ReleasedTips.add(self, directory, generation(last))
}

describe("the tips that were released", () => {
  it("are tried once each, and only after two grants in a row", () => {
    const self = ReleasedTips.make()
    assert.isUndefined(ReleasedTips.take(self, "d"))
    ReleasedTips.add(self, "d", generation(1))
    assert.isUndefined(ReleasedTips.take(self, "d"))
    ReleasedTips.add(self, "d", generation(2))
    assert.strictEqual(ReleasedTips.take(self, "d"), generation(2))
    assert.isUndefined(ReleasedTips.take(self, "d"))
    ReleasedTips.add(self, "d", Listing.next(generation(2)))
    assert.strictEqual(ReleasedTips.take(self, "d"), generation(3))
    ReleasedTips.add(self, "d", generation(5))
    assert.isUndefined(ReleasedTips.take(self, "d"))
  })

  it("are forgotten, the oldest first, beyond so many locks", () => {
    const self = ReleasedTips.make()
    for (let lock = 0; lock <= ReleasedTips.most; lock++) twice(self, `d${lock}`, 2)
    assert.strictEqual(self.size, ReleasedTips.most)
    assert.isUndefined(ReleasedTips.take(self, "d0"))
    assert.strictEqual(ReleasedTips.take(self, "d1"), generation(2))
  })
})

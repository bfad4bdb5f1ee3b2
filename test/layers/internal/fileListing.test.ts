import { assert, describe, it } from "@effect/vitest"
import * as Listing from "../../../src/layers/internal/fileListing.ts"

const generation = (n: number) => String(n).padStart(16, "0")

describe("fileListing", () => {
  it("sorts records from the highest, and leaves alone what is not its own", () => {
    const listing = Listing.parse([
      Listing.recordName(generation(9)),
      ".DS_Store",
      Listing.recordName(generation(10)),
      "g1",
      `${Listing.recordName(generation(11))}.bak`,
      `${Listing.recordName(generation(12))}-5`,
      Listing.drainedName(generation(10)),
      Listing.brokenName(generation(9)),
      Listing.lengthenedName({ generation: generation(10), ttl: 5000 }),
      `t${generation(10)}`
    ])
    assert.deepStrictEqual(listing.generations, [generation(10), generation(9)])
    assert.deepStrictEqual(listing.drained, [generation(10)])
    assert.deepStrictEqual(listing.broken, [generation(9)])
    assert.deepStrictEqual(listing.lengthened, [{ generation: generation(10), ttl: 5000 }])
    assert(Listing.isMarked(listing, generation(10)) && Listing.isMarked(listing, generation(9)))
    assert(!Listing.isMarked(listing, generation(8)))
  })

  it("a grant lives for its longest ttl", () => {
    const mark = (ttl: number) => Listing.lengthenedName({ generation: generation(1), ttl })
    const listing = Listing.parse([mark(200), mark(3000), mark(100)])
    assert.strictEqual(Listing.ttlOf(listing, generation(1), 1000), 3000)
    assert.strictEqual(Listing.ttlOf(listing, generation(1), 5000), 5000)
    assert.strictEqual(Listing.ttlOf(listing, generation(2), 1000), 1000)
  })

  it("names the marks below a generation", () => {
    const names = [
      Listing.drainedName(generation(1)),
      Listing.brokenName(generation(2)),
      Listing.lengthenedName({ generation: generation(2), ttl: 7 }),
      Listing.brokenName(generation(3))
    ]
    assert.deepStrictEqual(Listing.marksBelow(Listing.parse(names), generation(3)), names.slice(0, 3))
  })

  it("counts on without losing digits, from the clock in microseconds", () => {
    assert.strictEqual(Listing.first(1_763_683_200_000), "1763683200000000")
    assert.strictEqual(Listing.next("0999999999999999"), "1000000000000000")
    assert.strictEqual(Listing.next("9007199254740993"), "9007199254740994")
    assert.strictEqual(Listing.first(-5), generation(1))
    assert.strictEqual(Listing.first(Number.MAX_VALUE).length, 16)
  })

  it("reads the handles that it writes, and no others", () => {
    const handle = { generation: generation(7), ttl: 30_000, ownerId: "a.b.c\n" }
    assert.deepStrictEqual(Listing.parseHandle(Listing.formatHandle(handle)), handle)
    for (const foreign of ["", "7", "7.1.a", `${generation(7)}.a`, `${generation(7)}.-1.a`, `g${generation(7)}.1.a`]) {
      assert.strictEqual(Listing.parseHandle(foreign), undefined, foreign)
    }
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Duration, Option, Schema } from "effect"
import * as DateTime from "effect/DateTime"
import { inspect } from "node:util"
import { Holder } from "../../src/Holder.ts"
import { isHeld } from "../../src/internal/reply.ts"
import type { Held } from "../../src/LockBackend.ts"

const holder: Holder = {
  ownerId: "o",
  since: Option.some(DateTime.makeUnsafe(0)),
  remaining: Option.some(Duration.seconds(1)),
  fencingToken: Option.some(1n),
  metadata: { host: "h" }
}
const anything: ReadonlyArray<unknown> = [
  ...[undefined, null, true, 0, 1n, "", "o", Symbol.iterator, () => 0, [], {}, new Map(), new Date(0)],
  ...[{ host: "h" }, { host: 1 }, { host: undefined }, { _tag: "Utc" }, { _tag: "Some", value: 1n }, [holder]],
  ...[DateTime.makeUnsafe(0), DateTime.makeZonedUnsafe(0, { timeZone: "UTC" }), Duration.zero, Duration.infinity]
]
const isHolder = Schema.is(Holder)
const held = (each: unknown) => isHeld({ _tag: "Held", holders: [each as Holder], retryAfter: Option.none() })

describe("replies", () => {
  it("holders are what the schema of holders says", () => {
    const fields = Object.keys(holder)
    const options = [...anything, ...anything.map(Option.some), Option.none()]
    const candidates = [
      ...anything,
      holder,
      ...fields.flatMap((field) => options.map((value) => ({ ...holder, [field]: value }))),
      ...fields.map((field) => Object.fromEntries(Object.entries(holder).filter(([name]) => name !== field)))
    ]
    for (const candidate of candidates) {
      assert.strictEqual(held(candidate), isHolder(candidate), inspect(candidate))
    }
    const good = candidates.filter(held).length
    assert.isAbove(good, fields.length)
    assert.isBelow(good, candidates.length / 2)
  })

  it("a refusal has a list of holders", () => {
    for (const holders of [undefined, null, holder, "", { length: 0 }]) {
      assert.isFalse(isHeld({ _tag: "Held", holders, retryAfter: Option.none() } as unknown as Held))
    }
  })
})

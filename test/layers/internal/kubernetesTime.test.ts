import { assert, describe, it } from "@effect/vitest"
import { Headers } from "effect/http"
import { microTime, millisOf, serverTime, serverTimeAtMost } from "../../../src/layers/internal/kubernetesTime.ts"

describe("times of lease objects", () => {
  it("have exactly six fractional digits", () => {
    const times: ReadonlyArray<readonly [bigint, string]> = [
      [0n, "1970-01-01T00:00:00.000000Z"],
      [1n, "1970-01-01T00:00:00.000000Z"],
      [1_999n, "1970-01-01T00:00:00.000001Z"],
      [1_800_000_000_123_456_789n, "2027-01-15T08:00:00.123456Z"],
      [1_800_000_000_000_007_000n, "2027-01-15T08:00:00.000007Z"]
    ]
    for (const [nanos, text] of times) assert.strictEqual(microTime(nanos), text)
  })

  it("are read back, and nonsense is none", () => {
    assert.strictEqual(millisOf("2027-01-15T08:00:00.123456Z"), 1_800_000_000_123)
    assert.strictEqual(millisOf("Fri, 15 Jan 2027 08:00:00 GMT"), 1_800_000_000_000)
    for (const text of ["", "yesterday", undefined]) assert.isUndefined(millisOf(text))
  })
})

describe("the server's time", () => {
  it("is never taken to be earlier than it was", () => {
    // The answer was written at 08:00:00.999, which the header cuts off, just after it was asked for.
    const seen = serverTime(Headers.fromInput({ date: "Fri, 15 Jan 2027 08:00:00 GMT" }), { monotonic: 5000, wall: 0 })
    assert.isDefined(seen)
    assert.isAtLeast(serverTimeAtMost(seen!, { monotonic: 7000.5, wall: 0 }), 1_800_000_000_999 + 2000.5)
    assert.isAtLeast(serverTimeAtMost(seen!, { monotonic: 5000, wall: 3000 }), 1_800_000_000_999 + 3000)
  })

  it("is unknown without a header", () => {
    assert.isUndefined(serverTime(Headers.fromInput({}), { monotonic: 0, wall: 0 }))
    assert.isUndefined(serverTime(Headers.fromInput({ date: "now" }), { monotonic: 0, wall: 0 }))
  })
})

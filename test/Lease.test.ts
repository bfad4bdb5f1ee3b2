import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as Lease from "../src/Lease.ts"

const at = (monotonic: number, wall: number): Lease.Stamp => ({ monotonic, wall })

/** Where both clocks have moved to after `elapsed` on the monotonic and `elapsed + step` on the wall clock. */
const after = (from: Lease.Stamp, elapsed: number, step = 0): Lease.Stamp =>
  at(from.monotonic + elapsed, from.wall + elapsed + step)

// Whole milliseconds far below 2^53, so that every sum in a property is exact.
const Millis = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 86_400_000 }))
const Signed = Schema.Int.check(Schema.isBetween({ minimum: -86_400_000, maximum: 86_400_000 }))
const Ttl = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 86_400_000 }))
const Start = Schema.Struct({
  monotonic: Millis,
  wall: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2e12 }))
})
const Trust = Schema.Struct({ sentAt: Start, trusted: Millis })
const runs = { arbitrary: { runs: 500 } }

describe("Stamp", () => {
  it.effect("reads both clocks in milliseconds; a wall clock set back moves the wall clock alone", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      yield* TestClock.adjust("1500 millis")
      assert.deepStrictEqual(Lease.stamp(clock), at(1500, 1500))
      yield* TestClock.setTime(400)
      assert.deepStrictEqual(Lease.stamp(clock), at(1500, 400))
    }))

  it.effect("keeps fractions of a millisecond", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      yield* TestClock.adjust("1500 micros")
      assert.strictEqual(Lease.stamp(clock).monotonic, 1.5)
    }))
})

describe("elapsed time", () => {
  const from = at(1_000, 1_700_000_000_000)

  it("both clocks at the same rate: the same for trust and takeover", () => {
    assert.strictEqual(Lease.elapsedForTrust(from, after(from, 250)), 250)
    assert.strictEqual(Lease.elapsedForTakeover(from, after(from, 250)), 250)
  })

  it("a machine that slept, its monotonic clock stopped: our trust ages, the other's lease does not", () => {
    const woken = at(from.monotonic + 10, from.wall + 3_600_010)
    assert.strictEqual(Lease.elapsedForTrust(from, woken), 3_600_010)
    assert.strictEqual(Lease.elapsedForTakeover(from, woken), 10)
  })

  it("a wall clock stepped forward: our trust ages, the other's lease does not", () => {
    const stepped = after(from, 100, 60_000)
    assert.strictEqual(Lease.elapsedForTrust(from, stepped), 60_100)
    assert.strictEqual(Lease.elapsedForTakeover(from, stepped), 100)
  })

  it("a wall clock stepped back: our trust ages by the monotonic clock, the other's lease not at all", () => {
    const stepped = after(from, 100, -60_000)
    assert.strictEqual(Lease.elapsedForTrust(from, stepped), 100)
    assert.strictEqual(Lease.elapsedForTakeover(from, stepped), 0)
  })

  it("is never negative, even if both clocks go back", () => {
    assert.strictEqual(Lease.elapsedForTrust(from, at(from.monotonic - 5, from.wall - 5)), 0)
    assert.strictEqual(Lease.elapsedForTakeover(from, at(from.monotonic - 5, from.wall - 5)), 0)
  })

  it.prop(
    "takeover never believes in more time than trust does; each is one of the two differences or 0",
    { from: Start, monotonic: Signed, wall: Signed },
    ({ from, monotonic, wall }) => {
      const to = at(from.monotonic + monotonic, from.wall + wall)
      const trust = Lease.elapsedForTrust(from, to)
      const takeover = Lease.elapsedForTakeover(from, to)
      assert.isTrue(takeover >= 0 && takeover <= trust)
      assert.isTrue(trust >= monotonic && trust >= wall && [0, monotonic, wall].includes(trust))
      assert.isTrue(
        (takeover <= Math.max(monotonic, 0)) && (takeover <= Math.max(wall, 0)) &&
          [0, monotonic, wall].includes(takeover)
      )
    },
    runs
  )
})

describe("trust", () => {
  const trust: Lease.Trust = { sentAt: at(5_000, 9_000), trusted: 28_500 }

  it("lasts until sent + ttl − margin, and not at that moment", () => {
    assert.strictEqual(Lease.remainingTrust(trust, trust.sentAt), 28_500)
    assert.strictEqual(Lease.remainingTrust(trust, after(trust.sentAt, 28_499)), 1)
    assert.isTrue(Lease.isTrusted(trust, after(trust.sentAt, 28_499)))
    assert.strictEqual(Lease.remainingTrust(trust, after(trust.sentAt, 28_500)), 0)
    assert.isFalse(Lease.isTrusted(trust, after(trust.sentAt, 28_500)))
    assert.strictEqual(Lease.remainingTrust(trust, after(trust.sentAt, 28_600)), -100)
  })

  it("counts from the send: a slow reply shortens it", () => {
    const repliedAt = after(trust.sentAt, 4_000)
    assert.strictEqual(Lease.remainingTrust(trust, repliedAt), 24_500)
  })

  it("a machine that slept beyond it is not trusted when it wakes, though its monotonic clock saw nothing", () => {
    assert.isFalse(Lease.isTrusted(trust, at(trust.sentAt.monotonic + 1, trust.sentAt.wall + 28_501)))
  })

  it("a wall clock stepped back does not lengthen it", () => {
    assert.strictEqual(Lease.remainingTrust(trust, after(trust.sentAt, 28_500, -3_600_000)), 0)
  })

  it("a wall clock stepped forward ends it early; only the stepped-back clock makes the answer yes again", () => {
    const forward = after(trust.sentAt, 1_000, 60_000)
    assert.isFalse(Lease.isTrusted(trust, forward))
    assert.isTrue(Lease.isTrusted(trust, after(forward, 0, -60_000)))
  })

  it.prop(
    "no step of the wall clock, in either direction, makes it last longer than no step",
    { trust: Trust, elapsed: Millis, step: Signed },
    ({ elapsed, step, trust }) => {
      assert.isAtMost(
        Lease.remainingTrust(trust, after(trust.sentAt, elapsed, step)),
        Lease.remainingTrust(trust, after(trust.sentAt, elapsed))
      )
    },
    runs
  )

  it.prop(
    "never lasts beyond the granted ttl by either clock, and only shrinks while both clocks go forward",
    { trust: Trust, monotonic: Millis, wall: Millis, more: Millis },
    ({ monotonic, more, trust, wall }) => {
      const now = at(trust.sentAt.monotonic + monotonic, trust.sentAt.wall + wall)
      const left = Lease.remainingTrust(trust, now)
      assert.isAtMost(left, trust.trusted - monotonic)
      assert.isAtMost(left, trust.trusted - wall)
      assert.strictEqual(Lease.isTrusted(trust, now), left > 0)
      assert.strictEqual(Lease.remainingTrust(trust, after(now, more)), left - more)
    },
    runs
  )
})

describe("longer", () => {
  const a: Lease.Trust = { sentAt: at(0, 0), trusted: 1_000 }

  it("takes the renewal that lasts longer, and keeps the old trust against one that does not", () => {
    const renewal: Lease.Trust = { sentAt: at(500, 500), trusted: 1_000 }
    const shorter: Lease.Trust = { sentAt: at(500, 500), trusted: 400 }
    const now = at(600, 600)
    assert.strictEqual(Lease.longer(a, renewal, now), renewal)
    assert.strictEqual(Lease.longer(a, shorter, now), a)
    assert.strictEqual(Lease.longer(renewal, a, now), renewal)
  })

  it("judges by both clocks: a trust that spans a step of the wall clock has lost that time", () => {
    const beforeStep: Lease.Trust = { sentAt: at(900, 900), trusted: 1_000 }
    const afterStep: Lease.Trust = { sentAt: at(950, 5_950), trusted: 500 }
    assert.strictEqual(Lease.longer(beforeStep, afterStep, at(1_000, 6_000)), afterStep)
  })

  it.prop(
    "never shortens: what comes out is one of the two, and lasts as long as either",
    { a: Trust, b: Trust, monotonic: Signed, wall: Signed },
    ({ a, b, monotonic, wall }) => {
      const now = at(a.sentAt.monotonic + monotonic, a.sentAt.wall + wall)
      const longer = Lease.longer(a, b, now)
      assert.isTrue(longer === a || longer === b)
      assert.strictEqual(
        Lease.remainingTrust(longer, now),
        Math.max(Lease.remainingTrust(a, now), Lease.remainingTrust(b, now))
      )
    },
    runs
  )
})

describe("safetyMargin", () => {
  const cases: ReadonlyArray<readonly [ttl: number, granularity: number, margin: number, why: string]> = [
    [30_000, 0, 1_500, "5 % of a ttl of 30 s"],
    [1_000, 0, 50, "at least 50 ms: 5 % of 1 s is exactly that"],
    [500, 0, 50, "at least 50 ms: 5 % of 500 ms would be less"],
    [200, 0, 50, "at least 50 ms, which is the quarter of 200 ms"],
    [100, 0, 25, "at most a quarter of the ttl, against the 50 ms"],
    [30_000, 1_000, 2_500, "plus the backend's granularity"],
    [500, 25, 75, "the granularity on top of the 50 ms"],
    [2_000, 1_000, 500, "at most a quarter of the ttl, against the granularity"],
    [86_400_000, 0, 4_320_000, "5 % of a day"]
  ]
  for (const [ttl, granularity, margin, why] of cases) {
    it(why, () => assert.closeTo(Lease.safetyMargin(ttl, granularity), margin, 1e-9))
  }

  it.prop(
    "leaves at least three quarters of the ttl, and is otherwise at least 50 ms, 5 % and the granularity",
    { ttl: Ttl, granularity: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5_000 })) },
    ({ granularity, ttl }) => {
      const margin = Lease.safetyMargin(ttl, granularity)
      assert.isTrue(margin > 0 && margin <= ttl / 4)
      if (margin < ttl / 4) {
        assert.isAtLeast(margin, 50 + granularity)
        assert.isAtLeast(margin, ttl * 0.05 + granularity)
        assert.isTrue(margin === 50 + granularity || margin === ttl * 0.05 + granularity)
      }
    },
    runs
  )
})

describe("leastTrustOfGrant", () => {
  it("is half of the ttl, which a fresh grant with the largest margin still has", () => {
    assert.strictEqual(Lease.leastTrustOfGrant(30_000), 15_000)
    assert.isAbove(30_000 - 30_000 / 4, Lease.leastTrustOfGrant(30_000))
  })
})

describe("the model", () => {
  it.effect.prop(
    "a holder's trust ends before a server whose clock runs within the margin lets the lease expire",
    {
      ttl: Schema.Int.check(Schema.isBetween({ minimum: 1_000, maximum: 3_600_000 })),
      // Parts per million by which the holder's clock is slower than the server's; the margin covers 5 %.
      slower: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 45_000 })),
      latency: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 10_000 }))
    },
    ({ latency, slower, ttl }) =>
      Effect.gen(function*() {
        const clock = yield* Clock.Clock
        const sentAt = Lease.stamp(clock)
        const trust = { sentAt, trusted: ttl - Lease.safetyMargin(ttl, 0) }
        // True time passes `ttl` after the request, which reached the server `latency` later; the holder's clocks see less.
        const serverExpiresAt = ttl + latency
        yield* TestClock.adjust((serverExpiresAt * (1_000_000 - slower)) / 1_000_000)
        assert.isFalse(Lease.isTrusted(trust, Lease.stamp(clock)))
      }),
    { arbitrary: { runs: 200 } }
  )
})

/**
 * When a lease ends by itself, and how it is kept alive.
 */
import * as Duration from "effect/Duration"
import type { Law } from "../Law.ts"
import { describe } from "./describe.ts"
import { oneOfMany } from "./exclusion.ts"
import { law } from "./law.ts"

export const expiry: ReadonlyArray<Law> = [
  law(
    "expiry/granted-ttl",
    "the granted ttl is at least the ttl asked for, down to the backend's floor",
    function*(probe) {
      for (const ttl of [probe.first.capabilities.minTtl, probe.ttl, Duration.millis(61_234.5)]) {
        const { reply } = yield* probe.grant(probe.first, yield* probe.freshKey, { ttl })
        yield* probe.expect(
          Duration.isGreaterThanOrEqualTo(reply.grantedTtl, ttl),
          `a granted ttl of ${Duration.format(ttl)} or more`,
          Duration.format(reply.grantedTtl)
        )
      }
    }
  ),

  law("expiry/not-before-ttl", "a lease lasts for its ttl", function*(probe) {
    const key = yield* probe.freshKey
    const grant = yield* probe.grant(probe.first, key, { ttl: probe.ttl })
    for (let step = 0; step < 3; step++) {
      yield* probe.pass(Duration.times(probe.ttl, 0.3))
      yield* probe.refusedWithin(probe.second, key, grant, "its ttl has not passed")
    }
  }),

  law("expiry/after-ttl", "a lease that is not renewed ends after its ttl", function*(probe) {
    const key = yield* probe.freshKey
    yield* probe.grant(probe.first, key, { ttl: probe.ttl })
    yield* probe.pass(probe.ttl)
    yield* probe.grantWithinSlack(probe.second, key, {}, "its ttl has passed")
  }),

  law("expiry/retry-after", "retryAfter is when an unrenewed lock will be free", function*(probe) {
    const key = yield* probe.freshKey
    yield* probe.grant(probe.first, key, { ttl: probe.ttl })
    const { retryAfter } = yield* probe.refusal(probe.second, key)
    if (retryAfter._tag === "None") return
    yield* probe.pass(retryAfter.value)
    yield* probe.grantWithinSlack(probe.second, key, {}, "retryAfter has passed")
  }),

  law(
    "expiry/one-takes-over",
    "of many who ask for an expired lock, exactly one gets it",
    function*(probe) {
      const key = yield* probe.freshKey
      const old = yield* probe.grant(probe.first, key, { ttl: probe.ttl })
      yield* probe.pass(Duration.sum(probe.ttl, probe.environment.expirySlack))
      yield* oneOfMany(probe, key)
      yield* probe.lost(probe.first, old, ["Taken"], "somebody else took it over")
    }
  ),

  law("expiry/inspect", "an expired lock has no holder", function*(probe) {
    const key = yield* probe.freshKey
    yield* probe.grant(probe.first, key, { ttl: probe.ttl })
    yield* probe.pass(Duration.sum(probe.ttl, probe.environment.expirySlack))
    const holders = yield* probe.inspect(probe.second, key)
    yield* probe.expect(holders.length === 0, "no holder", `${holders.length} holders`)
  }),

  law("renewal/extends", "a renewal sets the whole ttl again, time after time", function*(probe) {
    const key = yield* probe.freshKey
    let grant = yield* probe.grant(probe.first, key, { ttl: probe.ttl })
    for (let round = 0; round < 4; round++) {
      yield* probe.pass(Duration.times(probe.ttl, 0.6))
      grant = yield* probe.renewedInTime(probe.first, grant, "its ttl has not passed")
    }
    yield* probe.pass(Duration.times(probe.ttl, 0.6))
    yield* probe.refusedWithin(probe.second, key, grant, "it was renewed 0.6 ttl ago")
  }),

  law("renewal/granted-ttl", "a renewal grants at least the ttl asked for", function*(probe) {
    const grant = yield* probe.grant(probe.first, yield* probe.freshKey)
    const reply = yield* probe.renew(probe.first, grant)
    if (reply._tag === "Lost") return yield* probe.fail("Renewed (it is held)", describe(reply))
    yield* probe.expect(
      Duration.isGreaterThanOrEqualTo(reply.grantedTtl, grant.ttl),
      `a granted ttl of ${Duration.format(grant.ttl)} or more`,
      Duration.format(reply.grantedTtl)
    )
  }),

  law(
    "renewal/never-shortens",
    "a renewal with a shorter ttl does not shorten a lease",
    function*(probe) {
      const key = yield* probe.freshKey
      const ttl = Duration.times(probe.ttl, 3)
      const grant = yield* probe.grant(probe.first, key, { ttl })
      yield* probe.renewedInTime(probe.first, grant, "its ttl has not passed", probe.ttl)
      yield* probe.pass(Duration.times(probe.ttl, 1.5))
      yield* probe.refusedWithin(probe.second, key, grant, "the ttl of its grant has not passed")
    }
  ),

  law(
    "renewal/through-another-instance",
    "a lease is renewed by owner id and handle, through any instance",
    function*(probe) {
      const key = yield* probe.freshKey
      const grant = yield* probe.grant(probe.first, key)
      const renewed = yield* probe.renewed(probe.second, grant, "it is held")
      yield* probe.released(probe.first, yield* probe.renewed(probe.first, renewed, "it is held"))
    }
  ),

  law("renewal/replay", "a renewal whose reply was lost can be sent again as it was", function*(probe) {
    const key = yield* probe.freshKey
    const grant = yield* probe.grant(probe.first, key)
    yield* probe.renewed(probe.first, grant, "it is held")
    const again = yield* probe.renewed(probe.second, grant, "the same renewal again: its reply may have been lost")
    yield* probe.renewed(probe.first, again, "it is held")
    yield* probe.refusal(probe.second, key)
  }),

  law(
    "renewal/gone-stays-gone",
    "renewing what was released is Lost(Gone) and does not take the lock",
    function*(probe) {
      const key = yield* probe.freshKey
      const grant = yield* probe.grant(probe.first, key)
      yield* probe.released(probe.first, grant)
      yield* probe.lost(probe.first, grant, ["Gone"], "it was released")
      yield* probe.lost(probe.second, grant, ["Gone"], "it was released")
      yield* probe.grant(probe.second, key, {}, "a refused renewal does not re-create the lock")
    }
  ),

  law(
    "renewal/after-expiry",
    "a renewal after expiry is refused, or has truly kept the lock",
    function*(probe) {
      const key = yield* probe.freshKey
      const grant = yield* probe.grant(probe.first, key, { ttl: probe.ttl })
      yield* probe.pass(Duration.sum(probe.ttl, probe.environment.expirySlack))
      const reply = yield* probe.renew(probe.first, grant, { ttl: probe.longTtl })
      if (reply._tag === "Lost") {
        yield* probe.grant(probe.second, key, {}, "the renewal was refused and nobody holds it")
      } else yield* probe.refusal(probe.second, key, {}, "the renewal succeeded")
    }
  ),

  law(
    "renewal/taken",
    "renewing what somebody else holds by now is Lost(Taken) and does not touch it",
    function*(probe) {
      const key = yield* probe.freshKey
      const old = yield* probe.grant(probe.first, key, { ttl: probe.ttl })
      yield* probe.pass(probe.ttl)
      const next = yield* probe.grantWithinSlack(probe.second, key, {}, "its ttl has passed")
      yield* probe.lost(probe.first, old, ["Taken"], "somebody else holds it")
      yield* probe.renewed(probe.second, next, "a refused renewal changes nothing")
    }
  ),

  law(
    "renewal/foreign-owner-id",
    "a renewal with another owner id is refused, whatever its handle",
    function*(probe) {
      const key = yield* probe.freshKey
      const grant = yield* probe.grant(probe.first, key)
      const ownerId = yield* probe.freshOwnerId
      yield* probe.lost(probe.second, grant, ["Taken", "Gone"], "the owner id is not the holder's", { ownerId })
      yield* probe.renewed(probe.first, grant, "a refused renewal changes nothing")
    }
  ),

  law(
    "renewal/stale-handle",
    "a renewal with the handle of an earlier grant is refused, though the owner id holds again",
    function*(probe) {
      const key = yield* probe.freshKey
      const old = yield* probe.grant(probe.first, key, { ttl: probe.ttl })
      yield* probe.pass(probe.ttl)
      const between = yield* probe.grantWithinSlack(probe.second, key, {}, "its ttl has passed")
      yield* probe.released(probe.second, between)
      const again = yield* probe.grant(probe.first, key, { ownerId: old.ownerId }, "this owner id was never released")
      yield* probe.lost(probe.first, old, ["Taken", "Gone"], "somebody else held it between the two grants")
      yield* probe.renewed(probe.first, again, "the grant of today is held")
    }
  )
]

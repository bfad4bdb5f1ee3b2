/**
 * What operators see and do: inspect and break.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Law } from "../Law.ts"
import { grown, tokenOf } from "./fencing.ts"
import { law } from "./law.ts"
import * as needs from "./needs.ts"
import type { Check, Probe } from "./probe.ts"

export const operators: ReadonlyArray<Law> = [
  law("inspect/free", "a free lock has no holder, before and after it was held", function*(probe) {
    const key = yield* probe.freshKey
    const before = yield* probe.inspect(probe.first, key)
    yield* probe.expect(before.length === 0, "no holder", `${before.length} holders`)
    yield* probe.released(probe.first, yield* probe.grant(probe.first, key))
    const after = yield* probe.inspect(probe.second, key)
    yield* probe.expect(after.length === 0, "no holder (it was released)", `${after.length} holders`)
  }),

  law("inspect/holder", "inspect shows the holder, and changes nothing", function*(probe) {
    const key = yield* probe.freshKey
    const grant = yield* probe.grant(probe.first, key)
    for (let round = 0; round < 3; round++) {
      yield* probe.heldBy(probe.second, key, grant.ownerId, "it holds the lock")
    }
    yield* probe.renewed(probe.first, grant, "it was only looked at")
  }),

  law(
    "break/now",
    "break with now frees the lock at once; the old holder learns at its next renewal",
    function*(probe) {
      const key = yield* probe.freshKey
      const old = yield* probe.grant(probe.first, key)
      yield* broken(probe, key, old.ownerId, true, "Broken")
      const next = yield* probe.grant(probe.second, key, {}, "it was broken")
      if (Option.isSome(old.token)) yield* grown(probe, tokenOf(old), next, "the lock was broken")
      yield* probe.lost(probe.first, old, ["Taken"], "its lock was broken and taken")
      yield* probe.notHeld(probe.first, key, old.ownerId, Option.some(old.handle), "its lock was broken")
      yield* probe.renewed(probe.second, next, "the release of a broken lease frees nothing")
    },
    needs.breaking
  ),

  law(
    "break/now-is-gone",
    "the renewal of a lock that was broken and not taken is Lost(Gone)",
    function*(probe) {
      const key = yield* probe.freshKey
      const old = yield* probe.grant(probe.first, key)
      yield* broken(probe, key, old.ownerId, true, "Broken")
      yield* probe.lost(probe.first, old, ["Gone"], "its lock was broken")
      yield* probe.grant(probe.second, key, {}, "a refused renewal does not re-create the lock")
    },
    needs.breaking
  ),

  law("break/owner-id", "break is conditional on the owner id that was seen", function*(probe) {
    const key = yield* probe.freshKey
    yield* broken(probe, key, yield* probe.freshOwnerId, true, "NotHeld")
    const grant = yield* probe.grant(probe.first, key)
    yield* broken(probe, key, yield* probe.freshOwnerId, true, "NotHeld")
    yield* probe.renewed(probe.first, grant, "another owner id was to be broken")
  }, needs.breaking),

  law(
    "break/drain",
    "a draining lock refuses renewals and is free at its holder's release",
    function*(probe) {
      const key = yield* probe.freshKey
      const grant = yield* probe.grant(probe.first, key)
      yield* broken(probe, key, yield* probe.freshOwnerId, false, "NotHeld")
      yield* broken(probe, key, grant.ownerId, false, "Draining")
      yield* probe.lost(probe.first, grant, ["Gone", "Taken"], "the lock is draining")
      yield* probe.refusal(probe.second, key, {}, "a draining lock is still held")
      yield* probe.released(probe.first, grant)
      yield* probe.grant(probe.second, key, {}, "its holder has released it")
    },
    needs.draining
  ),

  law(
    "break/drain-ends-by-ttl",
    "a draining lock is free at its present expiry, whatever its holder tries",
    function*(probe) {
      const key = yield* probe.freshKey
      const grant = yield* probe.grant(probe.first, key, { ttl: probe.ttl })
      yield* broken(probe, key, grant.ownerId, false, "Draining")
      yield* probe.pass(Duration.times(probe.ttl, 0.5))
      yield* probe.lost(probe.first, grant, ["Gone", "Taken"], "the lock is draining")
      yield* probe.refusedWithin(probe.first, key, grant, "the lock is draining", {
        ownerId: grant.ownerId,
        ttl: probe.ttl
      })
      yield* probe.pass(Duration.times(probe.ttl, 0.5))
      yield* probe.grantWithinSlack(probe.second, key, {}, "the expiry at the time of the break has passed")
    },
    needs.draining
  )
]

const broken = (
  probe: Probe,
  key: string,
  ownerId: string,
  now: boolean,
  expected: "Draining" | "Broken" | "NotHeld"
): Check => {
  const { second, environment } = probe
  if (second.break === undefined) return probe.fail("break", "nothing")
  return Effect.flatMap(
    probe.answer(second.break({ key, ownerId, now, budget: environment.budget })),
    (reply) => probe.expect(reply === expected, `${expected} (break of ${ownerId})`, reply)
  )
}

/**
 * How a lock is given back, and what an owner id can do once its life is over.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type { Law } from "../Law.ts"
import { law } from "./law.ts"
import * as needs from "./needs.ts"

export const release: ReadonlyArray<Law> = [
  law(
    "release/idempotent",
    "releasing twice is Released, then NotHeld, through every instance",
    function*(probe) {
      const key = yield* probe.freshKey
      const grant = yield* probe.grant(probe.first, key)
      const handle = Option.some(grant.handle)
      yield* probe.released(probe.first, grant)
      yield* probe.notHeld(probe.first, key, grant.ownerId, handle, "it was released")
      yield* probe.notHeld(probe.second, key, grant.ownerId, handle, "it was released")
      yield* probe.notHeld(probe.second, key, grant.ownerId, Option.none(), "it was released")
    }
  ),

  law("release/not-held", "releasing what was never held is NotHeld, not an error", function*(probe) {
    const key = yield* probe.freshKey
    yield* probe.notHeld(probe.first, key, yield* probe.freshOwnerId, Option.none(), "nobody holds it")
    yield* probe.grant(probe.second, key)
    yield* probe.notHeld(probe.first, key, yield* probe.freshOwnerId, Option.none(), "another owner id holds it")
  }),

  law(
    "release/never-frees-anothers",
    "a release with another owner id frees nothing, whatever its handle",
    function*(probe) {
      const key = yield* probe.freshKey
      const grant = yield* probe.grant(probe.first, key)
      const foreign = yield* probe.freshOwnerId
      yield* probe.notHeld(probe.second, key, foreign, Option.none(), "the owner id is not the holder's")
      yield* probe.notHeld(probe.second, key, foreign, Option.some(grant.handle), "the owner id is not the holder's")
      yield* probe.refusal(probe.second, key, {}, "another's release frees nothing")
      yield* probe.renewed(probe.first, grant, "another's release frees nothing")
    }
  ),

  law(
    "release/late",
    "a release that arrives after the takeover does not free the next holder",
    function*(probe) {
      const key = yield* probe.freshKey
      const old = yield* probe.grant(probe.first, key, { ttl: probe.ttl })
      yield* probe.pass(probe.ttl)
      const next = yield* probe.grantWithinSlack(probe.second, key, {}, "its ttl has passed")
      yield* probe.notHeld(probe.first, key, old.ownerId, Option.some(old.handle), "somebody else holds it")
      yield* probe.notHeld(probe.first, key, old.ownerId, Option.none(), "somebody else holds it")
      yield* probe.refusal(probe.first, key, {}, "a late release frees nothing")
      yield* probe.renewed(probe.second, next, "a late release frees nothing")
    }
  ),

  law(
    "release/unknown-outcome",
    "a release without a handle gives back what the owner id holds",
    function*(probe) {
      const key = yield* probe.freshKey
      const grant = yield* probe.grant(probe.first, key)
      const reply = yield* probe.release(probe.second, key, grant.ownerId, Option.none())
      yield* probe.expect(reply === "Released", "Released (the owner id holds it)", reply)
      yield* probe.grant(probe.second, key, {}, "it was released")
    }
  ),

  law(
    "release/after-renewal",
    "a renewed lease is released with the handle of its last renewal",
    function*(probe) {
      const key = yield* probe.freshKey
      const grant = yield* probe.grant(probe.first, key)
      const once = yield* probe.renewed(probe.first, grant, "it is held")
      yield* probe.released(probe.first, yield* probe.renewed(probe.first, once, "it is held"))
      yield* probe.grant(probe.second, key, {}, "it was released")
    }
  ),

  law(
    "release/after-unanswered-renewal",
    "a release with the handle from before a renewal frees the lock",
    function*(probe) {
      const key = yield* probe.freshKey
      const grant = yield* probe.grant(probe.first, key)
      yield* probe.renewed(probe.first, grant, "it is held")
      yield* probe.released(probe.first, grant)
      yield* probe.grant(probe.second, key, {}, "it was released by a holder that missed the reply of its renewal")
    }
  ),

  law(
    "release/leaves-the-queue",
    "a waiter that gave up does not keep the lock from others",
    function*(probe) {
      const key = yield* probe.freshKey
      const grant = yield* probe.grant(probe.first, key)
      const waiter = yield* probe.freshOwnerId
      yield* probe.refusal(probe.second, key, { ownerId: waiter, willWait: true })
      yield* probe.notHeld(probe.second, key, waiter, Option.none(), "it was refused")
      yield* probe.released(probe.first, grant)
      yield* probe.grant(probe.first, key, {}, "the only waiter gave up")
    }
  ),

  law(
    "release/dead-id-is-refused",
    "a tryAcquire of a released owner id that arrives late is refused",
    function*(probe) {
      const key = yield* probe.freshKey
      const why = "the owner id was released: it is dead"
      const never = yield* probe.freshOwnerId
      yield* probe.notHeld(probe.first, key, never, Option.none(), "it never asked")
      yield* probe.refusal(probe.first, key, { ownerId: never }, why)
      yield* probe.refusal(probe.second, key, { ownerId: never }, why)
      const { ownerId } = yield* probe.grant(probe.first, key)
      yield* probe.release(probe.first, key, ownerId, Option.none())
      yield* probe.refusal(probe.second, key, { ownerId }, why)
      yield* probe.grant(probe.second, key, {}, "only dead owner ids asked for it")
    },
    needs.tombstones
  ),

  law(
    "release/dead-id-stays-dead",
    "a released owner id is still refused after a ttl and longer",
    function*(probe) {
      const key = yield* probe.freshKey
      const { ownerId } = yield* probe.grant(probe.first, key, { ttl: probe.ttl })
      yield* probe.release(probe.first, key, ownerId, Option.none())
      yield* probe.pass(Duration.times(probe.ttl, 2))
      yield* probe.refusal(probe.second, key, { ownerId }, "the owner id was released: it is dead")
      yield* probe.grant(probe.second, key, {}, "only a dead owner id asked for it")
    },
    needs.tombstones
  ),

  law(
    "release/dead-id-after-a-grant",
    "an owner id that was granted, but had an attempt without an answer, stays dead after its release",
    function*(probe) {
      const key = yield* probe.freshKey
      const grant = yield* probe.grant(probe.first, key, { ttl: probe.ttl })
      yield* probe.release(probe.first, key, grant.ownerId, Option.some(grant.handle), true)
      yield* probe.pass(Duration.times(probe.ttl, 2))
      yield* probe.refusal(probe.second, key, { ownerId: grant.ownerId }, "the owner id was released: it is dead")
      yield* probe.grant(probe.second, key, {}, "only a dead owner id asked for it")
    },
    needs.tombstones
  ),

  law(
    "release/dead-id-ends-by-ttl",
    "what a late tryAcquire of a released owner id takes ends by its ttl",
    function*(probe) {
      const key = yield* probe.freshKey
      const ownerId = yield* probe.freshOwnerId
      yield* probe.notHeld(probe.first, key, ownerId, Option.none(), "it never asked")
      yield* probe.attempt(probe.first, key, { ownerId, ttl: probe.ttl })
      yield* probe.pass(probe.ttl)
      yield* probe.grantWithinSlack(probe.second, key, {}, "the ttl of a late write has passed")
    },
    needs.noTombstones
  )
]

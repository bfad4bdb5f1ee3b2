/**
 * Many callers at once.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Law } from "../Law.ts"
import { describe } from "./describe.ts"
import { drive } from "./drive.ts"
import { law } from "./law.ts"
import type { Check } from "./probe.ts"

export const concurrency: ReadonlyArray<Law> = [
  law(
    "concurrency/counter",
    "an unprotected counter in critical sections of many callers counts exactly",
    function*(probe) {
      const key = yield* probe.freshKey
      const { contenders } = probe.environment
      let counter = 0
      let inside = 0
      let most = 0
      const contender = (index: number): Check =>
        Effect.gen(function*() {
          const service = index % 2 === 0 ? probe.first : probe.second
          const ownerId = yield* probe.freshOwnerId
          while (true) {
            const { reply } = yield* probe.attempt(service, key, { ownerId, willWait: true })
            if (reply._tag === "Acquired") {
              most = Math.max(most, ++inside)
              const read = counter
              yield* Effect.sleep(1)
              counter = read + 1
              inside--
              yield* probe.release(service, key, ownerId, Option.some(reply.handle))
              return
            }
            yield* Effect.sleep(1 + index % 20)
          }
        })
      yield* drive(
        probe,
        Effect.forEach(Array.from({ length: contenders }), (_, index) => contender(index), {
          concurrency: "unbounded",
          discard: true
        }),
        Duration.times(probe.longTtl, 0.75),
        `${contenders} callers to be served`
      )
      yield* probe.expect(most === 1, "one caller inside at a time", `${most} at once`)
      yield* probe.expect(counter === contenders, `a count of ${contenders}`, `${counter}`)
    }
  ),

  law(
    "concurrency/duplicates",
    "an attempt sent twice at once, through two instances, is one grant",
    function*(probe) {
      for (let round = 0; round < 10; round++) {
        const key = yield* probe.freshKey
        const ownerId = yield* probe.freshOwnerId
        const replies = yield* Effect.forEach(
          [probe.first, probe.second, probe.first],
          (service) => probe.attempt(service, key, { ownerId }),
          { concurrency: "unbounded" }
        )
        const refused = replies.find(({ reply }) => reply._tag !== "Acquired")
        if (refused !== undefined) yield* probe.fail("Acquired (it is its own holder)", describe(refused.reply))
        yield* probe.heldBy(probe.second, key, ownerId, "it was granted")
        const reply = yield* probe.release(probe.first, key, ownerId, Option.none())
        yield* probe.expect(reply === "Released", "Released (the owner id holds it)", reply)
        yield* probe.grant(probe.second, key, {}, "one release ends one grant")
      }
    }
  ),

  law(
    "concurrency/renewal-or-takeover",
    "at the moment of expiry, either the renewal succeeds or one takeover",
    function*(probe) {
      for (let round = 0; round < 5; round++) {
        const key = yield* probe.freshKey
        const grant = yield* probe.grant(probe.first, key, { ttl: probe.ttl })
        yield* probe.pass(Duration.times(probe.ttl, 0.98 + round / 100))
        const [renewal, ...attempts] = yield* Effect.all([
          probe.renew(probe.first, grant, { ttl: probe.longTtl }),
          probe.attempt(probe.second, key),
          probe.attempt(probe.first, key),
          probe.attempt(probe.second, key)
        ], { concurrency: "unbounded" })
        const winners = attempts.filter(({ reply }) => reply._tag === "Acquired").length +
          (renewal._tag === "Renewed" ? 1 : 0)
        yield* probe.expect(winners <= 1, "at most one holder", `${winners}`)
      }
    }
  )
]

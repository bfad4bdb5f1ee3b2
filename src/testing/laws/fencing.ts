/**
 * Fencing tokens: strictly larger for every later grant of a key.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Law } from "../Law.ts"
import { law } from "./law.ts"
import * as needs from "./needs.ts"
import type { Check, Grant, Probe } from "./probe.ts"

export const fencing: ReadonlyArray<Law> = [
  law(
    "fencing/over-releases",
    "tokens grow over acquire and release, whichever instance asks",
    function*(probe) {
      const key = yield* probe.freshKey
      const { acquisitions } = probe.environment
      let last = -1n
      for (let round = 0; round < acquisitions; round++) {
        const service = round % 2 === 0 ? probe.first : probe.second
        const grant = yield* probe.grant(service, key)
        last = yield* grown(probe, last, grant, `grant ${round + 1} of ${acquisitions}`)
        yield* probe.released(service, grant)
      }
    },
    needs.tokens
  ),

  law("fencing/over-expiry", "tokens grow over expiry and takeover", function*(probe) {
    const key = yield* probe.freshKey
    const old = yield* probe.grant(probe.first, key, { ttl: probe.ttl })
    yield* probe.pass(probe.ttl)
    const next = yield* probe.grantWithinSlack(probe.second, key, { ttl: probe.ttl }, "its ttl has passed")
    yield* grown(probe, tokenOf(old), next, "the lock was taken over")
    yield* probe.pass(probe.ttl)
    const again = yield* probe.grantWithinSlack(
      probe.first,
      key,
      { ownerId: old.ownerId },
      "its ttl has passed, and this owner id was never released"
    )
    yield* grown(probe, tokenOf(next), again, "the same owner id holds it again")
  }, needs.tokens),

  law(
    "fencing/over-idle-time",
    "tokens grow though nobody held the lock for a while",
    function*(probe) {
      const key = yield* probe.freshKey
      const old = yield* probe.grant(probe.first, key, { ttl: probe.ttl })
      yield* probe.released(probe.first, old)
      yield* probe.pass(probe.ttl)
      yield* probe.pass(probe.environment.expirySlack)
      yield* grown(probe, tokenOf(old), yield* probe.grant(probe.second, key), "the lock was idle")
    },
    needs.tokens
  ),

  law(
    "fencing/not-by-refusal",
    "a holder keeps its token while others are refused and while it renews",
    function*(probe) {
      const key = yield* probe.freshKey
      const grant = yield* probe.grant(probe.first, key)
      yield* probe.refusal(probe.second, key)
      yield* probe.renewed(probe.first, grant, "it is held")
      const seen = (yield* probe.inspect(probe.second, key))[0]?.fencingToken ?? Option.none()
      if (Option.isNone(seen)) return
      yield* probe.expect(seen.value === tokenOf(grant), `token ${tokenOf(grant)}`, `token ${seen.value}`)
    },
    needs.tokens
  ),

  law(
    "fencing/none",
    "a backend that promises no tokens gives none, not numbers that may repeat",
    function*(probe) {
      const { token } = yield* probe.grant(probe.first, yield* probe.freshKey)
      yield* probe.expect(Option.isNone(token), "no fencing token", String(Option.getOrUndefined(token)))
    },
    needs.noTokens
  )
]

/** The token of a grant, below every token if it has none. */
export const tokenOf = (grant: Grant): bigint => Option.getOrElse(grant.token, () => -1n)

/** The grant's token must be larger than `last`; it is the new last. */
export const grown = (probe: Probe, last: bigint, grant: Grant, when: string): Check<bigint> => {
  const token = tokenOf(grant)
  return Effect.as(
    probe.expect(
      token > last && token >= 0n,
      `a fencing token above ${last} (${when})`,
      Option.isNone(grant.token) ? "no fencing token" : `${token}`
    ),
    token
  )
}

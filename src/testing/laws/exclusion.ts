/**
 * Who gets a lock, and what the others are told.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { Law } from "../Law.ts"
import { describe } from "./describe.ts"
import { law } from "./law.ts"
import * as needs from "./needs.ts"
import type { Check, Probe } from "./probe.ts"

export const exclusion: ReadonlyArray<Law> = [
  law("exclusion/free-is-granted", "a free lock is granted, with a handle", function*(probe) {
    const grant = yield* probe.grant(probe.first, yield* probe.freshKey)
    yield* probe.expect(grant.handle.length > 0, "a handle", "an empty string")
    yield* probe.released(probe.first, grant)
  }),

  law(
    "exclusion/second-is-refused",
    "a held lock is refused to every other owner id, through every instance",
    function*(probe) {
      const key = yield* probe.freshKey
      const grant = yield* probe.grant(probe.first, key)
      yield* probe.refusal(probe.first, key)
      yield* probe.refusal(probe.second, key)
      yield* probe.heldBy(probe.second, key, grant.ownerId, "a refusal changes nothing")
    }
  ),

  law("exclusion/keys-are-independent", "holding one key does not hold another", function*(probe) {
    yield* probe.grant(probe.first, yield* probe.freshKey)
    yield* probe.grant(probe.second, yield* probe.freshKey, {}, "another key is held")
  }),

  law(
    "exclusion/released-is-free",
    "a released lock is granted to the next, through every instance",
    function*(probe) {
      const key = yield* probe.freshKey
      const first = yield* probe.grant(probe.first, key)
      yield* probe.released(probe.first, first)
      const second = yield* probe.grant(probe.second, key, {}, "it was released")
      yield* probe.refusal(probe.first, key)
      yield* probe.released(probe.second, second)
      yield* probe.grant(probe.first, key, {}, "it was released")
    }
  ),

  law(
    "exclusion/one-of-many",
    "of many who ask at once for a free lock, exactly one gets it",
    function*(probe) {
      yield* oneOfMany(probe, yield* probe.freshKey)
    }
  ),

  law(
    "replay/is-granted",
    "asking again with the owner id that holds is granted, through every instance",
    function*(probe) {
      const key = yield* probe.freshKey
      const { ownerId, token } = yield* probe.grant(probe.first, key)
      const again = yield* probe.grant(probe.first, key, { ownerId }, "the owner id holds it")
      const elsewhere = yield* probe.grant(probe.second, key, { ownerId }, "the owner id holds it")
      for (const replay of [again, elsewhere]) {
        yield* probe.expect(
          Option.isSome(token) === Option.isSome(replay.token) &&
            (Option.isNone(token) || Option.isNone(replay.token) || replay.token.value >= token.value),
          `a fencing token no smaller than ${String(Option.getOrUndefined(token))}`,
          String(Option.getOrUndefined(replay.token))
        )
      }
      yield* probe.renewed(probe.second, elsewhere, "the replay is the grant")
      yield* probe.refusal(probe.second, key)
    }
  ),

  law("replay/refreshes", "a replay sets the whole ttl again", function*(probe) {
    const key = yield* probe.freshKey
    const most = Duration.times(probe.ttl, 0.7)
    const first = yield* probe.grant(probe.first, key, { ttl: probe.ttl })
    yield* probe.pass(most)
    const replay = yield* probe.attempt(probe.first, key, { ownerId: first.ownerId, ttl: probe.ttl })
    yield* probe.expect(replay.reply._tag === "Acquired", "Acquired (the owner id holds it)", describe(replay.reply))
    yield* probe.pass(most)
    yield* probe.refusedWithin(probe.second, key, replay, "a replay at 0.7 ttl makes the lease last 1.7 ttl")
  }),

  law(
    "replay/never-takes",
    "a replay does not take back what somebody else holds by now",
    function*(probe) {
      const key = yield* probe.freshKey
      const old = yield* probe.grant(probe.first, key, { ttl: probe.ttl })
      yield* probe.pass(probe.ttl)
      const next = yield* probe.grantWithinSlack(probe.second, key, {}, "the lease has ended")
      yield* probe.refusal(probe.first, key, { ownerId: old.ownerId })
      yield* probe.renewed(probe.second, next, "a replay by the one before changes nothing")
    }
  ),

  law(
    "refusal/names-the-holder",
    "a refusal names the holder, with its metadata and the time it has left",
    function*(probe) {
      const key = yield* probe.freshKey
      const metadata = { host: "host-1", note: "Zürich, 東京 — \"quoted\" {braces}\n", ["__proto__"]: "a field" }
      const grant = yield* probe.grant(probe.first, key, { metadata })
      const { holders, retryAfter } = yield* probe.refusal(probe.second, key)
      const holder = holders[0]
      if (holders.length !== 1 || holder === undefined) {
        return yield* probe.fail("one holder", `${holders.length} holders`)
      }
      yield* probe.expect(holder.ownerId === grant.ownerId, `owner id ${grant.ownerId}`, holder.ownerId)
      yield* probe.expect(
        sameRecord(holder.metadata, metadata),
        JSON.stringify(metadata),
        JSON.stringify(holder.metadata)
      )
      yield* remainingIsSane(probe, "remaining", holder.remaining, grant.ttl)
      yield* remainingIsSane(probe, "retryAfter", retryAfter, grant.ttl)
      if (Option.isSome(holder.fencingToken)) {
        yield* probe.expect(
          Option.isSome(grant.token) && holder.fencingToken.value === grant.token.value,
          `fencing token ${String(Option.getOrUndefined(grant.token))}`,
          String(holder.fencingToken.value)
        )
      }
    }
  ),

  law("refusal/full-metadata", "metadata of 4 KiB is kept", function*(probe) {
    const key = yield* probe.freshKey
    const metadata = { full: "m".repeat(4096 - JSON.stringify({ full: "" }).length) }
    yield* probe.grant(probe.first, key, { metadata })
    const found = (yield* probe.inspect(probe.second, key))[0]?.metadata.full?.length
    yield* probe.expect(found === metadata.full.length, `${metadata.full.length} bytes of metadata`, String(found))
  }),

  law("namespace/apart", "the same key in two namespaces is two locks", function*(probe) {
    const key = yield* probe.freshKey
    const other = yield* inNamespace(probe, `other-${key}`)
    const ours = yield* probe.grant(probe.first, key)
    const theirs = yield* probe.grant(other, key, {}, "it is free in this namespace")
    yield* probe.released(other, theirs)
    yield* probe.heldBy(probe.second, key, ours.ownerId, "it was released in another namespace only")
  }, needs.namespaces),

  law("namespace/no-collision", "no two pairs of namespace and key are one lock", function*(probe) {
    const root = yield* probe.freshKey
    for (const [left, right] of pairs) {
      const one = yield* inNamespace(probe, `${root}${left[0]}`)
      const two = yield* inNamespace(probe, `${root}${right[0]}`)
      const why = `namespace ${JSON.stringify(right[0])} and key ${JSON.stringify(right[1])} are not ` +
        `${JSON.stringify(left[0])} and ${JSON.stringify(left[1])}`
      const held = yield* probe.grant(one, left[1])
      const free = yield* probe.grant(two, right[1], {}, why)
      yield* probe.heldBy(one, left[1], held.ownerId, why)
      yield* probe.released(two, free)
      yield* probe.released(one, held)
    }
  }, needs.namespaces)
]

/** Of the environment's contenders, exactly one gets the key. */
export const oneOfMany = (probe: Probe, key: string): Check =>
  Effect.gen(function*() {
    const replies = yield* Effect.forEach(
      Array.from({ length: probe.environment.contenders }),
      (_, index) => probe.attempt(index % 2 === 0 ? probe.first : probe.second, key),
      { concurrency: "unbounded" }
    )
    const winners = replies.filter(({ reply }) => reply._tag === "Acquired")
    yield* probe.expect(winners.length === 1, "one Acquired", `${winners.length} of ${replies.length} Acquired`)
  })

// What naive joining of namespace and key would make equal. The first part is appended to a fresh name.
const pairs: ReadonlyArray<readonly [readonly [string, string], readonly [string, string]]> = [
  [["a", "b/c"], ["a/b", "c"]],
  [["a", "b:c"], ["a:b", "c"]],
  [["a", "b-c"], ["a-b", "c"]],
  [["a", "b.c"], ["a.b", "c"]],
  [["a", "b c"], ["a b", "c"]],
  [["a", "bc"], ["ab", "c"]],
  [["a", "%2Fb"], ["a%2F", "b"]],
  [["a", "b"], ["A", "b"]]
]

const inNamespace = (probe: Probe, namespace: string) => {
  const { withNamespace } = probe.environment
  return withNamespace === undefined
    ? probe.fail("withNamespace", "nothing")
    : probe.answer(Scope.provide(withNamespace(namespace), probe.scope))
}

const remainingIsSane = (
  probe: Probe,
  field: string,
  remaining: Option.Option<Duration.Duration>,
  ttl: Duration.Duration
): Check => {
  if (Option.isNone(remaining)) return Effect.void
  const millis = Duration.toMillis(remaining.value)
  const most = Duration.toMillis(ttl) + Duration.toMillis(probe.environment.expirySlack)
  return probe.expect(millis > 0 && millis <= most, `${field} in (0, ${most}] ms`, `${millis} ms`)
}

const sameRecord = (a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean => {
  const names = Object.keys(a)
  return names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && a[name] === b[name])
}

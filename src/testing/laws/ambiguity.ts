/**
 * Requests whose outcome is unknown: what a program gets from the backend through a network that loses, delays and
 * doubles.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { LockBackend, withLock } from "../../index.ts"
import * as FaultyBackend from "../FaultyBackend.ts"
import type { Law } from "../Law.ts"
import { drive, soon, undisturbed } from "./drive.ts"
import { law } from "./law.ts"
import type { Probe } from "./probe.ts"

export const ambiguity: ReadonlyArray<Law> = [
  law("ambiguity/acquire-reply-lost", "a grant whose reply was lost is recognised, not fought", function*(probe) {
    const key = yield* probe.freshKey
    const faulty = yield* faultyFirst(probe)
    yield* faulty.inject({ _tag: "LostReply", as: "reset" }, { operation: "acquire", times: 2 })
    const lease = yield* acquireThrough(probe, faulty, key)
    yield* probe.heldBy(probe.second, key, lease.ownerId, "its attempts were one grant")
    const attempts = (yield* faulty.calls).filter(({ operation }) => operation === "acquire").length
    yield* probe.expect(attempts === 3, "three attempts", `${attempts}`)
    yield* lease.release
    yield* probe.grant(probe.second, key, {}, "its attempts were one grant, and it was released")
  }),

  law(
    "ambiguity/acquire-duplicated",
    "an attempt that arrives twice while its lease is held changes nothing",
    function*(
      probe
    ) {
      const key = yield* probe.freshKey
      const faulty = yield* faultyFirst(probe)
      yield* faulty.inject({ _tag: "Duplicate", after: Duration.millis(20) }, { operation: "acquire", times: 1 })
      const lease = yield* acquireThrough(probe, faulty, key)
      yield* probe.pass(Duration.millis(200))
      yield* lease.release
      yield* probe.grant(probe.second, key, {}, "its attempts were one grant, and it was released")
    }
  ),

  law(
    "ambiguity/acquire-late",
    "an attempt that arrives after its caller gave up does not keep the lock",
    function*(probe) {
      const key = yield* probe.freshKey
      const faulty = yield* faultyFirst(probe)
      const late = Duration.millis(600)
      yield* faulty.inject({ _tag: "Delay", by: late }, { operation: "acquire", times: 1 })
      const acquisition = withLock(key, {
        ttl: probe.lateTtl,
        operationTimeout: Duration.millis(Math.min(200, Duration.toMillis(probe.lateTtl) / 4)),
        outageBudget: 0
      })
      const exit = yield* drive(
        probe,
        Effect.exit(acquisition.pipe(Scope.provide(probe.scope), Effect.provideService(LockBackend, faulty.service))),
        soon,
        "the acquisition to fail"
      )
      yield* probe.expect(Exit.isFailure(exit), "a failure (no answer in time)", "a lease")
      yield* probe.pass(Duration.times(late, 2))
      if (probe.first.capabilities.lateWrites === "untilTtl") yield* probe.pass(probe.ttl)
      yield* probe.grantWithinSlack(probe.second, key, {}, "the caller of the late attempt has given up")
    }
  ),

  law("ambiguity/renewal-reply-lost", "a lease outlives renewals whose replies are lost", function*(probe) {
    const key = yield* probe.freshKey
    const faulty = yield* faultyFirst(probe)
    const lease = yield* acquireThrough(probe, faulty, key, probe.ttl)
    yield* faulty.inject({ _tag: "LostReply", as: "reset" }, { operation: "renew", times: 2 })
    for (let step = 0; step < 8; step++) {
      yield* probe.pass(Duration.times(probe.ttl, 0.25))
      yield* undisturbed(probe, lease.check)
    }
    yield* probe.heldBy(probe.second, key, lease.ownerId, "it was renewed")
    yield* lease.release
    yield* probe.grant(probe.second, key, {}, "it was released")
  })
]

const faultyFirst = (probe: Probe): Effect.Effect<FaultyBackend.FaultyBackend["Service"]> =>
  Scope.provide(FaultyBackend.make(probe.first), probe.scope)

const acquireThrough = (
  probe: Probe,
  faulty: FaultyBackend.FaultyBackend["Service"],
  key: string,
  ttl = probe.longTtl
) =>
  drive(
    probe,
    undisturbed(
      probe,
      withLock(key, { ttl }).pipe(Scope.provide(probe.scope), Effect.provideService(LockBackend, faulty.service))
    ),
    soon,
    "a lease"
  )

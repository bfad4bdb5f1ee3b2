/**
 * How a lease is kept, and how its holder learns that it is over.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { Inconclusive, type Law } from "../Law.ts"
import { acquire, expectLost, hasLost } from "./acquire.ts"
import { drive, driveFiber, soon, undisturbed } from "./drive.ts"
import { law } from "./law.ts"
import * as needs from "./needs.ts"
import type { Probe } from "./probe.ts"

export const losses: ReadonlyArray<Law> = [
  law("lease/renewed", "a lease is kept by renewal for many times its ttl", function*(probe) {
    const key = yield* probe.freshKey
    const lease = yield* acquire(probe, probe.first, key, probe.scope, { ttl: probe.ttl })
    const times = Duration.toMillis(probe.ttl) > 5000 ? 2 : 10
    for (let quarter = 0; quarter < 4 * times; quarter++) {
      yield* probe.pass(Duration.times(probe.ttl, 0.25))
      yield* undisturbed(probe, lease.check)
    }
    yield* probe.heldBy(probe.second, key, lease.ownerId, `it was renewed for ${times} times its ttl`)
    yield* probe.refusal(probe.second, key)
  }),

  law(
    "lease/lost-when-removed",
    "the work of a holder whose lock was removed is interrupted with LockLost(Gone)",
    function*(probe) {
      const key = yield* probe.freshKey
      const lease = yield* acquire(probe, probe.first, key, probe.scope, { ttl: probe.ttl })
      let interrupted = false
      const work = yield* Effect.forkIn(
        Effect.exit(lease.guard(Effect.onInterrupt(Effect.never, () =>
          Effect.sync(() => {
            interrupted = true
          })))),
        probe.scope,
        { startImmediately: true }
      )
      yield* probe.release(probe.second, key, lease.ownerId, Option.none())
      yield* expectLost(probe, yield* driveFiber(probe, work, endOf(probe), "guarded work to end"), "Gone")
      yield* probe.expect(interrupted, "the work interrupted", "work that went on")
    }
  ),

  law(
    "lease/lost-when-taken",
    "a holder whose lock is somebody else's by now learns it: LockLost(Taken)",
    function*(probe) {
      const key = yield* probe.freshKey
      const lease = yield* acquire(probe, probe.first, key, probe.scope, { ttl: probe.ttl })
      yield* probe.release(probe.second, key, lease.ownerId, Option.none())
      const thief = yield* probe.grant(probe.second, key, {}, "its lock was removed")
      const work = yield* Effect.forkIn(Effect.exit(lease.lost), probe.scope, { startImmediately: true })
      const exit = yield* driveFiber(probe, work, endOf(probe), "the lease to be lost")
      // A renewal between the two was told the truth, too.
      if (hasLost(exit, "Gone")) return yield* Effect.fail(new Inconclusive({ expected: "LockLost(Taken)" }))
      yield* expectLost(probe, exit, "Taken")
      yield* probe.renewed(probe.second, thief, "the clean-up of a lost lease frees nothing")
    }
  ),

  law(
    "lease/unrenewed-ends-in-time",
    "a lease without renewal is lost before the backend can give it away",
    function*(probe) {
      const key = yield* probe.freshKey
      const lease = yield* acquire(probe, probe.first, key, probe.scope, { ttl: probe.ttl, renewEvery: false })
      const next = yield* Effect.forkIn(
        Effect.flatMap(acquire(probe, probe.second, key, probe.scope), () => Effect.exit(lease.check)),
        probe.scope,
        { startImmediately: true }
      )
      const limit = Duration.sum(Duration.sum(probe.ttl, probe.environment.expirySlack), soon)
      yield* expectLost(probe, yield* driveFiber(probe, next, limit, "the next to get the lock"), "Expired")
    }
  ),

  law(
    "lease/backend-closed",
    "closing the backend first releases the lock and ends the lease: BackendClosed",
    function*(probe) {
      const { withNamespace } = probe.environment
      if (withNamespace === undefined) return yield* probe.fail("withNamespace", "nothing")
      const key = yield* probe.freshKey
      const closing = yield* Scope.make()
      const backend = yield* probe.answer(Scope.provide(withNamespace(`closing-${key}`), closing))
      const observer = yield* probe.answer(Scope.provide(withNamespace(`closing-${key}`), probe.scope))
      const lease = yield* acquire(probe, backend, key, probe.scope)
      yield* drive(probe, Scope.close(closing, Exit.void), soon, "the backend to close")
      yield* expectLost(probe, yield* Effect.exit(lease.check), "BackendClosed")
      yield* probe.grant(observer, key, {}, "the backend of its lease was closed")
    },
    needs.namespaces
  )
]

// A loss must be known when the trust in the lease ends, at the latest.
const endOf = (probe: Probe) => Duration.sum(probe.ttl, soon)

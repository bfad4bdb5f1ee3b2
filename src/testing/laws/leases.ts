/**
 * What a program gets from the backend through `withLock` and its like: leases, waiting, giving back.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import {
  type InvalidLockRequest,
  Lock,
  LockBackend,
  type LockBackendError,
  type LockContended,
  withLockIfAvailable
} from "../../index.ts"
import type { Law } from "../Law.ts"
import { acquire, expectLost, lockOn } from "./acquire.ts"
import { describeExit, describeHolders } from "./describe.ts"
import { drive, driveFiber, soon, undisturbed } from "./drive.ts"
import { allFree, sweep } from "./interruption.ts"
import { law } from "./law.ts"
import type { Check, Probe } from "./probe.ts"

type Service = LockBackend["Service"]
type LockError = LockContended | LockBackendError | InvalidLockRequest

export const leases: ReadonlyArray<Law> = [
  law(
    "lease/scope-releases",
    "the scope's end releases the lock, on success, failure, defect and interruption",
    function*(probe) {
      const key = yield* probe.freshKey
      const ends: ReadonlyArray<Exit.Exit<void, string>> = [
        Exit.void,
        Exit.fail("failure"),
        Exit.die("defect"),
        Exit.interrupt(1)
      ]
      for (const end of ends) {
        const scope = yield* Scope.make()
        const lease = yield* acquire(probe, probe.first, key, scope)
        yield* probe.heldBy(probe.second, key, lease.ownerId, "its scope is open")
        yield* Scope.close(scope, end)
        yield* probe.released(
          probe.second,
          yield* probe.grant(probe.second, key, {}, "the scope of its lease was closed")
        )
      }
    }
  ),

  law(
    "lease/early-release",
    "an early release frees the lock at once and ends what runs under the lease",
    function*(probe) {
      const key = yield* probe.freshKey
      const lease = yield* acquire(probe, probe.first, key, probe.scope)
      const work = yield* Effect.forkIn(Effect.exit(lease.guard(Effect.never)), probe.scope, {
        startImmediately: true
      })
      yield* lease.release
      yield* expectLost(probe, yield* driveFiber(probe, work, soon, "guarded work to end"), "Released")
      yield* probe.grant(probe.second, key, {}, "its lease was released")
    }
  ),

  law(
    "lease/if-available",
    "withLockIfAvailable is None while the lock is held, through every instance",
    function*(probe) {
      const key = yield* probe.freshKey
      const holding = yield* Scope.make()
      const trying = yield* Scope.make()
      yield* acquire(probe, probe.first, key, holding)
      for (const service of [probe.first, probe.second]) {
        const lease = yield* through(probe, service, trying, withLockIfAvailable(key, { ttl: probe.longTtl }))
        yield* probe.expect(Option.isNone(lease), "None (the lock is held)", "a lease")
      }
      yield* Scope.close(holding, Exit.void)
      const lease = yield* through(probe, probe.second, trying, withLockIfAvailable(key, { ttl: probe.longTtl }))
      yield* probe.expect(Option.isSome(lease), "a lease (the lock is free)", "None")
      yield* Scope.close(trying, Exit.void)
    }
  ),

  law("lease/contended", "who is not willing to wait is refused at once, with the holder", function*(probe) {
    const key = yield* probe.freshKey
    const { ownerId } = yield* probe.grant(probe.first, key)
    const error = yield* refused(probe, lockOn(probe.second, key, { ttl: probe.longTtl, wait: 0 }, probe.scope))
    yield* probe.expect(error.attempts === 1, "one attempt", `${error.attempts}`)
    yield* probe.expect(error.holders[0]?.ownerId === ownerId, `holder ${ownerId}`, describeHolders(error.holders))
  }),

  law(
    "lease/wait-over",
    "who waited as long as it was willing to is refused: LockContended(WaitOver)",
    function*(probe) {
      const key = yield* probe.freshKey
      const { ownerId } = yield* probe.grant(probe.first, key)
      const wait = Duration.millis(300)
      const error = yield* refused(probe, lockOn(probe.second, key, { ttl: probe.longTtl, wait }, probe.scope))
      yield* probe.expect(
        error.reason === "WaitOver" && error.holders[0]?.ownerId === ownerId,
        `WaitOver with holder ${ownerId}`,
        `${error.reason} with ${describeHolders(error.holders)}`
      )
      yield* probe.heldBy(probe.second, key, ownerId, "the waiter gave up")
    }
  ),

  law(
    "lease/waiter-is-served",
    "who waits gets the lock after its release, through another instance",
    function*(probe) {
      const key = yield* probe.freshKey
      const holding = yield* Scope.make()
      yield* acquire(probe, probe.first, key, holding)
      const waiter = yield* Effect.forkIn(acquire(probe, probe.second, key, probe.scope), probe.scope, {
        startImmediately: true
      })
      yield* probe.pass(Duration.millis(100))
      yield* Scope.close(holding, Exit.void)
      const lease = yield* driveFiber(probe, waiter, soon, "the waiter to get the lock (it was released)")
      yield* probe.heldBy(probe.first, key, lease.ownerId, "it waited for the lock")
    }
  ),

  law(
    "lease/waiter-after-expiry",
    "who waits gets the lock of a holder that died, after its ttl",
    function*(probe) {
      const key = yield* probe.freshKey
      const dead = yield* probe.grant(probe.first, key, { ttl: probe.ttl })
      const waiter = yield* Effect.forkIn(acquire(probe, probe.second, key, probe.scope), probe.scope, {
        startImmediately: true
      })
      const limit = Duration.sum(Duration.sum(probe.ttl, probe.environment.expirySlack), soon)
      const lease = yield* driveFiber(probe, waiter, limit, "the waiter to get the lock (its holder is dead)")
      const held = (yield* probe.elapsed) - dead.sentAt
      yield* probe.expect(
        held >= Duration.toMillis(probe.ttl),
        "the lock no sooner than the dead holder's ttl",
        `the lock after ${Math.round(held)} ms`
      )
      yield* probe.heldBy(probe.first, key, lease.ownerId, "it waited for the lock")
    }
  ),

  law(
    "lease/interrupted-waiter",
    "a waiter that is interrupted leaves nothing behind",
    function*(probe) {
      const key = yield* probe.freshKey
      const holder = yield* probe.grant(probe.first, key)
      for (const millis of [0, 1, 20, 200]) {
        const waiter = yield* Effect.forkIn(acquire(probe, probe.second, key, probe.scope), probe.scope, {
          startImmediately: true
        })
        yield* probe.pass(Duration.millis(millis))
        yield* drive(probe, Fiber.interrupt(waiter), soon, "the waiter to be interrupted")
      }
      yield* probe.heldBy(probe.second, key, holder.ownerId, "the waiters were interrupted")
      yield* probe.released(probe.first, holder)
      yield* probe.grant(probe.first, key, {}, "nobody waits any more")
    }
  ),

  law(
    "lease/interrupted-anywhere",
    "an acquisition interrupted anywhere leaves nothing behind",
    function*(probe) {
      const keys: Array<string> = []
      yield* sweep(probe, (interrupt) =>
        Effect.gen(function*() {
          const key = yield* probe.freshKey
          keys.push(key)
          yield* interrupt(Effect.scopedWith((scope) => lockOn(probe.first, key, { ttl: probe.lateTtl }, scope)))
        }))
      yield* allFree(probe, keys)
    }
  ),

  law(
    "lease/first-come-first-served",
    "callers of one process get the lock in the order of their calls",
    function*(probe) {
      const key = yield* probe.freshKey
      const holder = yield* probe.grant(probe.second, key)
      const served: Array<number> = []
      const callers: Array<Fiber.Fiber<void, unknown>> = []
      for (let index = 0; index < 6; index++) {
        const caller = Effect.sync(() => {
          served.push(index)
        }).pipe(Lock.guard(key, { ttl: probe.longTtl }), Effect.provideService(LockBackend, probe.first))
        callers.push(yield* Effect.forkIn(caller, probe.scope, { startImmediately: true }))
        yield* Effect.yieldNow
      }
      yield* probe.released(probe.second, holder)
      yield* drive(probe, Effect.exit(Fiber.joinAll(callers)), Duration.times(soon, 3), "six callers to be served")
      yield* probe.expect(served.join() === "0,1,2,3,4,5", "the order 0,1,2,3,4,5", served.join())
    }
  ),

  law(
    "lease/counter",
    "an unprotected counter under Lock.guard counts exactly, across instances",
    function*(probe) {
      const key = yield* probe.freshKey
      const { contenders } = probe.environment
      let counter = 0
      let last = -1n
      let grown = true
      const contender = (index: number) =>
        Effect.scopedWith((scope) =>
          Effect.gen(function*() {
            const lease = yield* acquire(probe, index % 2 === 0 ? probe.first : probe.second, key, scope)
            const read = counter
            if (Option.isSome(lease.fencingToken)) {
              grown = grown && lease.fencingToken.value > last
              last = lease.fencingToken.value
            }
            yield* Effect.sleep(1)
            counter = read + 1
          })
        )
      yield* drive(
        probe,
        Effect.forEach(Array.from({ length: contenders }), (_, index) => contender(index), {
          concurrency: "unbounded",
          discard: true
        }),
        Duration.times(probe.longTtl, 0.75),
        `${contenders} callers to be served`
      )
      yield* probe.expect(counter === contenders, `a count of ${contenders}`, `${counter}`)
      yield* probe.expect(grown, "fencing tokens that grow from holder to holder", "one that does not")
    }
  )
]

const through = <A>(
  probe: Probe,
  service: Service,
  scope: Scope.Scope,
  self: Effect.Effect<A, LockError, LockBackend | Scope.Scope>
): Check<A> => undisturbed(probe, self.pipe(Scope.provide(scope), Effect.provideService(LockBackend, service)))

// The acquisition must end in contention.
const refused = <A>(probe: Probe, self: Effect.Effect<A, LockError>): Check<LockContended> =>
  Effect.flatMap(
    drive(probe, Effect.exit(self), soon, "the acquisition to be refused"),
    (exit) => {
      const error = Option.getOrUndefined(Exit.findErrorOption(exit))
      return error !== undefined && error._tag === "LockContended"
        ? Effect.succeed(error)
        : probe.fail("LockContended (somebody else holds it)", describeExit(exit))
    }
  )

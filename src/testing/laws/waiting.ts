/**
 * Push: a waiter is woken when the lock may be free, and no wake-up is lost.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { Law } from "../Law.ts"
import { drive, driveFiber } from "./drive.ts"
import { law } from "./law.ts"
import * as needs from "./needs.ts"

/** Long enough for a push through any server; no lease of these laws ends meanwhile. */
const limit = Duration.seconds(10)

export const waiting: ReadonlyArray<Law> = [
  law(
    "waiting/release-wakes",
    "a release ends the waiting of whoever was refused, through any instance",
    function*(probe) {
      const key = yield* probe.freshKey
      const holder = yield* probe.grant(probe.first, key)
      const waiter = yield* probe.waiter(probe.second, key)
      const turn = yield* Effect.forkIn(waiter.turn, probe.scope, { startImmediately: true })
      yield* probe.pass(Duration.millis(100))
      yield* probe.released(probe.first, holder)
      yield* driveFiber(probe, turn, limit, "awaitTurn to end (the lock was released)")
      yield* probe.grant(probe.second, key, { ownerId: waiter.ownerId }, "it was released and its turn has come")
    },
    needs.awaitTurn
  ),

  law(
    "waiting/level-triggered",
    "a release between a refusal and awaitTurn is not missed",
    function*(probe) {
      const key = yield* probe.freshKey
      const holder = yield* probe.grant(probe.first, key)
      const waiter = yield* probe.waiter(probe.second, key)
      yield* probe.released(probe.first, holder)
      yield* probe.pass(Duration.millis(100))
      yield* drive(probe, waiter.turn, limit, "awaitTurn to end (the lock was released before it was asked)")
      yield* probe.grant(probe.second, key, { ownerId: waiter.ownerId }, "it was released and its turn has come")
    },
    needs.awaitTurn
  ),

  law(
    "waiting/interruptible",
    "awaitTurn can be interrupted, and who waits on is still woken",
    function*(probe) {
      const key = yield* probe.freshKey
      const holder = yield* probe.grant(probe.first, key)
      const quitter = yield* probe.waiter(probe.second, key)
      const stayer = yield* probe.waiter(probe.first, key)
      const quitting = yield* Effect.forkIn(quitter.turn, probe.scope, { startImmediately: true })
      const staying = yield* Effect.forkIn(stayer.turn, probe.scope, { startImmediately: true })
      yield* probe.pass(Duration.millis(100))
      yield* drive(probe, Fiber.interrupt(quitting), limit, "awaitTurn to be interrupted")
      yield* probe.release(probe.second, key, quitter.ownerId, Option.none())
      yield* probe.released(probe.first, holder)
      yield* driveFiber(probe, staying, limit, "awaitTurn of the waiter that stayed to end (the lock was released)")
      yield* probe.grant(probe.first, key, { ownerId: stayer.ownerId }, "it was released and its turn has come")
    },
    needs.awaitTurn
  ),

  law(
    "waiting/given-up-turn",
    "a waiter that was woken and gives up leaves its turn to the next",
    function*(probe) {
      const key = yield* probe.freshKey
      const holder = yield* probe.grant(probe.first, key)
      const one = yield* probe.waiter(probe.second, key)
      const two = yield* probe.waiter(probe.first, key)
      const turnOfOne = yield* Effect.forkIn(one.turn, probe.scope, { startImmediately: true })
      yield* probe.pass(Duration.millis(100))
      const turnOfTwo = yield* Effect.forkIn(two.turn, probe.scope, { startImmediately: true })
      yield* probe.pass(Duration.millis(100))
      yield* probe.released(probe.first, holder)
      yield* driveFiber(probe, turnOfOne, limit, "awaitTurn of the first waiter to end (the lock was released)")
      yield* probe.release(probe.second, key, one.ownerId, Option.none())
      yield* driveFiber(probe, turnOfTwo, limit, "awaitTurn of the second waiter to end (the first gave up its turn)")
      yield* probe.grant(probe.first, key, { ownerId: two.ownerId }, "it was released and its turn has come")
    },
    needs.awaitTurn
  ),

  law(
    "waiting/provisional",
    "a provisional grant is given only to who asks for one; its first renewal makes it whole, and a release ends it",
    function*(probe) {
      const key = yield* probe.freshKey
      const holder = yield* probe.grant(probe.first, key)
      const one = yield* probe.waiter(probe.second, key)
      const two = yield* probe.waiter(probe.first, key)
      const givenAt = yield* probe.elapsed
      yield* probe.released(probe.first, holder)
      yield* drive(probe, one.turn, limit, "awaitTurn of the first waiter to end (the lock was released)")
      const given = yield* probe.grant(
        probe.second,
        key,
        { ownerId: one.ownerId, provisional: true },
        "its turn has come"
      )
      const lease = { ...given, sentAt: givenAt, ttl: given.reply.grantedTtl }
      const renewed = yield* probe.renewedInTime(probe.second, lease, "the lock was given just now", given.ttl)
      if (given.reply.provisional === true) {
        yield* probe.pass(Duration.sum(given.reply.grantedTtl, probe.environment.expirySlack))
      }
      yield* probe.heldBy(probe.first, key, one.ownerId, "the renewal made the grant whole")
      yield* probe.released(probe.second, renewed)
      yield* drive(probe, two.turn, limit, "awaitTurn of the second waiter to end (the lock was released)")
      const whole = yield* probe.grant(probe.first, key, { ownerId: two.ownerId, willWait: true }, "its turn has come")
      yield* probe.expect(whole.reply.provisional !== true, "a grant that is whole", "a provisional one")
    },
    needs.awaitTurn
  ),

  law("waiting/serves-everybody", "with push alone, every waiter gets its turn", function*(probe) {
    const key = yield* probe.freshKey
    const holder = yield* probe.grant(probe.first, key)
    const count = 8
    let served = 0
    const everybody = Effect.forEach(Array.from({ length: count }), (_, index) =>
      Effect.gen(function*() {
        const service = index % 2 === 0 ? probe.first : probe.second
        const ownerId = yield* probe.freshOwnerId
        while (true) {
          const { reply } = yield* probe.attempt(service, key, { ownerId, willWait: true })
          if (reply._tag === "Acquired") {
            served++
            yield* probe.release(service, key, ownerId, Option.some(reply.handle))
            return
          }
          yield* probe.awaitTurn(service, key, ownerId)
        }
      }), { concurrency: "unbounded", discard: true })
    const all = yield* Effect.forkIn(everybody, probe.scope, { startImmediately: true })
    yield* probe.pass(Duration.millis(100))
    yield* probe.released(probe.first, holder)
    yield* driveFiber(probe, all, Duration.times(limit, 3), `${count} waiters to be served`)
    yield* probe.expect(served === count, `${count} waiters served`, `${served}`)
  }, needs.awaitTurn)
]

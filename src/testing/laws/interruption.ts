/**
 * Callers that are interrupted: at every single operation of their fiber, and while a reply is under way.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scheduler from "effect/Scheduler"
import type { Law } from "../Law.ts"
import { drive, driveFiber } from "./drive.ts"
import { law } from "./law.ts"
import * as needs from "./needs.ts"
import type { Check, Probe } from "./probe.ts"

export const interruption: ReadonlyArray<Law> = [
  law(
    "interruption/acquire",
    "a tryAcquire interrupted anywhere and then released leaves nothing",
    function*(probe) {
      const keys: Array<string> = []
      yield* sweep(probe, (interrupt) =>
        Effect.gen(function*() {
          const key = yield* probe.freshKey
          const ownerId = yield* probe.freshOwnerId
          yield* interrupt(probe.attempt(probe.first, key, { ownerId, ttl: probe.lateTtl, willWait: true }))
          yield* probe.release(probe.first, key, ownerId, Option.none())
          keys.push(key)
        }))
      yield* allFree(probe, keys)
    }
  ),

  law(
    "interruption/renew",
    "a renewal interrupted anywhere has not ended the lease",
    function*(probe) {
      const key = yield* probe.freshKey
      const grant = yield* probe.grant(probe.first, key)
      yield* sweep(probe, (interrupt) => interrupt(probe.renew(probe.first, grant)))
      yield* probe.heldBy(probe.second, key, grant.ownerId, "its renewals were only interrupted")
      yield* probe.refusal(probe.second, key)
    }
  ),

  law("interruption/release", "a release interrupted anywhere can be sent again", function*(probe) {
    yield* sweep(probe, (interrupt) =>
      Effect.gen(function*() {
        const key = yield* probe.freshKey
        const { ownerId, handle } = yield* probe.grant(probe.first, key)
        const release = probe.release(probe.first, key, ownerId, Option.some(handle))
        yield* interrupt(release)
        yield* release
        yield* probe.grantWithinSlack(probe.second, key, {}, "it was released")
      }))
  }),

  law(
    "interruption/await-turn",
    "an awaitTurn interrupted anywhere takes no wake-up with it",
    function*(probe) {
      const key = yield* probe.freshKey
      const holder = yield* probe.grant(probe.first, key)
      const stayer = yield* probe.waiter(probe.first, key)
      const staying = yield* Effect.forkIn(stayer.turn, probe.scope, { startImmediately: true })
      yield* sweep(probe, (interrupt) =>
        Effect.gen(function*() {
          const quitter = yield* probe.waiter(probe.second, key)
          yield* interrupt(quitter.turn)
          yield* probe.release(probe.second, key, quitter.ownerId, Option.none())
        }))
      yield* probe.released(probe.first, holder)
      yield* driveFiber(probe, staying, Duration.seconds(10), "awaitTurn of the waiter that stayed to end")
    },
    needs.awaitTurn
  )
]

/**
 * Runs `body` with one interruption after the other: before the first operation of the fiber, before the second, and
 * so on until the call ends by itself, at most the environment's `positions`; then while a reply may be under way.
 */
export const sweep = (
  probe: Probe,
  body: (interrupt: (self: Effect.Effect<unknown, unknown>) => Check) => Check
): Check =>
  Effect.gen(function*() {
    let reached = true
    for (let position = 1; reached && position <= probe.environment.positions; position++) {
      yield* body((self) =>
        Effect.map(interruptAtOperation(probe, position, self), (interrupted) => {
          reached = interrupted
        })
      )
    }
    for (const millis of [0, 1, 2, 5, 10]) yield* body((self) => interruptAfter(probe, millis, self))
  })

/** What was interrupted must leave every key free: at once, or where a late write can't be refused, after its ttl. */
export const allFree = (probe: Probe, keys: ReadonlyArray<string>): Check =>
  Effect.gen(function*() {
    if (probe.first.capabilities.lateWrites === "untilTtl") yield* probe.pass(probe.ttl)
    for (const key of keys) {
      yield* probe.grantWithinSlack(probe.second, key, {}, "its caller was interrupted and gave up")
    }
  })

// How long a call may wait for its reply. One that waits for more than a reply is interrupted then.
const patience = Duration.seconds(1)

// Whether the fiber had that many operations.
const interruptAtOperation = (
  probe: Probe,
  position: number,
  self: Effect.Effect<unknown, unknown>
): Check<boolean> =>
  Effect.gen(function*() {
    const scheduler = yield* Scheduler.Scheduler
    let target: Fiber.Fiber<unknown, unknown> | undefined
    let operations = 0
    const interrupting: Scheduler.Scheduler = {
      executionMode: scheduler.executionMode,
      makeDispatcher: () => scheduler.makeDispatcher(),
      // Asked before every operation of every fiber.
      shouldYield: (fiber) => {
        if (fiber === target && ++operations === position) fiber.interruptUnsafe()
        return scheduler.shouldYield(fiber)
      }
    }
    const fiber = yield* Effect.forkIn(
      Effect.withFiber((fiber) => {
        target = fiber
        return Effect.provideService(self, Scheduler.Scheduler, interrupting)
      }),
      probe.scope,
      { startImmediately: true }
    )
    const ended = yield* Effect.exit(drive(probe, Fiber.await(fiber), patience, "the call to end"))
    const reached = operations >= position
    if (ended._tag === "Failure") yield* interruptedInTime(probe, fiber)
    return reached
  })

const interruptAfter = (probe: Probe, millis: number, self: Effect.Effect<unknown, unknown>): Check =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkIn(self, probe.scope, { startImmediately: true })
    if (millis > 0) yield* probe.pass(Duration.millis(millis))
    yield* interruptedInTime(probe, fiber)
  })

const interruptedInTime = (probe: Probe, fiber: Fiber.Fiber<unknown, unknown>): Check =>
  drive(probe, Fiber.interrupt(fiber), Duration.seconds(15), "an interrupted call to end")

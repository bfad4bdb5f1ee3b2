/**
 * Running what takes time, or what the core may end by itself, inside a law.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { InvalidLockRequest, LockBackendError, LockContended, LockLost } from "../../LockError.ts"
import { elapsed, Inconclusive, type LawViolation } from "../Law.ts"
import type { Check, Probe } from "./probe.ts"

/** Long enough for what happens at once but may need a poll or a server to happen. */
export const soon = Duration.seconds(15)

/** Lets time go by in small steps until `self`, in a fiber of its own, ends; at most `limit`. */
export const drive = <A, E>(
  probe: Probe,
  self: Effect.Effect<A, E>,
  limit: Duration.Duration,
  expected: string
): Effect.Effect<A, E | LawViolation> =>
  Effect.flatMap(
    Effect.forkIn(self, probe.scope, { startImmediately: true }),
    (fiber) => driveFiber(probe, fiber, limit, expected)
  )

/** Lets time go by in small steps until `fiber` ends; at most `limit`. */
export const driveFiber = <A, E>(
  probe: Probe,
  fiber: Fiber.Fiber<A, E>,
  limit: Duration.Duration,
  expected: string
): Effect.Effect<A, E | LawViolation> =>
  Effect.gen(function*() {
    const from = yield* elapsed
    while (fiber.pollUnsafe() === undefined) {
      if ((yield* elapsed) - from > Duration.toMillis(limit)) {
        return yield* probe.fail(expected, `nothing within ${Duration.format(limit)}`)
      }
      yield* probe.pass(step)
    }
    return yield* Fiber.join(fiber)
  })

/** What must not fail. A lease that ends by itself may have met a slow machine. */
export const undisturbed = <A>(
  probe: Probe,
  self: Effect.Effect<A, LockContended | LockBackendError | InvalidLockRequest | LockLost>
): Check<A> =>
  Effect.catch(self, (error): Check<never> =>
    error._tag === "LockLost" && error.reason === "Expired"
      ? Effect.fail(new Inconclusive({ expected: "a lease that is renewed in time" }))
      : probe.fail("success", error.message, error))

const step = Duration.millis(5)

/**
 * Backends that behave in one known way, for testing what a program does then.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { Holder } from "../Holder.ts"
import { LockBackend, type Lost } from "../LockBackend.ts"
import { elapsed } from "./Law.ts"

/**
 * Every lock is held by somebody else, for ever.
 *
 * **When to use**
 *
 * To test what a program does when it does not get its lock.
 *
 * @category layers
 */
export const alwaysContended = (holder?: Partial<Holder>): Layer.Layer<LockBackend> => {
  const somebody: Holder = {
    ownerId: "somebody-else",
    since: Option.some(DateTime.makeUnsafe(0)),
    remaining: Option.none(),
    fencingToken: Option.none(),
    metadata: {},
    ...holder
  }
  return Layer.effect(
    LockBackend,
    LockBackend.make({
      name: "always-contended",
      capabilities: {
        minTtl: Duration.millis(1),
        ttlGranularity: Duration.zero,
        fencing: { grade: "none", condition: "nothing is ever granted" },
        fair: false,
        lateWrites: "refused",
        drain: false
      },
      tryAcquire: () => Effect.succeed({ _tag: "Held", holders: [somebody], retryAfter: Option.none() }),
      renew: () => Effect.succeed({ _tag: "Lost", reason: "Taken" }),
      release: () => Effect.succeed("NotHeld"),
      inspect: () => Effect.succeed([somebody])
    })
  )
}

/**
 * A layer's backend that refuses to renew a grant once it is `after` old: `Gone` (default), or `Taken`.
 *
 * **When to use**
 *
 * To test what a program does when it loses its lock. The loss shows at the next renewal.
 *
 * @category layers
 */
export const loseAfter = <E, R>(
  inner: Layer.Layer<LockBackend, E, R>,
  after: Duration.Input,
  reason: Lost["reason"] = "Gone"
): Layer.Layer<LockBackend, E, R> =>
  Layer.effect(
    LockBackend,
    Effect.flatMap(LockBackend, (backend) => {
      const age = Duration.toMillis(Duration.fromInputUnsafe(after))
      const grantedAt = new Map<string, number>()
      return LockBackend.make({
        ...backend,
        tryAcquire: (request) =>
          Effect.flatMap(elapsed, (now) =>
            Effect.tap(backend.tryAcquire(request), (reply) =>
              Effect.sync(() => {
                if (reply._tag === "Acquired" && !grantedAt.has(request.ownerId)) grantedAt.set(request.ownerId, now)
              }))),
        renew: (request) =>
          Effect.flatMap(elapsed, (now) =>
            now - (grantedAt.get(request.ownerId) ?? now) >= age
              ? Effect.succeed<Lost>({ _tag: "Lost", reason })
              : backend.renew(request)),
        release: (request) => {
          grantedAt.delete(request.ownerId)
          return backend.release(request)
        }
      })
    })
  ).pipe(Layer.provide(inner))

/** How long a worker's lease is trusted, on the host's clock: what the verdict compares. */
import { Duration, Effect, Ref } from "effect"
import type { Lease } from "effect-lock"
import { now } from "./hostClock.ts"
import type { WorkerEvent } from "./workerProtocol.ts"

/** Reports the grant and every renewal; `end` is how long the lease was trusted, at most until now. */
export const follow = Effect.fn(function*(lease: Lease, report: (event: WorkerEvent) => Effect.Effect<void>) {
  // The clock is read first, so the deadline can only come out too early.
  const look = Effect.gen(function*() {
    const at = yield* now
    const remaining = Duration.toMillis(yield* lease.remaining)
    return { at, isTrusted: remaining > 0, trustedUntil: at + remaining }
  })

  const { at, trustedUntil } = yield* look
  const latest = yield* Ref.make(trustedUntil)
  yield* report({ _tag: "Holds", at, fence: lease.fencingToken, trustedUntil })

  const reportRenewal = Effect.gen(function*() {
    const { at, isTrusted, trustedUntil } = yield* look
    if (!isTrusted || trustedUntil < (yield* Ref.get(latest)) + 100) return
    yield* Ref.set(latest, trustedUntil)
    yield* report({ _tag: "Renewed", at, trustedUntil })
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep("50 millis"), reportRenewal)))

  return { end: Effect.flatMap(look, ({ at, isTrusted }) => isTrusted ? Effect.succeed(at) : Ref.get(latest)) }
})

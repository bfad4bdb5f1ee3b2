import { Console, Effect } from "effect"
import type { InvalidLockRequest, LockBackend, LockBackendError, LockContended, LockLost } from "effect-lock"
import { Lock, withLock } from "effect-lock"
import * as MemoryLock from "effect-lock/layers/Memory"

const work: Effect.Effect<
  number,
  LockContended | LockBackendError | InvalidLockRequest | LockLost,
  LockBackend
> = Effect.scoped(Effect.gen(function*() {
  const lease = yield* withLock("invoices/2026-11", { ttl: "30 seconds", wait: "10 seconds" })
  return yield* lease.guard(Effect.map(Lock.inspect("invoices/2026-11"), (holders) => holders.length))
}))

const program = Effect.gen(function*() {
  const held = yield* work
  const holders = yield* Lock.inspect("invoices/2026-11")
  yield* Console.log(`held ${held}, then ${holders.length === 0 ? "free" : "not free"}`)
})

await Effect.runPromise(Effect.provide(program, MemoryLock.layer()))

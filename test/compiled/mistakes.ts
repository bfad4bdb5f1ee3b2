/**
 * Mistakes that the compiler must find. Checked by the compiler (`npm run types`), for which a mistake that compiles is
 * an error; never run.
 */
import { Context, Effect, type Schedule } from "effect"
import {
  defaultSchedule,
  InvalidLockRequest,
  type Lease,
  type LeaseState,
  Lock,
  LockBackend,
  type LockBackendError,
  type LockContended,
  LockDefaults,
  withLock,
  withLockIfAvailable
} from "effect-lock"
import * as Memory from "effect-lock/layers/Memory"

// The compiler's own finding is the test; the plugin would report it a second time.
// @effect-diagnostics missingEffectContext:off missingEffectError:off
declare const compiles: (value: unknown) => void

class Work extends Context.Service<Work, { readonly value: number }>()("test/Work") {}
class Invoices extends Context.Service<Invoices, LockBackend["Service"]>()("test/Invoices") {}
declare const pure: Effect.Effect<number>
declare const lease: Lease
const invoices = Lock.on(Invoices)
const waited = pure.pipe(Lock.guard("k"))

// @ts-expect-error -- it does not wait
compiles(withLockIfAvailable("k", { wait: "10 seconds" }))
// @ts-expect-error -- it has no delays
compiles(withLockIfAvailable("k", { schedule: defaultSchedule }))
// @ts-expect-error -- nobody queues
compiles(withLockIfAvailable("k", { maxWaiters: 5 }))
// @ts-expect-error -- it does not wait
compiles(pure.pipe(Lock.guardIfAvailable("k", { wait: 0 })))
// @ts-expect-error -- it does not wait, data first
compiles(Lock.guardIfAvailable(pure, "k", { wait: 0 }))
// @ts-expect-error -- nor on a backend of one's own
compiles(invoices.withLockIfAvailable("k", { wait: 0 }))

// @ts-expect-error -- misspelt
compiles(withLock("k", { timeToLive: "30 seconds" }))
// @ts-expect-error -- misspelt
compiles(withLock("k", { Ttl: "30 seconds" }))
// @ts-expect-error -- misspelt
compiles(pure.pipe(Lock.guard("k", { waitFor: 5 })))
// @ts-expect-error -- misspelt
compiles(Lock.guard(pure, "k", { timeout: 5 }))
// @ts-expect-error -- misspelt
compiles(pure.pipe(Effect.provideService(LockDefaults, { tll: 5 })))
// @ts-expect-error -- misspelt
compiles(Lock.break("k", "owner", { force: true }))

// @ts-expect-error -- not a duration
compiles(withLock("k", { ttl: "5 parsecs" }))
// @ts-expect-error -- not a duration
compiles(withLock("k", { ttl: { second: 5 } }))
// @ts-expect-error -- not a duration
compiles(withLock("k", { ttl: true }))
// @ts-expect-error -- null is not "left out"
compiles(withLock("k", { ttl: null }))
// @ts-expect-error -- only `wait` is for ever
compiles(withLock("k", { ttl: "forever" }))
// @ts-expect-error -- only false switches renewal off
compiles(withLock("k", { renewEvery: true }))
// @ts-expect-error -- only renewal can be switched off
compiles(withLock("k", { wait: false }))
// @ts-expect-error -- not a number
compiles(withLock("k", { maxWaiters: "5" }))
// @ts-expect-error -- values are strings
compiles(withLock("k", { metadata: { pid: 5 } }))
// @ts-expect-error -- not a Schedule
compiles(withLock("k", { schedule: "1 second" }))
// @ts-expect-error -- a schedule that needs a service can't have it
compiles(withLock("k", { schedule: null as unknown as Schedule.Schedule<number, LockContended, never, Work> }))
// @ts-expect-error -- a schedule that can fail would be a fifth kind of failure
compiles(withLock("k", { schedule: null as unknown as Schedule.Schedule<number, LockContended, "failed"> }))
// @ts-expect-error -- a schedule that looks at another error than the refusal
compiles(withLock("k", { schedule: null as unknown as Schedule.Schedule<number, LockBackendError> }))

// @ts-expect-error -- a key is a string
compiles(withLock(5))
// @ts-expect-error -- a key is needed
compiles(withLock())
// @ts-expect-error -- the options are one object
compiles(withLock("k", "30 seconds"))
// @ts-expect-error -- an owner id is needed
compiles(Lock.break("k"))

// @ts-expect-error -- not an effect
compiles(Lock.guard(5, "k"))
// @ts-expect-error -- not an effect
compiles(Lock.guard(() => pure, "k"))
// @ts-expect-error -- not an effect
compiles(Lock.guard("k")(Promise.resolve(5)))
// @ts-expect-error -- not an effect
compiles(lease.guard(5))
// @ts-expect-error -- not an effect
compiles(Lock.scoped(() => pure))
// @ts-expect-error -- the key comes second
compiles(Lock.guard("k", pure))

// @ts-expect-error -- there may be no fencing token
const token: bigint = lease.fencingToken
// @ts-expect-error -- there may be no fencing token
export const isNewer = lease.fencingToken > 5n
// @ts-expect-error -- an effect, not a value
const state: LeaseState = lease.state
// @ts-expect-error -- an effect, always truthy; the check is what it does
compiles(lease.check === true)
// @ts-expect-error -- a lease is not changed
lease.key = "other"
// @ts-expect-error -- a lease has no `unlock`
export const unlocked = lease.unlock
// @ts-expect-error -- whoever gives up tells by which error; there is no boolean
const acquired: Effect.Effect<boolean, never, LockBackend> = Effect.scoped(withLock("k"))

// @ts-expect-error -- a lease needs a scope to end in
compiles(Effect.runPromise(withLock("k").pipe(Effect.provide(Memory.layer()))))
// @ts-expect-error -- a lock needs a backend to live in
compiles(Effect.runPromise(waited))
// @ts-expect-error -- the default backend is not the one asked for
compiles(Effect.runPromise(pure.pipe(invoices.guard("k"), Effect.provide(Memory.layer()))))
// @ts-expect-error -- not a tag of a LockBackend
compiles(Lock.on(Work))
// @ts-expect-error -- a backend without verbs
compiles(LockBackend.make({ name: "mine" }))
// @ts-expect-error -- a service is made by LockBackend.make: what an author writes has no slot
export const handMade: LockBackend["Service"] = null as unknown as Parameters<typeof LockBackend.make>[0]
// @ts-expect-error -- waiting has no LockLost before there is a lease
compiles(withLock("k").pipe(Effect.catchTag("LockLost", () => pure)))
// @ts-expect-error -- not held is not an error here
compiles(withLockIfAvailable("k").pipe(Effect.catchTag("LockContended", () => pure)))
// @ts-expect-error -- not a reason
compiles(waited.pipe(Effect.catchReason("LockBackendError", "Contended", () => pure)))
// @ts-expect-error -- `received` and `allowed` are needed
export const incomplete = new InvalidLockRequest({ field: "ttl" })

export { acquired, state, token }

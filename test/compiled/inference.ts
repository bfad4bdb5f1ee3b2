/**
 * What the public functions infer, exactly. Checked by the compiler (`npm run types`); never run.
 */
import {
  type Config,
  Context,
  type DateTime,
  Duration,
  Effect,
  type Layer,
  type Option,
  Schedule,
  type Scope,
  type Stream
} from "effect"
import {
  defaultSchedule,
  fullJitter,
  Holder,
  type InvalidLockRequest,
  type Lease,
  type LeaseState,
  Lock,
  LockBackend,
  type LockBackendError,
  type LockContended,
  LockDefaults,
  type LockLost,
  type LockOptions,
  type Misconfigured,
  type Protocol,
  type Throttled,
  type TimedOut,
  type Unauthorized,
  type Unreachable,
  type WaitSchedule,
  withLock,
  withLockIfAvailable
} from "effect-lock"
import * as Memory from "effect-lock/layers/Memory"

// Neither `any` nor a wider or narrower type is equal.
type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false

declare const compiles: (value: unknown) => void

/** Compiles only if the value's type is exactly `Expected`. */
declare const exactly: <Expected>() => <Actual>(
  value: Actual,
  ...differs: Equal<Actual, Expected> extends true ? [] : [expected: Expected, actual: Actual]
) => void

class Work extends Context.Service<Work, { readonly value: number }>()("test/Work") {}
class Invoices extends Context.Service<Invoices, LockBackend["Service"]>()("test/Invoices") {}
declare const work: Effect.Effect<Uint8Array, "failed", Work>
declare const scopedWork: Effect.Effect<Uint8Array, "failed", Work | Scope.Scope>
declare const pure: Effect.Effect<number>
declare const options: LockOptions

// -----------------------------------------------------------------------------
// acquiring
// -----------------------------------------------------------------------------

type Acquire = LockContended | LockBackendError | InvalidLockRequest
type Ask = LockBackendError | InvalidLockRequest

exactly<Effect.Effect<Lease, Acquire, LockBackend | Scope.Scope>>()(withLock("k"))
exactly<Effect.Effect<Lease, Acquire, LockBackend | Scope.Scope>>()(withLock("k", { ttl: "30 seconds" }))
exactly<Effect.Effect<Lease, Acquire, LockBackend | Scope.Scope>>()(Lock.withLock("k", options))
exactly<Effect.Effect<Lease, Acquire, LockBackend>>()(Effect.scoped(withLock("k")))

exactly<Effect.Effect<Option.Option<Lease>, Ask, LockBackend | Scope.Scope>>()(withLockIfAvailable("k"))
exactly<Effect.Effect<Option.Option<Lease>, Ask, LockBackend | Scope.Scope>>()(
  Lock.withLockIfAvailable("k", { ttl: 1 })
)

exactly<Effect.Effect<Uint8Array, "failed" | Acquire | LockLost, Work | LockBackend>>()(Lock.guard(work, "k"))
exactly<Effect.Effect<Uint8Array, "failed" | Acquire | LockLost, Work | LockBackend>>()(Lock.guard(work, "k", options))
exactly<Effect.Effect<Uint8Array, "failed" | Acquire | LockLost, Work | LockBackend>>()(work.pipe(Lock.guard("k")))
exactly<Effect.Effect<Uint8Array, "failed" | Acquire | LockLost, Work | LockBackend>>()(
  work.pipe(Lock.guard("k", { wait: "10 seconds" }))
)
exactly<Effect.Effect<number, Acquire | LockLost, LockBackend>>()(pure.pipe(Lock.guard("k")))
// The caller's Scope is neither taken away nor added.
exactly<Effect.Effect<Uint8Array, "failed" | Acquire | LockLost, Work | Scope.Scope | LockBackend>>()(
  scopedWork.pipe(Lock.guard("k"))
)
// One guard for effects of any type.
const underOneLock = Lock.guard("k")
exactly<Effect.Effect<number, Acquire | LockLost, LockBackend>>()(underOneLock(pure))
exactly<Effect.Effect<Uint8Array, "failed" | Acquire | LockLost, Work | LockBackend>>()(underOneLock(work))

exactly<Effect.Effect<Option.Option<Uint8Array>, "failed" | Ask | LockLost, Work | LockBackend>>()(
  Lock.guardIfAvailable(work, "k")
)
exactly<Effect.Effect<Option.Option<Uint8Array>, "failed" | Ask | LockLost, Work | LockBackend>>()(
  Lock.guardIfAvailable(work, "k", { ttl: "1 minute" })
)
exactly<Effect.Effect<Option.Option<Uint8Array>, "failed" | Ask | LockLost, Work | LockBackend>>()(
  work.pipe(Lock.guardIfAvailable("k"))
)
exactly<Effect.Effect<Option.Option<number>, Ask | LockLost, LockBackend>>()(
  pure.pipe(Lock.guardIfAvailable("k", { renewEvery: false }))
)

exactly<Effect.Effect<Uint8Array, "failed" | LockLost, Work>>()(Lock.scoped(scopedWork))
exactly<Effect.Effect<number, LockLost>>()(Lock.scoped(pure))
exactly<Effect.Effect<Lease, Acquire | LockLost, LockBackend>>()(Lock.scoped(withLock("k")))
exactly<Effect.Effect<Uint8Array, "failed", Work>>()(Lock.detached(work))

// -----------------------------------------------------------------------------
// operating
// -----------------------------------------------------------------------------

exactly<Effect.Effect<ReadonlyArray<Holder.Holder>, Ask, LockBackend>>()(Lock.inspect("k"))
exactly<"key" | "holders">()(null as unknown as keyof Stream.Success<ReturnType<typeof Lock.list>>)
exactly<Ask>()(null as unknown as Stream.Error<ReturnType<typeof Lock.list>>)
exactly<LockBackend>()(null as unknown as Stream.Services<ReturnType<typeof Lock.list>>)
exactly<ReturnType<typeof Lock.list>>()(Lock.list("prefix/"))
exactly<Effect.Effect<"Draining" | "Broken" | "NotHeld", Ask, LockBackend>>()(Lock.break("k", "owner"))
exactly<Effect.Effect<"Draining" | "Broken" | "NotHeld", Ask, LockBackend>>()(Lock.break("k", "owner", { now: true }))

exactly<{
  readonly ownerId: string
  readonly since: Option.Option<DateTime.Utc>
  readonly remaining: Option.Option<Duration.Duration>
  readonly fencingToken: Option.Option<bigint>
  readonly metadata: { readonly [name: string]: string }
}>()(null as unknown as Holder.Holder)
exactly<string>()(Holder.format(null as unknown as Holder.Holder))

// -----------------------------------------------------------------------------
// a lease
// -----------------------------------------------------------------------------

declare const lease: Lease

exactly<string>()(lease.key)
exactly<string>()(lease.ownerId)
exactly<Option.Option<bigint>>()(lease.fencingToken)
exactly<Effect.Effect<LeaseState>>()(lease.state)
exactly<"Held" | "InJeopardy" | "Lost" | "Released">()(null as unknown as LeaseState)
exactly<Stream.Stream<LeaseState>>()(lease.changes)
exactly<Effect.Effect<never, LockLost>>()(lease.lost)
exactly<Effect.Effect<void, LockLost>>()(lease.check)
exactly<Effect.Effect<Duration.Duration>>()(lease.remaining)
exactly<Effect.Effect<Uint8Array, "failed" | LockLost, Work>>()(lease.guard(work))
exactly<Effect.Effect<number, LockLost>>()(pure.pipe(lease.guard))
exactly<Effect.Effect<void, LockLost | LockBackendError>>()(lease.renew)
exactly<Effect.Effect<void, LockLost | LockBackendError | InvalidLockRequest>>()(lease.ensure("5 seconds"))
exactly<Effect.Effect<void>>()(lease.release)

// -----------------------------------------------------------------------------
// a backend of one's own
// -----------------------------------------------------------------------------

const invoices = Lock.on(Invoices)

exactly<Lock.LocksOn<Invoices>>()(invoices)
exactly<Effect.Effect<Lease, Acquire, Invoices | Scope.Scope>>()(invoices.withLock("k"))
exactly<Effect.Effect<Option.Option<Lease>, Ask, Invoices | Scope.Scope>>()(invoices.withLockIfAvailable("k"))
exactly<Effect.Effect<Uint8Array, "failed" | Acquire | LockLost, Work | Invoices>>()(work.pipe(invoices.guard("k")))
exactly<Effect.Effect<Uint8Array, "failed" | Acquire | LockLost, Work | Invoices>>()(invoices.guard(work, "k"))
exactly<Effect.Effect<Option.Option<number>, Ask | LockLost, Invoices>>()(invoices.guardIfAvailable(pure, "k"))
exactly<Effect.Effect<Option.Option<number>, Ask | LockLost, Invoices>>()(pure.pipe(invoices.guardIfAvailable("k")))
exactly<Effect.Effect<ReadonlyArray<Holder.Holder>, Ask, Invoices>>()(invoices.inspect("k"))
exactly<Invoices>()(null as unknown as Stream.Services<ReturnType<typeof invoices.list>>)
exactly<Effect.Effect<"Draining" | "Broken" | "NotHeld", Ask, Invoices>>()(invoices.break("k", "owner"))
exactly<Lock.LocksOn<LockBackend>>()(Lock.on(LockBackend))

exactly<Layer.Layer<LockBackend>>()(Memory.layer())
exactly<Layer.Layer<LockBackend, Config.ConfigError>>()(Memory.layerConfig({}))
exactly<Effect.Effect<LockBackend["Service"], never, Scope.Scope>>()(Memory.make())
exactly<Effect.Effect<number, Acquire | LockLost>>()(pure.pipe(Lock.guard("k"), Effect.provide(Memory.layer())))

// -----------------------------------------------------------------------------
// options and errors
// -----------------------------------------------------------------------------

exactly<Context.Reference<LockOptions>>()(LockDefaults)
exactly<WaitSchedule>()(defaultSchedule)
// Jitter keeps the type of what it jitters.
exactly<Schedule.Schedule<Duration.Duration>>()(fullJitter(Schedule.exponential("50 millis")))
// Every form of a duration, `undefined` for each option, and schedules that look at the refusal.
compiles(withLock("k", {
  ttl: { seconds: 30 },
  wait: "forever",
  schedule: fullJitter(Schedule.spaced("1 second")).pipe(
    Schedule.setInputType<LockContended>(),
    Schedule.while(({ input }) => input.attempts < 5)
  ),
  renewEvery: false,
  operationTimeout: 5_000,
  outageBudget: 1_000_000_000n,
  safetyMargin: [1, 0],
  maxHold: Duration.hours(1),
  maxWaiters: 10,
  metadata: { host: "db-1" }
}))
const undefinedOptions: { [K in keyof LockOptions]-?: undefined } = {
  ttl: undefined,
  wait: undefined,
  schedule: undefined,
  renewEvery: undefined,
  operationTimeout: undefined,
  outageBudget: undefined,
  safetyMargin: undefined,
  maxHold: undefined,
  maxWaiters: undefined,
  metadata: undefined
}
compiles(withLock("k", undefinedOptions))
exactly<Effect.Effect<number>>()(pure.pipe(Effect.provideService(LockDefaults, { ttl: "1 minute" })))

exactly<"WaitOver" | "ScheduleOver" | "QueueFull" | "Self">()(null as unknown as LockContended["reason"])
exactly<"Expired" | "Taken" | "Gone" | "Released" | "BackendClosed">()(null as unknown as LockLost["reason"])
exactly<Unreachable | TimedOut | Throttled | Unauthorized | Misconfigured | Protocol>()(
  null as unknown as LockBackendError["reason"]
)
exactly<boolean>()(null as unknown as LockBackendError["isRetryable"])
exactly<Option.Option<Duration.Duration>>()(null as unknown as Throttled["retryAfter"])

// Each error can be handled by itself, and is then gone.
const waited = pure.pipe(Lock.guard("k"))
exactly<Effect.Effect<number, LockBackendError | InvalidLockRequest | LockLost, LockBackend>>()(
  waited.pipe(Effect.catchTag("LockContended", ({ holders }) => Effect.succeed(holders.length)))
)
exactly<Effect.Effect<number, LockBackendError | LockLost, LockBackend>>()(
  waited.pipe(Effect.catchTag(["LockContended", "InvalidLockRequest"], () => pure))
)
exactly<Effect.Effect<number, never, LockBackend>>()(
  waited.pipe(
    Effect.catchTags({
      LockContended: () => pure,
      LockBackendError: (error) => Effect.succeed(error.isRetryable ? 1 : 2),
      InvalidLockRequest: () => pure,
      LockLost: () => pure
    })
  )
)
compiles(
  waited.pipe(Effect.catchReason("LockBackendError", "Throttled", ({ retryAfter }) => Effect.succeed(retryAfter)))
)
compiles(waited.pipe(Effect.catchReasons("LockBackendError", { TimedOut: ({ after }) => Effect.succeed(after) })))

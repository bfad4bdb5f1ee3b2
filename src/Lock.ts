/**
 * Locks: acquire, guard, look, break. Everything here works on whatever `LockBackend` is provided.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { dual } from "effect/Function"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Holder } from "./Holder.ts"
import type { AcquireError } from "./internal/acquisition.ts"
import { bounded } from "./internal/bounded.ts"
import { guarded } from "./internal/guarded.ts"
import type { HeldLease } from "./internal/heldLease.ts"
import { Instance } from "./internal/instance.ts"
import { CurrentRegion, type Region } from "./internal/region.ts"
import { acquireOn, keepInScope } from "./internal/request.ts"
import type { Lease } from "./Lease.ts"
import { type HeldKey, LockBackend } from "./LockBackend.ts"
import { InvalidLockRequest, LockBackendError, type LockContended, type LockLost, Misconfigured } from "./LockError.ts"
import { invalidKey, invalidOwnerId, type LockOptions } from "./LockOptions.ts"

/**
 * Options of an acquisition that does not wait.
 *
 * @category models
 */
export type IfAvailableOptions = Omit<LockOptions, "wait" | "schedule" | "maxWaiters">

/**
 * The lock functions for one backend service `R`; what `Lock.on` returns, and what this module exports for
 * `LockBackend`. Each function is documented where this module exports it.
 *
 * @category models
 */
export interface LocksOn<R> {
  readonly withLock: (
    key: string,
    options?: LockOptions
  ) => Effect.Effect<Lease, LockContended | LockBackendError | InvalidLockRequest, R | Scope.Scope>
  readonly withLockIfAvailable: (
    key: string,
    options?: IfAvailableOptions
  ) => Effect.Effect<Option.Option<Lease>, LockBackendError | InvalidLockRequest, R | Scope.Scope>
  readonly guard: {
    (key: string, options?: LockOptions): <A, E, R2>(
      effect: Effect.Effect<A, E, R2>
    ) => Effect.Effect<A, E | LockContended | LockBackendError | InvalidLockRequest | LockLost, R | R2>
    <A, E, R2>(
      effect: Effect.Effect<A, E, R2>,
      key: string,
      options?: LockOptions
    ): Effect.Effect<A, E | LockContended | LockBackendError | InvalidLockRequest | LockLost, R | R2>
  }
  readonly guardIfAvailable: {
    (key: string, options?: IfAvailableOptions): <A, E, R2>(
      effect: Effect.Effect<A, E, R2>
    ) => Effect.Effect<Option.Option<A>, E | LockBackendError | InvalidLockRequest | LockLost, R | R2>
    <A, E, R2>(
      effect: Effect.Effect<A, E, R2>,
      key: string,
      options?: IfAvailableOptions
    ): Effect.Effect<Option.Option<A>, E | LockBackendError | InvalidLockRequest | LockLost, R | R2>
  }
  readonly inspect: (key: string) => Effect.Effect<ReadonlyArray<Holder>, LockBackendError | InvalidLockRequest, R>
  readonly list: (keyPrefix?: string) => Stream.Stream<HeldKey, LockBackendError | InvalidLockRequest, R>
  readonly break: (
    key: string,
    ownerId: string,
    options?: { readonly now?: boolean | undefined }
  ) => Effect.Effect<"Draining" | "Broken" | "NotHeld", LockBackendError | InvalidLockRequest, R>
}

/**
 * The lock functions on a backend service of your own, for two backends in one program.
 *
 * **Example** (Two backends)
 *
 * ```ts
 * import { Context, Effect, Layer } from "effect"
 * import { Lock, LockBackend } from "effect-lock"
 * import * as MemoryLock from "effect-lock/layers/Memory"
 *
 * class Invoices extends Context.Service<Invoices, LockBackend["Service"]>()("app/Invoices") {}
 *
 * const invoices = Lock.on(Invoices)
 * const program = Effect.succeed("closed").pipe(invoices.guard("2026-11"))
 *
 * const layer = Layer.effect(Invoices, MemoryLock.make({ namespace: "invoices" }))
 * console.log(await Effect.runPromise(program.pipe(Effect.provide(layer))))
 * // prints: closed
 * ```
 *
 * @category constructors
 */
export const on = <I>(tag: Context.Key<I, LockBackend["Service"]>): LocksOn<I> => {
  const scopedLease = (
    key: string,
    options: LockOptions | undefined,
    ifAvailable: boolean
  ): Effect.Effect<Lease | undefined, AcquireError | InvalidLockRequest, I | Scope.Scope> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.withFiber((fiber) => {
        const scope = Context.getUnsafe(fiber.context, Scope.Scope)
        const acquired = acquireOn(tag, fiber, key, options, ifAvailable, scope, restore)
        return Effect.flatMap(acquired, (lease) =>
          lease === undefined ? Effect.undefined : keepInScope(lease, scope, fiber))
      })
    )

  const guardedLease = <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    key: string,
    options: LockOptions | undefined,
    ifAvailable: boolean
  ): Effect.Effect<Option.Option<A>, E | AcquireError | InvalidLockRequest | LockLost, I | R> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.withFiber((fiber) =>
        Effect.flatMap(
          acquireOn(tag, fiber, key, options, ifAvailable, undefined, restore),
          (lease) =>
            lease === undefined
              ? Effect.succeedNone
              : Effect.onExitPrimitive(
                Effect.asSome(restore(lease.guard(effect))),
                () => lease.giveBack
              )
        )
      )
    )

  const service = <A, E>(
    operation: LockBackendError["operation"],
    f: (instance: Instance, fiber: Fiber.Fiber<unknown, unknown>) => Effect.Effect<A, E>
  ): Effect.Effect<A, E | LockBackendError, I> =>
    Effect.withFiber((fiber): Effect.Effect<A, E | LockBackendError> => {
      const instance = Instance.of(Context.getUnsafe(fiber.context, tag), operation)
      return instance instanceof Instance ? f(instance, fiber) : Effect.fail(instance)
    })

  return {
    withLock: (key, options) =>
      scopedLease(key, options, false) as Effect.Effect<Lease, AcquireError | InvalidLockRequest, I | Scope.Scope>,
    withLockIfAvailable: (key, options) =>
      withoutContention(Effect.map(scopedLease(key, options, true), Option.fromUndefinedOr)),
    guard: dual(
      (args) => Effect.isEffect(args[0]),
      <A, E, R>(effect: Effect.Effect<A, E, R>, key: string, options?: LockOptions) =>
        Effect.map(guardedLease(effect, key, options, false), Option.getOrThrow)
    ),
    guardIfAvailable: dual(
      (args) => Effect.isEffect(args[0]),
      <A, E, R>(effect: Effect.Effect<A, E, R>, key: string, options?: IfAvailableOptions) =>
        guardedLease(effect, key, options, true)
    ),
    inspect: (key) =>
      service(
        "inspect",
        (instance, fiber) =>
          administer(instance, fiber, "inspect", key, (budget) => instance.backend.inspect({ key, budget }))
      ),
    list: (keyPrefix = "") =>
      Stream.unwrap(service("list", (instance): Effect.Effect<
        Stream.Stream<HeldKey, LockBackendError>,
        LockBackendError | InvalidLockRequest
      > => {
        const invalid = keyPrefix === "" ? undefined : invalidKey(keyPrefix)
        if (invalid !== undefined) return Effect.fail(new InvalidLockRequest({ ...invalid, field: "keyPrefix" }))
        return instance.backend.list === undefined
          ? Effect.fail(unsupported(instance, "list", undefined, "this backend can't list its locks"))
          : Effect.succeed(instance.backend.list(keyPrefix))
      })),
    break: (key, ownerId, options) =>
      service("break", (instance, fiber) => {
        const { backend } = instance
        const now = options?.now === true
        const invalid = invalidOwnerId(ownerId)
        if (invalid !== undefined) return Effect.fail(invalid)
        const break_ = backend.break
        if (break_ === undefined) {
          return Effect.fail(unsupported(instance, "break", key, "this backend can't break locks"))
        }
        if (!now && !backend.capabilities.drain) {
          return Effect.fail(unsupported(instance, "break", key, "this backend can't drain; pass { now: true }"))
        }
        return administer(instance, fiber, "break", key, (budget) => break_({ key, ownerId, now, budget }))
      })
  }
}

const locks = on(LockBackend)

/**
 * Acquires the lock `key` and keeps it until the surrounding `Scope` closes, however it closes.
 *
 * **Details**
 *
 * Waits as `wait` and `schedule` say (for ever by default); the lease is renewed meanwhile by itself. Fails with
 * `LockContended` if the waiting ended, `LockBackendError` if the backend could not be asked, `InvalidLockRequest` if
 * `key` or an option is wrong, before anything is sent.
 *
 * Interrupting the wait leaves nothing locked: it is over within two operation timeouts.
 *
 * **Gotchas**
 *
 * The lease can be lost while the scope is open, and `Effect.scoped` does not look at that. Run the work under
 * `lease.guard`, or the whole region under `Lock.scoped`. Bound the waiting with `wait` rather than `Effect.timeout`:
 * a timeout that strikes right after the grant leaves the lease to the scope.
 *
 * @category acquiring
 */
export const withLock = locks.withLock

/**
 * Acquires the lock if nobody has it: `None` if somebody does, without waiting.
 *
 * **Details**
 *
 * Within the process it never overtakes: while somebody of the same process holds the lock or waits for it, the answer
 * is `None` without any I/O. Fails with `LockBackendError` if the backend could not be asked: that is not "held".
 *
 * **Gotchas**
 *
 * As for `withLock`: the lease can be lost; guard the work.
 *
 * @category acquiring
 */
export const withLockIfAvailable = locks.withLockIfAvailable

/**
 * Runs an effect under the lock: acquire, guard, release.
 *
 * **Details**
 *
 * If the lease is lost, the effect is interrupted, its finalizers are awaited, and the result is `LockLost`. The
 * caller's `Scope` is not captured: what the effect adds to it lives on.
 *
 * **Gotchas**
 *
 * The effect runs in a child fiber. A paused process notices a loss only when it runs again: let what it writes to
 * refuse a smaller fencing token (use `withLock` and `lease.guard` to get at the token).
 *
 * @category acquiring
 */
export const guard = locks.guard

/**
 * Runs an effect under the lock if nobody has it: `None`, without running it, if somebody does.
 *
 * **Gotchas**
 *
 * As for `guard`: a lease that is lost interrupts the effect and fails with `LockLost`.
 *
 * @category acquiring
 */
export const guardIfAvailable = locks.guardIfAvailable

/**
 * Who holds `key` now; empty = nobody.
 *
 * **Gotchas**
 *
 * For diagnostics. The answer is old when it arrives: never decide by it whether to do what the lock protects.
 *
 * @category operating
 */
export const inspect = locks.inspect

/**
 * The keys that start with `keyPrefix` and are held, with their holders. A backend that can't list fails with
 * `Misconfigured`.
 *
 * @category operating
 */
export const list = locks.list

const break_ = locks.break

export {
  /**
   * Frees another's lock, by the owner id that `inspect` showed.
   *
   * **Details**
   *
   * By default it drains: the holder's renewals are refused at once, and the name becomes free at its release or at
   * its present expiry (`"Draining"`). `now: true` frees it at once (`"Broken"`). `"NotHeld"`: that owner does not hold
   * the key.
   *
   * **Gotchas**
   *
   * With `now` the old holder works on until it learns of it, beside the next one; only the fencing token covers that.
   *
   * @category operating
   */
  break_ as break
}

/**
 * `Effect.scoped`, plus: a lease that was acquired into this region's own scope and is lost interrupts the region,
 * which then fails with `LockLost`.
 *
 * **Details**
 *
 * Leases of inner scopes, and those of `Lock.guard`, are not the region's: their loss ends what runs under them.
 *
 * **Gotchas**
 *
 * The region runs in a child fiber: what it forks with `forkChild` ends with it.
 *
 * @category acquiring
 */
export const scoped = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | LockLost, Exclude<R, Scope.Scope>> =>
  Effect.withFiber((fiber) => {
    const outer = fiber.getRef(CurrentRegion)
    return Effect.scopedWith((scope) => {
      const leases = new Set<HeldLease>()
      let stop: (() => void) | undefined
      const lost = (): LockLost | undefined => {
        for (const lease of leases) {
          const verdict = lease.verdict()
          if (verdict !== undefined && verdict.reason !== "Released") return verdict
        }
        return undefined
      }
      const region: Region = {
        outer,
        scope,
        leases,
        join: (lease) => {
          leases.add(lease)
          lease.watch(() => {
            if (lost() === undefined) leases.delete(lease)
            else stop?.()
          })
        }
      }
      return guarded(Scope.provide(effect, scope), region, {
        watch: (f) => {
          stop = f
          if (lost() !== undefined) f()
          return () => {
            stop = undefined
          }
        },
        verdict: lost
      })
    })
  })

/**
 * Runs an effect as if it held no lock: for work that is started under a lock and must wait its turn for the same one,
 * which would otherwise be reported as `LockContended(Self)`.
 *
 * @category acquiring
 */
export const detached = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, CurrentRegion, undefined)

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const withoutContention = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, Exclude<E, LockContended>, R> =>
  self as Effect.Effect<A, Exclude<E, LockContended>, R>

const administer = <A>(
  instance: Instance,
  fiber: Fiber.Fiber<unknown, unknown>,
  operation: "inspect" | "break",
  key: string,
  ask: (budget: Duration.Duration) => Effect.Effect<A, LockBackendError>
): Effect.Effect<A, LockBackendError | InvalidLockRequest> => {
  const invalid = invalidKey(key)
  if (invalid !== undefined) return Effect.fail(invalid)
  const options = instance.options(fiber, undefined)
  if (Result.isFailure(options)) return Effect.fail(options.failure)
  const budget = options.success.operationTimeout
  const call = { backend: instance.backend.name, operation, key, budget }
  return bounded(instance, call, Effect.suspend(() => ask(Duration.millis(budget))))
}

const unsupported = (
  instance: Instance,
  operation: "list" | "break",
  key: string | undefined,
  detail: string
): LockBackendError =>
  new LockBackendError({ backend: instance.backend.name, operation, key, reason: new Misconfigured({ detail }) })

/**
 * From a caller's request to a lease: validation, waiting for oneself, and the scope that the lease is left to.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import type { Lease } from "../Lease.ts"
import type { LockBackend } from "../LockBackend.ts"
import { type InvalidLockRequest, LockContended } from "../LockError.ts"
import { invalidKey, type LockOptions, type ResolvedOptions } from "../LockOptions.ts"
import { acquire, type AcquireError } from "./acquisition.ts"
import type { HeldLease } from "./heldLease.ts"
import { Instance } from "./instance.ts"
import { LeaseFace } from "./leaseFace.ts"
import { CurrentRegion, holds, ofScope } from "./region.ts"
import { spanned } from "./telemetry.ts"

/** Acquires on the backend of `tag`; must run in the uninterruptible region that `restore` belongs to. */
export const acquireOn = <I>(
  tag: Context.Key<I, LockBackend["Service"]>,
  fiber: Fiber.Fiber<unknown, unknown>,
  key: string,
  options: LockOptions | undefined,
  ifAvailable: boolean,
  scope: Scope.Scope | undefined,
  restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
): Effect.Effect<HeldLease | undefined, AcquireError | InvalidLockRequest> => {
  const invalid = invalidKey(key)
  if (invalid !== undefined) return Effect.fail(invalid)
  const instance = Instance.of(Context.getUnsafe(fiber.context, tag), "acquire")
  if (!(instance instanceof Instance)) return Effect.fail(instance)
  const resolved = instance.options(fiber, options)
  if (Result.isFailure(resolved)) return Effect.fail(resolved.failure)
  if (!ifAvailable && isSelf(instance, key, resolved.success, fiber, scope)) {
    return Effect.fail(
      new LockContended({ key, reason: "Self", attempts: 0, waited: Duration.zero, holders: [] })
    )
  }
  const clock = fiber.getRef(Clock.Clock)
  const asked = { instance, key, options: resolved.success, ifAvailable, fiber, clock, scope }
  return spanned(fiber, "Lock.wait", { key, backend: instance.backend.name }, acquire(asked, restore))
}

// Only a caller that would wait for ever is told: a bounded wait just waits.
const isSelf = (
  instance: Instance,
  key: string,
  options: ResolvedOptions,
  fiber: Fiber.Fiber<unknown, unknown>,
  scope: Scope.Scope | undefined
): boolean => {
  if (options.wait !== Infinity) return false
  const holder = instance.queues.get(key)?.holder as HeldLease | undefined
  if (holder === undefined || !holder.isLive) return false
  return (scope !== undefined && holder.fiberId === fiber.id && holder.scope === scope) ||
    holds(fiber.getRef(CurrentRegion), (lease) => lease === holder)
}

/**
 * Leaves the lease to `scope`, through a scope of its own, which an early release closes: a long-lived scope keeps
 * nothing of a lease that is over.
 */
export const keepInScope = (
  lease: HeldLease,
  scope: Scope.Scope,
  fiber: Fiber.Fiber<unknown, unknown>
): Effect.Effect<Lease> => {
  const own = Scope.forkUnsafe(scope)
  lease.closeScope = Scope.close(own, Exit.void)
  ofScope(fiber.getRef(CurrentRegion), scope)?.join?.(lease)
  // On a scope that is closed already this gives the lease back here and now.
  return Effect.as(Scope.addFinalizer(own, lease.giveBack), new LeaseFace(lease))
}

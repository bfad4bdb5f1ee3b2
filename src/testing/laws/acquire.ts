/**
 * Leases, and their end, for the laws about them.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { type Lease, LockBackend, type LockLost, type LockOptions, withLock } from "../../index.ts"
import { undisturbed } from "./drive.ts"
import type { Check, Probe } from "./probe.ts"

type Service = LockBackend["Service"]

/** `withLock` on this backend, into this scope. */
export const lockOn = (service: Service, key: string, options: LockOptions, scope: Scope.Scope) =>
  withLock(key, options).pipe(Scope.provide(scope), Effect.provideService(LockBackend, service))

/** A lease, which must be granted; it outlives the law unless it is asked otherwise. */
export const acquire = (
  probe: Probe,
  service: Service,
  key: string,
  scope: Scope.Scope,
  options: LockOptions = { ttl: probe.longTtl }
): Check<Lease> => undisturbed(probe, lockOn(service, key, options, scope))

/** Whether the exit is this loss. */
export const hasLost = (exit: Exit.Exit<unknown, unknown>, reason: LockLost["reason"]): boolean => {
  const error = Exit.findErrorOption(exit)
  return Option.isSome(error) && isLost(error.value) && error.value.reason === reason
}

/** The exit must be this loss. */
export const expectLost = (probe: Probe, exit: Exit.Exit<unknown, unknown>, reason: LockLost["reason"]): Check => {
  const error = Exit.findErrorOption(exit)
  const found = Option.isNone(error) ? "no failure" : String(error.value)
  return probe.expect(hasLost(exit, reason), `LockLost(${reason})`, found)
}

const isLost = (error: unknown): error is LockLost =>
  typeof error === "object" && error !== null && "_tag" in error && error._tag === "LockLost"

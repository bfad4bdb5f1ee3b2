/**
 * effect-lock: distributed locks as scoped Effect resources.
 */
export * as Holder from "./Holder.ts"
export type { Lease, LeaseState } from "./Lease.ts"
export * as Lock from "./Lock.ts"
export { withLock, withLockIfAvailable } from "./Lock.ts"
export { LockBackend } from "./LockBackend.ts"
export type {
  Acquired,
  AcquireRequest,
  BreakRequest,
  Capabilities,
  Held,
  HeldKey,
  Implementation as LockBackendImplementation,
  Lost,
  ReleaseRequest,
  Renewed,
  RenewRequest
} from "./LockBackend.ts"
export {
  InvalidLockRequest,
  LockBackendError,
  LockContended,
  LockLost,
  Misconfigured,
  Protocol,
  Throttled,
  TimedOut,
  Unauthorized,
  Unreachable
} from "./LockError.ts"
export { defaultSchedule, fullJitter, LockDefaults } from "./LockOptions.ts"
export type { LockOptions, WaitSchedule } from "./LockOptions.ts"

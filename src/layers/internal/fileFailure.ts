/**
 * What a file system's error means for a lock, translated once.
 */
import * as Option from "effect/Option"
import { isPlatformError, type PlatformError } from "effect/PlatformError"
import {
  type BackendReason,
  LockBackendError,
  Misconfigured,
  Protocol,
  Throttled,
  Unauthorized,
  Unreachable
} from "../../LockError.ts"

/** What the inner parts of the file backend fail with. */
export type FileFailure = PlatformError | BackendReason

/** The error of one operation of the file backend. */
export const toBackendError =
  (operation: LockBackendError["operation"], key?: string) => (failure: FileFailure): LockBackendError =>
    new LockBackendError({
      backend: "file",
      operation,
      ...(key === undefined ? {} : { key }),
      reason: isPlatformError(failure) ? reasonOf(failure) : failure
    })

/** The system's own name of an error, `ENOSPC` for one; empty if it has none. */
export const errorCode = (error: PlatformError): string => codeOf(error.reason.cause)

/** Whether the error says that nothing is there. */
export const isNotFound = (failure: FileFailure): boolean =>
  isPlatformError(failure) && failure.reason._tag === "NotFound"

/** Whether the error says that something is there already; a directory with entries says so in its own way. */
export const isTaken = (failure: FileFailure): boolean =>
  isPlatformError(failure) && (failure.reason._tag === "AlreadyExists" || errorCode(failure) === "ENOTEMPTY")

/** What a file system's watcher throws, which is outside of its error channel. */
export const reasonOfDefect = (defect: unknown): BackendReason => {
  const code = codeOf(defect)
  const detail = `the directory can't be watched (${code === "" ? String(defect) : code}); polling goes on. `
    + "If it is for want of watches, raise fs.inotify.max_user_watches and max_user_instances."
  return new Misconfigured({ detail, cause: defect })
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const codeOf = (cause: unknown): string => {
  if (typeof cause !== "object" || cause === null || !("code" in cause)) return ""
  return typeof cause.code === "string" ? cause.code : ""
}

// By the system's code where there is one, because the tags of a PlatformError lump most of these together.
const mend: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full: free space (or inodes) on it",
  EDQUOT: "the disk quota is used up: free space or raise it",
  EROFS: "the file system is read-only: mount it for writing, or choose another directory",
  ENAMETOOLONG: "the path is too long: choose a directory with a shorter path",
  ENOTDIR: "a part of the path is not a directory: remove what is in the way, or choose another directory",
  EISDIR: "a directory is where a file should be: remove it",
  ELOOP: "the path has a loop of symbolic links: choose another directory",
  EXDEV: "the directory spans file systems: choose one that lies on a single one",
  EMLINK: "the file system allows no more links: remove idle locks, or choose another directory",
  ENOTSUP: "the file system lacks an operation that locks need: choose a local one with hard links",
  EOPNOTSUPP: "the file system lacks an operation that locks need: choose a local one with hard links",
  ENOSYS: "the file system lacks an operation that locks need: choose a local one with hard links"
}

const throttled = new Set(["EMFILE", "ENFILE", "EAGAIN", "EBUSY", "ENOMEM"])

const reasonOf = (error: PlatformError): BackendReason => {
  const { reason } = error
  if (reason._tag === "BadArgument") return new Protocol({ detail: error.message, cause: error })
  const code = errorCode(error)
  const where = `${reason.method} ${reason.pathOrDescriptor ?? ""}`.trim()
  const what = code === "" ? reason._tag : code
  const todo = mend[code]
  if (todo !== undefined) return new Misconfigured({ detail: `${where}: ${what}: ${todo}`, cause: error })
  if (reason._tag === "PermissionDenied") {
    const detail = `${where}: ${what}: the user of this process must own the lock directory, and everything in it, and `
      + "be allowed to read, write and search it"
    return new Unauthorized({ detail, cause: error })
  }
  if (reason._tag === "BadResource") {
    const detail = `${where}: ${what}: something else is where the lock directory's files should be: remove it`
    return new Misconfigured({ detail, cause: error })
  }
  if (throttled.has(code) || reason._tag === "Busy" || reason._tag === "WouldBlock") {
    return new Throttled({ detail: `${where}: ${what}`, retryAfter: Option.none(), cause: error })
  }
  return new Unreachable({ detail: `${where}: ${what}`, cause: error })
}

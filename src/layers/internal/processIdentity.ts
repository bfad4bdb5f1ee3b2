/**
 * Which process this is, so that another on the same machine can prove that it is dead.
 *
 * A pid alone lies: it is used again, it is 1 in every container, and it means something else in another pid namespace.
 * A process is the same only if boot, host, pid namespace, pid and start time all are. Where one of them can't be read
 * (no `/proc`, or one that hides processes) nothing is ever proven, and leases end by their ttl alone.
 */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type { PlatformError } from "effect/PlatformError"
import * as Schema from "effect/Schema"
import { errorCode } from "./fileFailure.ts"

/** A process; an empty `startTime` means that its death can't be proven. */
export const ProcessIdentity = Schema.Struct({
  pid: Schema.Int,
  host: Schema.String,
  bootId: Schema.String,
  /** The pid namespace, and the time namespace that start times are counted in. */
  pidNs: Schema.String,
  startTime: Schema.String
})

export type ProcessIdentity = typeof ProcessIdentity.Type

/** This process, as far as it can be known. */
export const current = (fs: FileSystem.FileSystem): Effect.Effect<ProcessIdentity> =>
  Effect.gen(function*() {
    const read = (path: string) => Effect.orElseSucceed(fs.readFileString(path), () => "")
    const pid = processId()
    const host = (yield* read("/proc/sys/kernel/hostname")).trim()
    const bootId = (yield* read("/proc/sys/kernel/random/boot_id")).trim()
    const pidNamespace = yield* Effect.orElseSucceed(fs.readLink("/proc/self/ns/pid"), () => "")
    const timeNamespace = yield* Effect.orElseSucceed(fs.readLink("/proc/self/ns/time"), () => "")
    const self = parseStat(yield* read("/proc/self/stat"))
    const mounts = yield* read("/proc/self/mounts")
    // The pid that /proc shows differs from our own where /proc belongs to another pid namespace: a pid looked up in it
    // would be somebody else's. And where /proc hides processes, "not there" does not mean dead.
    const provable = bootId !== "" && pidNamespace !== "" && self !== undefined && self.pid === pid &&
      mounts !== "" && !hidesProcesses.test(mounts)
    return { pid, host, bootId, pidNs: `${pidNamespace} ${timeNamespace}`, startTime: provable ? self.startTime : "" }
  })

/** Whether `other` is certainly dead. `false` means "don't know" as often as "alive". */
export const isDead = (
  fs: FileSystem.FileSystem,
  self: ProcessIdentity,
  other: ProcessIdentity
): Effect.Effect<boolean> => {
  const comparable = self.startTime !== "" && other.startTime !== "" &&
    self.bootId === other.bootId && self.host === other.host && self.pidNs === other.pidNs
  if (!comparable) return Effect.succeed(false)
  if (other.pid === self.pid) return Effect.succeed(other.startTime !== self.startTime)
  return Effect.match(fs.readFileString(`/proc/${other.pid}/stat`), {
    onFailure: isGone,
    onSuccess: (text) => {
      const found = parseStat(text)
      return found !== undefined && found.pid === other.pid && (found.startTime !== other.startTime || found.ended)
    }
  })
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const hidesProcesses = /^\S+ \/proc proc \S*\bhidepid=(?!0\b|off\b)/m

const processId = (): number =>
  (globalThis as { readonly process?: { readonly pid?: number } | undefined }).process?.pid ?? 0

// ESRCH: it died between the opening of its file and the reading.
const isGone = (error: PlatformError): boolean => error.reason._tag === "NotFound" || errorCode(error) === "ESRCH"

/**
 * proc(5), `/proc/pid/stat`: `pid (comm) state ppid …`. `comm` may contain spaces and parentheses, so fields are counted
 * from its last `)`.
 */
export const parseStat = (
  text: string
): { readonly pid: number; readonly startTime: string; readonly ended: boolean } | undefined => {
  const end = text.lastIndexOf(")")
  if (end < 0) return undefined
  const pid = Number.parseInt(text, 10)
  const fields = text.slice(end + 2).trim().split(" ")
  const state = fields[3 - 3]
  const threads = fields[20 - 3]
  const startTime = fields[22 - 3]
  if (!Number.isSafeInteger(pid) || startTime === undefined || !/^\d+$/.test(startTime)) return undefined
  // A zombie waits for its parent and runs nothing, unless it is the first thread of a process whose others go on.
  return { pid, startTime, ended: (state === "Z" || state === "X") && Number(threads) <= 1 }
}

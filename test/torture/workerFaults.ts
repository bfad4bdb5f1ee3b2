/** Faults inside a worker, and what it notices of itself. */
import { type Clock, Effect, type FileSystem, PlatformError } from "effect"
import { readdirSync, readlinkSync, watch } from "node:fs"
import { hostTime } from "./history.ts"

/** A clock whose wall time can be set; the monotonic one goes on. */
export const settableClock = (
  real: Clock.Clock
): { readonly clock: Clock.Clock; readonly set: (millis: number) => void } => {
  let offset = 0
  const millis = () => real.currentTimeMillisUnsafe() + offset
  const nanos = () => real.currentTimeNanosUnsafe() + BigInt(offset) * 1_000_000n
  return {
    set: (by) => {
      offset = Math.round(by)
    },
    clock: {
      currentTimeMillisUnsafe: millis,
      currentTimeMillis: Effect.sync(millis),
      currentTimeNanosUnsafe: nanos,
      currentTimeNanos: Effect.sync(nanos),
      monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe(),
      monotonicTimeNanos: real.monotonicTimeNanos,
      sleep: (duration) => real.sleep(duration)
    }
  }
}

/**
 * A file system of which a part of the operations fails with EIO: some before they are done, some after, and nobody is
 * told which.
 */
export const failingDisk = (
  real: FileSystem.FileSystem
): { readonly fileSystem: FileSystem.FileSystem; readonly set: (failing: number) => void } => {
  let failing = 0
  const broken = (method: string) =>
    Effect.fail(PlatformError.systemError({
      _tag: "Unknown",
      module: "FileSystem",
      method,
      cause: Object.assign(new Error("EIO: i/o error"), { code: "EIO", errno: -5 })
    }))
  const through = <A, E, R>(method: string, operation: Effect.Effect<A, E, R>) =>
    Effect.suspend(() => {
      if (Math.random() >= failing) return operation
      return Math.random() < 0.5 ? broken(method) : Effect.andThen(operation, broken(method))
    })
  const wrapped = { ...real }
  const methods = [
    ...["access", "exists", "link", "makeDirectory", "readDirectory", "readFile", "readFileString", "realPath"],
    ...["remove", "rename", "stat", "truncate", "utimes", "writeFile", "writeFileString"]
  ]
  for (const method of methods) {
    const call = (real as unknown as Record<string, unknown>)[method]
    if (typeof call !== "function") continue
    Object.assign(wrapped, {
      [method]: (...args: ReadonlyArray<unknown>) => through(method, call(...args) as Effect.Effect<unknown, unknown>)
    })
  }
  return {
    fileSystem: wrapped,
    set: (part) => {
      failing = part
    }
  }
}

/** Tells of every time that this process did not run for longer than a third of a second. */
export const watchStalls = (tell: (millis: number) => void): () => void => {
  const step = 50
  let last = hostTime()
  const timer = setInterval(() => {
    const now = hostTime()
    if (now - last > step + 300) tell(Math.round(now - last - step))
    last = now
  }, step)
  return () => clearInterval(timer)
}

/** What is open now; `since` says what has come on top, in words. */
export const openHandles = (): { readonly since: () => ReadonlyArray<string> } => {
  const count = () => {
    const counts = new Map<string, number>()
    const add = (what: string) => counts.set(what, (counts.get(what) ?? 0) + 1)
    for (const resource of process.getActiveResourcesInfo()) {
      // Timers come and go; one that stays keeps the process from ending, which is noticed.
      if (resource !== "Timeout" && resource !== "Immediate") add(resource)
    }
    for (const kind of fileDescriptors()) add(kind)
    return counts
  }
  // Whoever watches a file for the first time makes Node open what it never closes.
  watch(process.execPath).close()
  // A driver that looks at them for the first time makes Node open them.
  void [process.stdout, process.stderr]
  const before = count()
  return {
    since: () =>
      [...count()].flatMap(([what, now]) => {
        const more = now - (before.get(what) ?? 0)
        return more > 0 ? [`${more} more ${what} than at the beginning`] : []
      })
  }
}

const fileDescriptors = (): ReadonlyArray<string> => {
  try {
    return readdirSync("/proc/self/fd").map((fd) => {
      try {
        return `file descriptor (${readlinkSync(`/proc/self/fd/${fd}`).replace(/:?\[.*/, "")})`
      } catch {
        return "file descriptor (closed meanwhile)"
      }
    })
  } catch {
    // Only Linux tells.
    return []
  }
}

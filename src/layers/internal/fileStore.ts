/**
 * One lock directory as the file backend uses it, and the few steps that touch the disk.
 *
 * ```
 * <directory>/            0700, ours
 *   tmp/                  records being written; nothing in it means anything
 *   n-<namespace>/
 *     l-<key>/            one lock: see fileListing.ts for the names in it
 * ```
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import * as Scope from "effect/Scope"
import * as Lease from "../../Lease.ts"
import { Protocol } from "../../LockError.ts"
import { fileName } from "./encodedName.ts"
import { type FileFailure, isNotFound, isTaken } from "./fileFailure.ts"
import * as Listing from "./fileListing.ts"
import * as FileRecord from "./fileRecord.ts"
import type * as OwnerTurns from "./ownerTurns.ts"
import type { ProcessIdentity } from "./processIdentity.ts"
import type * as ReleasedTips from "./releasedTips.ts"
import type * as Sightings from "./sightings.ts"
import type * as Tombstones from "./tombstones.ts"

/** A lock directory in use; `granularity` of its mtimes in milliseconds. */
export interface FileStore {
  readonly fs: FileSystem.FileSystem
  readonly path: Path.Path
  readonly namespace: string
  readonly locks: string
  /** Makes what is missing of the directories, and looks at them again. */
  readonly prepare: Effect.Effect<void, FileFailure>
  readonly granularity: number
  readonly durable: boolean
  readonly self: ProcessIdentity
  /** A path in `tmp/` that nobody else uses. */
  readonly freshPath: () => string
  /** Of the layer; closed after the last lease was given back. */
  readonly scope: Scope.Scope
  readonly turns: OwnerTurns.OwnerTurns
  readonly dead: Tombstones.Tombstones
  readonly sightings: Sightings.Sightings
  readonly released: ReleasedTips.ReleasedTips
}

export const modes = { directory: 0o700, file: 0o600 } as const

/** The directory of one lock. */
export const directoryOf = (store: FileStore, key: string): Effect.Effect<string> =>
  Effect.map(fileName("l", key), (name) => store.path.join(store.locks, name))

/** The record of a grant. */
export const pathOf = (store: FileStore, directory: string, generation: string): string =>
  store.path.join(directory, Listing.recordName(generation))

/** The names in a lock's directory; none if it does not exist. */
export const list = (store: FileStore, directory: string): Effect.Effect<Listing.Listing, FileFailure> =>
  Effect.map(orElseMissing(store.fs.readDirectory(directory), []), Listing.parse)

/** A record's mtime in milliseconds, 0 if it is released; `undefined` if there is no such record. */
export const modified = (store: FileStore, path: string): Effect.Effect<number | undefined, FileFailure> =>
  Effect.flatMap(
    orElseMissing(store.fs.stat(path), undefined),
    (info) => info === undefined ? Effect.undefined : mtimeOf(info)
  )

/** A record's content and mtime, from one and the same file; `undefined` if there is no such record. */
export const read = (
  store: FileStore,
  path: string
): Effect.Effect<{ readonly text: string; readonly mtime: number } | undefined, FileFailure> => {
  const both = Effect.gen(function*() {
    const file = yield* store.fs.open(path, { flag: "r" })
    const mtime = yield* mtimeOf(yield* file.stat)
    const bytes = yield* file.readAlloc(FileRecord.longest)
    return { mtime, text: Option.isSome(bytes) ? new TextDecoder().decode(bytes.value) : "" }
  })
  return orElseMissing(Effect.scoped(both), undefined)
}

/**
 * Sets a record's mtime to a time of Effect's clock; false if there is no such record.
 *
 * Half a millisecond is added, because the way through floating-point seconds would else lose the last one.
 */
export const touch = (store: FileStore, path: string, millis: number): Effect.Effect<boolean, FileFailure> => {
  const seconds = (Math.floor(millis) + 0.5) / 1000
  return orElseMissing(Effect.as(store.fs.utimes(path, seconds, seconds), true), false)
}

/**
 * Marks a record released: its lock is free. Only for a record whose owner id has ended its trust.
 *
 * Its atime stays the present, or cleaners of old files would take the record, and with it the fencing token, away.
 */
export const markReleased = (store: FileStore, path: string): Effect.Effect<boolean, FileFailure> =>
  Effect.flatMap(
    Clock.currentTimeMillis,
    (now) => orElseMissing(Effect.as(store.fs.utimes(path, now / 1000, 0), true), false)
  )

/**
 * Does what nobody waits for. It belongs to the layer, which ends when that has ended; and it can't be called back, as
 * no step on its way to the disk can.
 */
export const aside = (store: FileStore, self: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.asVoid(Effect.forkIn(self, store.scope, together))

/** Removes a file; nothing depends on its success. */
export const remove = (store: FileStore, path: string): Effect.Effect<void> => Effect.ignore(store.fs.remove(path))

/** Makes the names in a lock's directory, and its own, survive a crash of the machine; nothing unless `durable`. */
export const flush = (store: FileStore, directory: string): Effect.Effect<void, FileFailure> =>
  store.durable ? Effect.andThen(sync(store, directory), sync(store, store.locks)) : Effect.void

/** Flushes a directory, or with `r+` a file, to the disk. */
export const sync = (
  store: Pick<FileStore, "fs">,
  path: string,
  flag: "r" | "r+" = "r"
): Effect.Effect<void, FileFailure> => Effect.scoped(Effect.flatMap(store.fs.open(path, { flag }), (file) => file.sync))

/**
 * Makes `text` the record of `generation`, with the present as its mtime, and answers what `then` does; false if another
 * was there before.
 *
 * The record is written under another name and linked: content and exclusivity appear together. Its mtime is set at the
 * same time, because the one that writing leaves is the kernel's coarse time, milliseconds older than the clock's, or
 * that of another clock. Whoever judges the record over by that is found out as with invariant 3: `then` begins only
 * when both steps have ended, so the mtime was written before the directory is read.
 *
 * Where grants are flushed, the mtime is part of what is.
 */
export const create = <A>(
  store: FileStore,
  directory: string,
  generation: string,
  text: string,
  then: Effect.Effect<A, FileFailure>
): Effect.Effect<A | false, FileFailure> =>
  Effect.suspend(() => {
    const temporary = store.freshPath()
    const path = pathOf(store, directory, generation)
    const opened = Scope.makeUnsafe()
    const link = orElseBeaten(Effect.as(store.fs.link(temporary, path), true))
    const touched = Effect.flatMap(Clock.currentTimeMillis, (now) => touch(store, temporary, now))
    const linked = Effect.flatMap(
      orElsePrepare(store, Scope.provide(store.fs.open(temporary, { flag: "wx", mode: modes.file }), opened)),
      (file) =>
        Effect.andThen(
          file.writeAll(utf8.encode(text)),
          store.durable
            ? Effect.andThen(touched, Effect.andThen(file.sync, link))
            : linkedAndTouched(store, path, link, touched)
        )
    )
    const tidied = aside(store, Effect.andThen(Scope.close(opened, Exit.void), remove(store, temporary)))
    return Effect.matchCauseEffect(linked, {
      onFailure: (cause) => Effect.andThen(tidied, Effect.failCause(cause)),
      onSuccess: (isOurs) => {
        const next: Effect.Effect<A | false, FileFailure> = isOurs ? then : Effect.succeed(false)
        return Effect.andThen(tidied, next)
      }
    })
  })

const utf8 = new TextEncoder()

// A record without its mtime is nobody's: it is taken away again.
const linkedAndTouched = (
  store: FileStore,
  path: string,
  link: Effect.Effect<boolean, FileFailure>,
  touched: Effect.Effect<boolean, FileFailure>
): Effect.Effect<boolean, FileFailure> =>
  Effect.flatMap(beside(link, Effect.exit(touched)), ([isLinked, touching]) => {
    if (!isLinked || (touching._tag === "Success" && touching.value)) return Effect.succeed(isLinked)
    return Effect.andThen(remove(store, path), Effect.as(touching, false))
  })

/**
 * Makes a lock's directory, with `text` as its first record; false if another made it before.
 *
 * A directory with the record in it is renamed into place: renaming replaces an empty directory and fails on any other,
 * so a directory with entries always has had a record, and its first generation is taken by one process only.
 */
export const createFirst = (
  store: FileStore,
  directory: string,
  generation: string,
  text: string
): Effect.Effect<boolean, FileFailure> => {
  const temporary = store.freshPath()
  const rename = Effect.gen(function*() {
    yield* orElsePrepare(store, store.fs.makeDirectory(temporary, { mode: modes.directory }))
    yield* write(store, pathOf(store, temporary, generation), text)
    if (store.durable) yield* sync(store, temporary)
    return yield* orElseBeaten(orElsePrepare(store, Effect.as(store.fs.rename(temporary, directory), true)))
  })
  // What is left of it after a failure is renamed away or still there; both are well.
  return Effect.onExit(
    rename,
    (exit) => exit._tag === "Success" && exit.value ? Effect.void : removeAll(store, temporary)
  )
}

/** Creates an empty mark beside the records; true also if it was there. */
export const mark = (store: FileStore, path: string): Effect.Effect<boolean, FileFailure> =>
  Effect.catch(
    Effect.as(store.fs.writeFileString(path, "", { flag: "wx", mode: modes.file }), true),
    (failure) =>
      isTaken(failure) ? Effect.succeed(true) : isNotFound(failure) ? Effect.succeed(false) : Effect.fail(failure)
  )

/**
 * Does both at the same time, and ends when both have: a step that is on its way to the disk can't be called back. Must
 * run uninterruptibly.
 */
export const beside = <A, E, B, E2>(
  self: Effect.Effect<A, E>,
  other: Effect.Effect<B, E2>
): Effect.Effect<readonly [A, B], E | E2> =>
  Effect.flatMap(
    Effect.forkChild(other, together),
    (fiber) =>
      Effect.flatMap(Effect.exit(self), (mine) =>
        Effect.flatMap(Fiber.await(fiber), (others): Exit.Exit<readonly [A, B], E | E2> => {
          if (Exit.isFailure(mine)) {
            return Exit.failCause(mine.cause)
          }
          return Exit.map(others, (value) =>
            [mine.value, value] as const)
        }))
  )

const together = { startImmediately: true, uninterruptible: true } as const

/** Both local clocks. */
export const stamp: Effect.Effect<Lease.Stamp> = Effect.clockWith((clock) => Effect.succeed(Lease.stamp(clock)))

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const write = (store: FileStore, path: string, text: string): Effect.Effect<void, FileFailure> =>
  Effect.gen(function*() {
    yield* orElsePrepare(store, store.fs.writeFileString(path, text, { flag: "wx", mode: modes.file }))
    yield* touch(store, path, yield* Clock.currentTimeMillis)
    if (store.durable) yield* sync(store, path, "r+")
  })

const removeAll = (store: FileStore, path: string): Effect.Effect<void> =>
  Effect.ignore(Effect.suspend(() => store.fs.remove(path, { recursive: true, force: true })))

const mtimeOf = (info: FileSystem.File.Info): Effect.Effect<number, Protocol> =>
  Option.isSome(info.mtime)
    ? Effect.succeed(info.mtime.value.getTime())
    : Effect.fail(new Protocol({ detail: "the file system reports no modification times" }))

/** `missing` where nothing is there. */
export const orElseMissing = <A, B>(
  self: Effect.Effect<A, FileFailure>,
  missing: B
): Effect.Effect<A | B, FileFailure> =>
  Effect.catch(
    self,
    (failure): Effect.Effect<B, FileFailure> => isNotFound(failure) ? Effect.succeed(missing) : Effect.fail(failure)
  )

// Also when what was to be linked or renamed is gone: it was old enough to be collected.
const orElseBeaten = (self: Effect.Effect<boolean, FileFailure>): Effect.Effect<boolean, FileFailure> =>
  Effect.catch(
    self,
    (failure) => isTaken(failure) || isNotFound(failure) ? Effect.succeed(false) : Effect.fail(failure)
  )

// Directories are made when they are found missing, not looked for each time.
const orElsePrepare = <A>(store: FileStore, self: Effect.Effect<A, FileFailure>): Effect.Effect<A, FileFailure> =>
  Effect.catch(self, (failure) => isNotFound(failure) ? Effect.andThen(store.prepare, self) : Effect.fail(failure))

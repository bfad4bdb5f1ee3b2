/**
 * The lock directory: made if it is missing, refused if it can't be trusted or if its file system can't carry locks.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import * as Result from "effect/Result"
import { Misconfigured, type Unauthorized } from "../../LockError.ts"
import { fileName } from "./encodedName.ts"
import { type FileFailure, isNotFound, isTaken } from "./fileFailure.ts"
import { modes, sync } from "./fileStore.ts"

/** A directory to be, and how its file system is reached. */
export interface Wanted {
  readonly fs: FileSystem.FileSystem
  readonly path: Path.Path
  readonly directory: string
  readonly namespace: string
  readonly durable: boolean
}

/** The directories in it. */
export interface Places {
  readonly root: string
  readonly locks: string
  readonly temporary: string
}

/** Effect's clock and the file system's may differ by this much, in milliseconds. */
export const mostDifference = 60_000

/** Temporary files older than this are nobody's, in milliseconds: what is written is linked at once. */
export const temporaryLife = 600_000

/** Where everything is. */
export const placesOf = ({ directory, namespace, path }: Wanted): Effect.Effect<Places> =>
  Effect.map(fileName("n", namespace), (name) => {
    const root = path.resolve(directory)
    return { root, locks: path.join(root, name), temporary: path.join(root, "tmp") }
  })

/**
 * Makes the directories that are missing, 0700, and refuses any that somebody else could write to: whoever can put a
 * record or a symbolic link there decides who holds a lock.
 */
export const prepare = (wanted: Wanted, places: Places): Effect.Effect<void, FileFailure> =>
  Effect.gen(function*() {
    const { fs } = wanted
    for (const directory of [places.root, places.temporary, places.locks]) {
      yield* Effect.catch(
        fs.makeDirectory(directory, { recursive: true, mode: modes.directory }),
        // Something is there; what it is gets looked at next.
        (failure) => isTaken(failure) ? Effect.void : Effect.fail(failure)
      )
      yield* checkDirectory(wanted, directory)
    }
    if (!wanted.durable) return
    for (const directory of [wanted.path.dirname(places.root), places.root]) yield* sync(wanted, directory)
  })

/**
 * Finds out, with files of its own, whether the file system can carry locks: hard links that are exclusive, mtimes that
 * can be set, its time close to Effect's. Answers the granularity of its mtimes in milliseconds.
 */
export const examine = (wanted: Wanted, places: Places, probe: string): Effect.Effect<number, FileFailure> => {
  const { fs } = wanted
  const link = `${probe}-link`
  const examination = Effect.gen(function*() {
    const from = yield* Clock.currentTimeMillis
    yield* fs.writeFileString(probe, "", { flag: "wx", mode: modes.file })
    const until = yield* Clock.currentTimeMillis
    const made = yield* fs.stat(probe)
    yield* checkOwner(wanted, places, made)
    const written = mtimeOf(made)
    if (!(written >= from - mostDifference && written <= until + mostDifference)) {
      const difference = Duration.format(Duration.millis(Math.abs(written - until)))
      return yield* misconfigured(
        `the time of ${places.root}'s file system differs from Effect's clock by ${difference}, and a lease's last `
          + "renewal is kept there as a file's mtime. Set the clocks of both machines; a test on virtual time sets it to "
          + "the present first (TestClock.setTime)."
      )
    }
    const granularity = yield* measure(wanted, probe, until)
    yield* checkLinks(wanted, probe, link)
    return granularity
  })
  const tidy = Effect.andThen(Effect.ignore(fs.remove(link, { force: true })), Effect.ignore(fs.remove(probe)))
  return Effect.ensuring(examination, tidy)
}

/** Removes temporary files whose writers died before they could. One that is slow instead writes again. */
export const collectTemporary = ({ fs, path }: Wanted, { temporary }: Places): Effect.Effect<void> =>
  Effect.gen(function*() {
    const now = yield* Clock.currentTimeMillis
    for (const name of yield* fs.readDirectory(temporary)) {
      const file = path.join(temporary, name)
      const info = yield* Effect.option(fs.stat(file))
      if (Option.isNone(info) || !(now - lastTouched(info.value) > temporaryLife)) continue
      yield* Effect.ignore(fs.remove(file, { recursive: true, force: true }))
    }
  }).pipe(Effect.ignore)

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const misconfigured = (detail: string): Effect.Effect<never, Misconfigured> =>
  Effect.fail(new Misconfigured({ detail }))

const mtimeOf = (info: FileSystem.File.Info): number =>
  Option.match(info.mtime, { onNone: () => NaN, onSome: (mtime) => mtime.getTime() })

// Who measures the directory's times sets an mtime of its own choice, and leaves the atime at the present.
const lastTouched = (info: FileSystem.File.Info): number =>
  Math.max(mtimeOf(info), Option.match(info.atime, { onNone: () => 0, onSome: (atime) => atime.getTime() }))

const writableByOthers = 0o022

const checkDirectory = ({ fs, path }: Wanted, directory: string): Effect.Effect<void, FileFailure> =>
  Effect.gen(function*() {
    const info = yield* fs.lstat(directory)
    if (info.type === "SymbolicLink") {
      return yield* misconfigured(`${directory} is a symbolic link, which may be turned elsewhere: name its target`)
    }
    if (info.type !== "Directory") {
      return yield* misconfigured(`${directory} is not a directory: remove it, or name another`)
    }
    // Windows has no such modes; what Node reports there means nothing.
    if (path.sep === "/" && (info.mode & writableByOthers) !== 0) {
      const mode = (info.mode & 0o777).toString(8)
      return yield* misconfigured(
        `${directory} can be written by others (mode ${mode}): chmod 700 it, or name a directory of its own in it`
      )
    }
  })

// Whose a new file is, is who we are; on systems without owners both are unknown or 0.
const checkOwner = (
  { fs }: Wanted,
  { locks, root, temporary }: Places,
  made: FileSystem.File.Info
): Effect.Effect<void, FileFailure | Unauthorized> =>
  Effect.gen(function*() {
    for (const directory of [root, temporary, locks]) {
      const { uid } = yield* fs.lstat(directory)
      if (Option.isSome(uid) && Option.isSome(made.uid) && uid.value !== made.uid.value) {
        return yield* misconfigured(
          `${directory} belongs to user ${uid.value}, and this process is user ${made.uid.value}: chown it, or name `
            + "another directory. Processes that share locks run as one user."
        )
      }
    }
  })

/** Times whose rounding to 1, 10, 100, 1000 or 2000 ms, down or up, shows; offsets from a multiple of 2 s. */
const residues = [1, 1999]

const measure = ({ fs }: Wanted, probe: string, now: number): Effect.Effect<number, FileFailure> =>
  Effect.gen(function*() {
    let granularity = 1
    for (const residue of residues) {
      const set = Math.floor(now / 2000) * 2000 + residue
      yield* fs.utimes(probe, (set + 0.5) / 1000, (set + 0.5) / 1000)
      granularity = Math.max(granularity, Math.abs(mtimeOf(yield* fs.stat(probe)) - set) + 1)
    }
    yield* fs.utimes(probe, now / 1000, 0)
    const zero = mtimeOf(yield* fs.stat(probe))
    if (zero === 0 && granularity <= 2000) return granularity
    return yield* misconfigured(
      "the file system does not keep modification times as they are set: choose a local one (ext4, xfs, btrfs, APFS, "
        + "NTFS, tmpfs)"
    )
  })

const checkLinks = ({ fs }: Wanted, probe: string, link: string): Effect.Effect<void, FileFailure> =>
  Effect.gen(function*() {
    const first = yield* Effect.result(fs.link(probe, link))
    const second = yield* Effect.result(fs.link(probe, link))
    if (Result.isSuccess(first) && Result.isFailure(second) && isTaken(second.failure)) return
    if (Result.isFailure(first) && isNotFound(first.failure)) return yield* first.failure
    return yield* misconfigured(
      "the file system has no hard links, or does not refuse one whose name is there, and a lock is taken by making "
        + "one: choose a local file system (ext4, xfs, btrfs, APFS, NTFS, tmpfs)"
    )
  })

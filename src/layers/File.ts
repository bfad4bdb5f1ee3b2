/**
 * Locks in a directory, for the processes of one machine: no server, and a holder that was killed is found dead at once.
 *
 * A lock is a directory of generations, each a file made by `link()`; `internal/fileChain.ts` says why that excludes.
 * File system and paths are Effect's own services: provide `NodeServices.layer` of `@effect/platform-node`, or another
 * platform's.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as LockBackend from "../LockBackend.ts"
import { type LockBackendError, Misconfigured } from "../LockError.ts"
import * as LockOptions from "../LockOptions.ts"
import { decode, encode, fileName } from "./internal/encodedName.ts"
import * as Chain from "./internal/fileChain.ts"
import * as Directory from "./internal/fileDirectory.ts"
import { type FileFailure, toBackendError } from "./internal/fileFailure.ts"
import * as Grant from "./internal/fileGrant.ts"
import { directoryOf, type FileStore, list, orElseMissing, stamp } from "./internal/fileStore.ts"
import * as Verdict from "./internal/fileVerdict.ts"
import { awaitTurn } from "./internal/fileWatch.ts"
import * as OwnerTurns from "./internal/ownerTurns.ts"
import * as ProcessIdentity from "./internal/processIdentity.ts"
import * as ReleasedTips from "./internal/releasedTips.ts"
import * as Sightings from "./internal/sightings.ts"
import * as Tombstones from "./internal/tombstones.ts"

// -----------------------------------------------------------------------------
// options
// -----------------------------------------------------------------------------

/**
 * Options of the file backend.
 *
 * **Details**
 *
 * - `directory`: where the locks are. Made with mode 0700 if it is missing. Refused if it is a symbolic link, if others
 *   can write to it, or if it belongs to another user. It must be on a local file system with hard links, and nothing
 *   may clean it up.
 * - `namespace`: keeps applications apart that share a directory. Default `""`.
 * - `durable`: every grant is flushed to the disk before it is given, so that fencing tokens grow across power failures
 *   too. Default `false`; costs about what the disk's flushes cost.
 * - `defaults`: option defaults of every lock of this backend; a call's own options and `LockDefaults` win.
 *
 * @category options
 */
export interface Options {
  readonly directory: string
  readonly namespace?: string | undefined
  readonly durable?: boolean | undefined
  readonly defaults?: LockOptions.LockOptions | undefined
}

/**
 * The part of the options that can come from configuration.
 *
 * @category options
 */
export interface ConfigOptions extends Omit<Options, "defaults"> {
  readonly defaults?: Omit<LockOptions.LockOptions, "schedule"> | undefined
}

// -----------------------------------------------------------------------------
// layers
// -----------------------------------------------------------------------------

/**
 * Locks in a directory.
 *
 * **When to use**
 *
 * Processes of one machine, run by one user, that have a disk in common and no server.
 *
 * **Details**
 *
 * A holder that was killed is replaced at once, whatever its ttl, if that can be proven: it ran since the same boot, in
 * the same pid namespace, and `/proc` says that it is gone. Where there is no `/proc`, a dead holder's lease ends by
 * its ttl, and so it does for a process in another container.
 *
 * Fails with `Misconfigured` or `Unauthorized` if the directory can't carry locks.
 *
 * **Gotchas**
 *
 * - Not for network file systems (NFS, SMB): their caches break the protocol. Not for several machines.
 * - Leases are timed by the machine's wall clock. If it is set forward, leases end early: their holders find out by the
 *   same clock.
 * - Who deletes the directory while locks are held, takes them away: each holder loses its lease at its next renewal.
 *   Fencing tokens grow over that, unless the clock is set back too.
 * - Each key leaves a small directory for good: it keeps the fencing token. Don't make keys of unbounded variety.
 *
 * @category layers
 */
export const layer = (
  options: Options
): Layer.Layer<LockBackend.LockBackend, LockBackendError, FileSystem.FileSystem | Path.Path> =>
  Layer.effect(LockBackend.LockBackend, make(options))

/**
 * Locks in a directory, with options from configuration.
 *
 * @category layers
 */
export const layerConfig = (
  options: Config.Wrap<ConfigOptions>
): Layer.Layer<
  LockBackend.LockBackend,
  LockBackendError | Config.ConfigError,
  FileSystem.FileSystem | Path.Path
> => Layer.effect(LockBackend.LockBackend, Effect.flatMap(Config.unwrap(options), make))

/**
 * Makes the backend itself, for a tag of your own (`Lock.on`).
 *
 * @category constructors
 */
export const make = (
  options: Options
): Effect.Effect<
  LockBackend.LockBackend["Service"],
  LockBackendError,
  FileSystem.FileSystem | Path.Path | Scope.Scope
> =>
  Effect.flatMap(
    Effect.mapError(open(options), toBackendError("build")),
    (store) => LockBackend.LockBackend.make(implementation(store, options))
  )

// -----------------------------------------------------------------------------
// implementation
// -----------------------------------------------------------------------------

const open = (
  options: Options
): Effect.Effect<FileStore, FileFailure, FileSystem.FileSystem | Path.Path | Scope.Scope> =>
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    yield* checkNames(options)
    const { directory, durable = false, namespace = "" } = options
    const wanted: Directory.Wanted = { fs, path, directory, namespace, durable }
    const places = yield* Directory.placesOf(wanted)
    yield* Directory.prepare(wanted, places)
    const instance = Hex.encode(globalThis.crypto.getRandomValues(new Uint8Array(12)))
    let files = 0
    const freshPath = () => path.join(places.temporary, `${instance}-${++files}`)
    const granularity = yield* Directory.examine(wanted, places, freshPath())
    yield* checkDefaults(options, granularity)
    yield* Directory.collectTemporary(wanted, places)
    return {
      fs,
      path,
      namespace,
      durable,
      locks: places.locks,
      prepare: Directory.prepare(wanted, places),
      granularity,
      freshPath,
      scope: yield* Scope.fork(yield* Effect.scope),
      self: yield* ProcessIdentity.current(fs),
      turns: OwnerTurns.make(),
      dead: Tombstones.make(),
      sightings: Sightings.make(),
      released: ReleasedTips.make()
    }
  })

const checkNames = ({ directory, namespace = "" }: Options): Effect.Effect<void, Misconfigured> => {
  if (typeof directory !== "string" || directory === "" || directory.includes("\0")) {
    return Effect.fail(new Misconfigured({ detail: "directory must be a path, such as \"/var/lib/app/locks\"" }))
  }
  const invalid = LockOptions.invalidNamespace(namespace)
  return invalid === undefined ? Effect.void : Effect.fail(new Misconfigured({ detail: invalid.message }))
}

const checkDefaults = ({ defaults }: Options, granularity: number): Effect.Effect<void, Misconfigured> => {
  const resolved = LockOptions.resolve({ minTtl: minTtl(granularity), granularity }, undefined, undefined, defaults)
  return Result.isSuccess(resolved)
    ? Effect.void
    : Effect.fail(new Misconfigured({ detail: `the layer's defaults: ${resolved.failure.message}` }))
}

const minTtl = (granularity: number): number => Math.max(100, 4 * granularity)

const capabilities = ({ durable, granularity }: FileStore): LockBackend.Capabilities => ({
  minTtl: Duration.millis(minTtl(granularity)),
  ttlGranularity: Duration.millis(granularity),
  fencing: durable
    ? { grade: "strict" }
    : {
      grade: "conditional",
      condition: "tokens grow while the lock directory keeps its files: a crash of the whole machine may undo what was "
        + "not on the disk yet (durable: true flushes it)"
    },
  fair: false,
  // Within the process that released it, a late attempt is refused; another process is not told.
  lateWrites: "untilTtl",
  drain: true
})

const implementation = (store: FileStore, options: Options): LockBackend.Implementation => ({
  name: "file",
  capabilities: capabilities(store),
  defaults: options.defaults,
  tryAcquire: (request) => Effect.mapError(tryAcquire(store, request), toBackendError("acquire", request.key)),
  renew: (request) =>
    Effect.mapError(
      OwnerTurns.run(store.turns, request.ownerId, (turn) => Grant.renew(store, request, turn)),
      toBackendError("renew", request.key)
    ),
  release: (request) => Effect.mapError(release(store, request), toBackendError("release", request.key)),
  inspect: ({ key }) =>
    Effect.mapError(
      Effect.flatMap(directoryOf(store, key), (directory) => heldIn(store, directory, key)),
      toBackendError("inspect", key)
    ).pipe(Effect.map((held) => held === undefined ? [] : [held.holder])),
  awaitTurn: ({ key }) => Effect.mapError(awaitTurn(store, key), toBackendError("awaitTurn", key)),
  list: (keyPrefix) => Stream.mapError(heldKeys(store, keyPrefix), toBackendError("list")),
  break: (request) =>
    Effect.mapError(Effect.uninterruptible(Grant.breakLock(store, request)), toBackendError("break", request.key))
})

const tryAcquire = (
  store: FileStore,
  request: LockBackend.AcquireRequest
): Effect.Effect<LockBackend.Acquired | LockBackend.Held, FileFailure> =>
  Effect.map(
    OwnerTurns.run(
      store.turns,
      request.ownerId,
      (turn) =>
        Effect.flatMap(stamp, ({ monotonic }) => {
          if (Tombstones.has(store.dead, request.ownerId, monotonic)) turn.givenUp = true
          return Chain.acquire(store, request, turn)
        }),
      (attempt) => Chain.undo(store, request.key, attempt)
    ),
    ({ answer }) => answer
  )

const release = (
  store: FileStore,
  request: LockBackend.ReleaseRequest
): Effect.Effect<"Released" | "NotHeld", FileFailure> =>
  Effect.flatMap(stamp, ({ monotonic }) => {
    OwnerTurns.giveUp(store.turns, request.ownerId)
    Tombstones.add(store.dead, request.ownerId, !request.unanswered, monotonic)
    return OwnerTurns.run(store.turns, request.ownerId, () => Grant.release(store, request))
  })

const heldIn = (
  store: FileStore,
  directory: string,
  key: string | undefined
): Effect.Effect<Verdict.Held | undefined, FileFailure> =>
  Effect.gen(function*() {
    for (let round = 0; round < mostLooks; round++) {
      const listing = yield* list(store, directory)
      const verdict = yield* Verdict.judge(store, { directory, listing, key }, 0)
      if (verdict._tag === "Held") return verdict
      if (verdict._tag === "Free") return undefined
    }
    // It changes hands faster than one can look.
    return undefined
  })

const mostLooks = 16

// A short key's directory names it; a long one's is a hash, and the record names it. A record that can't be read, under
// a hash, is the lock of a key that nobody can tell: it is left out.
const heldKeys = (store: FileStore, keyPrefix: string): Stream.Stream<LockBackend.HeldKey, FileFailure> =>
  Stream.fromIterableEffect(orElseMissing(store.fs.readDirectory(store.locks), [])).pipe(
    Stream.filter((name) => name.startsWith("lh-") || name.startsWith(`l-${encode(keyPrefix)}`)),
    Stream.mapEffect((name) =>
      Effect.gen(function*() {
        const key = name.startsWith("l-") ? decode(name.slice(2)) : undefined
        const held = yield* heldIn(store, store.path.join(store.locks, name), key)
        const named = key ?? held?.record?.key
        if (held === undefined || named === undefined || !named.startsWith(keyPrefix)) return []
        return (yield* fileName("l", named)) === name ? [{ key: named, holders: [held.holder] }] : []
      })
    ),
    Stream.flattenIterable
  )

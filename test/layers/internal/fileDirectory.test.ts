import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, type FileSystem, Option } from "effect"
import { TestClock } from "effect/testing"
import { temporaryLife } from "../../../src/layers/internal/fileDirectory.ts"
import type { LockBackendError } from "../../../src/LockError.ts"
import { disk, failing, failure, freshDirectory, open, type Options, present, settled } from "./diskLocks.ts"

const refused = (directory: string, options?: Options) =>
  Effect.map(Effect.flip(open(directory, options)), (error: LockBackendError) => {
    assert.strictEqual(error.operation, "build")
    return `${error.reason._tag}: ${error.reason.detail}`
  })

const permissions = (path: string) =>
  Effect.flatMap(disk, (fs) => Effect.map(fs.stat(path), ({ mode }) => (mode & 0o777).toString(8)))

/** Sees files otherwise than they are. */
const seeing = (change: (info: FileSystem.File.Info, path: string) => FileSystem.File.Info) => ({
  fs: (real: FileSystem.FileSystem): FileSystem.FileSystem => ({
    ...real,
    stat: (path) => Effect.map(real.stat(path), (info) => change(info, path)),
    lstat: (path) => Effect.map(real.lstat(path), (info) => change(info, path))
  })
})

describe("the lock directory", () => {
  it.live("is made for its owner alone, and so is everything in it", () =>
    Effect.gen(function*() {
      const fs = yield* disk
      const directory = `${yield* freshDirectory}/deep/er`
      const { release, tryAcquire } = yield* open(directory, { namespace: "Acme" })
      const grant = yield* tryAcquire("a")
      assert(grant._tag === "Acquired")
      for (const path of ["", "/tmp", "/n-%41cme", "/n-%41cme/l-k"]) {
        assert.strictEqual(yield* permissions(directory + path), "700", path)
      }
      const [record] = yield* fs.readDirectory(`${directory}/n-%41cme/l-k`)
      assert.strictEqual(yield* permissions(`${directory}/n-%41cme/l-k/${record}`), "600")
      yield* release("a", grant.handle)
      assert.strictEqual((yield* tryAcquire("b"))._tag, "Acquired")
      assert.deepStrictEqual(yield* settled(`${directory}/tmp`, ({ length }) => length === 0), [])
    }))

  it.live("is refused if it is a symbolic link, and so is one in it", () =>
    Effect.gen(function*() {
      const fs = yield* disk
      const directory = yield* freshDirectory
      yield* fs.makeDirectory(`${directory}-real`, { mode: 0o700 })
      yield* fs.symlink(`${directory}-real`, directory)
      assert.match(yield* refused(directory), /Misconfigured: .* is a symbolic link/)
      assert.match(yield* refused(`${directory}/`), /Misconfigured: .* is a symbolic link/)
      yield* fs.makeDirectory(`${directory}-else`)
      yield* fs.symlink(`${directory}-else`, `${directory}-real/n-`)
      assert.match(yield* refused(`${directory}-real`), /n- is a symbolic link/)
    }))

  it.live("is refused if others can write to it", () =>
    Effect.gen(function*() {
      const fs = yield* disk
      const directory = yield* freshDirectory
      yield* fs.makeDirectory(directory)
      for (const mode of [0o777, 0o1777, 0o770, 0o702]) {
        yield* fs.chmod(directory, mode)
        assert.match(yield* refused(directory), /can be written by others .*chmod 700/)
      }
      yield* fs.chmod(directory, 0o755)
      yield* open(directory)
      yield* fs.chmod(`${directory}/tmp`, 0o777)
      assert.match(yield* refused(directory), /tmp can be written by others/)
    }))

  it.live("is refused if it is a file, or if there is none and none can be made", () =>
    Effect.gen(function*() {
      const fs = yield* disk
      const directory = yield* freshDirectory
      yield* fs.writeFileString(directory, "")
      assert.match(yield* refused(directory), /Misconfigured: .*is not a directory/)
      assert.match(yield* refused(`${directory}/in-it`), /Misconfigured: .*ENOTDIR/)
      const denied = failing((method) => method === "makeDirectory", failure("EACCES", "PermissionDenied"))
      assert.match(yield* refused(`${directory}-other`, denied), /Unauthorized: .*EACCES/)
    }))

  it.live("is refused if it belongs to another user", () =>
    Effect.gen(function*() {
      const directory = yield* freshDirectory
      const foreign = seeing((info, path) => path === directory ? { ...info, uid: Option.some(4711) } : info)
      assert.match(yield* refused(directory, foreign), /belongs to user 4711/)
    }))

  it.live("is refused without a path, or with a namespace that no lock could have", () =>
    Effect.gen(function*() {
      assert.match(yield* refused(""), /Misconfigured: directory/)
      assert.match(yield* refused("a\0b"), /Misconfigured: directory/)
      assert.match(yield* refused(yield* freshDirectory, { namespace: "a\nb" }), /Misconfigured: namespace/)
      assert.match(
        yield* refused(yield* freshDirectory, { defaults: { ttl: "10 seconds", renewEvery: "20 seconds" } }),
        /Misconfigured: the layer's defaults: renewEvery/
      )
    }))
})

describe("its file system", () => {
  it.effect("is refused if its time differs from Effect's clock by more than a minute", () =>
    Effect.gen(function*() {
      const directory = yield* freshDirectory
      assert.match(yield* refused(directory), /differs from Effect's clock by .*TestClock.setTime/)
      yield* present
      yield* TestClock.adjust("55 seconds")
      yield* open(directory)
      yield* TestClock.adjust("10 seconds")
      assert.match(yield* refused(directory), /differs from Effect's clock/)
    }))

  it.live("is refused without hard links, or with links that do not exclude", () =>
    Effect.gen(function*() {
      const directory = yield* freshDirectory
      const none = failing((method) => method === "link", failure("EPERM", "PermissionDenied"))
      assert.match(yield* refused(directory, none), /Misconfigured: .*no hard links.*ext4/)
      const sloppy = (real: FileSystem.FileSystem) => ({ ...real, link: () => Effect.void })
      assert.match(yield* refused(directory, { fs: sloppy }), /does not refuse one/)
      assert.deepStrictEqual(yield* (yield* disk).readDirectory(`${directory}/tmp`), [])
    }))

  it.live("gives its granularity to the safety margin and to the shortest ttl", () =>
    Effect.gen(function*() {
      const directory = yield* freshDirectory
      for (const [grain, minTtl] of [[1, 100], [10, 100], [100, 400], [1000, 4000], [2000, 8000]] as const) {
        for (const round of [Math.floor, Math.ceil]) {
          const coarse = seeing((info) => ({
            ...info,
            mtime: Option.map(info.mtime, (mtime) => new Date(round(mtime.getTime() / grain) * grain))
          }))
          const { capabilities } = (yield* open(directory, coarse)).service
          const measured = Duration.toMillis(capabilities.ttlGranularity)
          assert(measured >= grain && measured <= grain + 1, `${measured} of ${grain}`)
          assert.strictEqual(Duration.toMillis(capabilities.minTtl), Math.max(minTtl, 4 * measured))
        }
      }
    }))

  it.live("is refused if it does not keep the mtimes that are set", () =>
    Effect.gen(function*() {
      const directory = yield* freshDirectory
      const deaf = (real: FileSystem.FileSystem) => ({ ...real, utimes: () => Effect.void })
      assert.match(yield* refused(directory, { fs: deaf }), /does not keep modification times/)
    }))
})

describe("temporary files", () => {
  it.live("are collected when they are old, and only then", () =>
    Effect.gen(function*() {
      const fs = yield* disk
      const directory = yield* freshDirectory
      yield* open(directory)
      const old = (Date.now() - temporaryLife - 1000) / 1000
      const young = old + 60
      for (const [name, time] of [["old", old], ["young", young]] as const) {
        yield* fs.writeFileString(`${directory}/tmp/${name}`, "")
        yield* fs.utimes(`${directory}/tmp/${name}`, time, time)
        yield* fs.makeDirectory(`${directory}/tmp/${name}-directory`)
        yield* fs.writeFileString(`${directory}/tmp/${name}-directory/g1`, "")
        yield* fs.utimes(`${directory}/tmp/${name}-directory`, time, time)
      }
      yield* open(directory)
      assert.deepStrictEqual((yield* fs.readDirectory(`${directory}/tmp`)).sort(), ["young", "young-directory"])
    }))

  // Who opens the directory at the same time measures its times with a file whose mtime is one of its own choice.
  it.live("are not collected while they are in use, whatever their mtime", () =>
    Effect.gen(function*() {
      const fs = yield* disk
      const directory = yield* freshDirectory
      yield* open(directory)
      yield* fs.writeFileString(`${directory}/tmp/probe`, "")
      yield* fs.utimes(`${directory}/tmp/probe`, Date.now() / 1000, 0)
      yield* open(directory)
      assert.deepStrictEqual(yield* fs.readDirectory(`${directory}/tmp`), ["probe"])
    }))
})

/** What the laws can't ask: the disk under the file backend, and what happens when it is hostile or fails. */
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, FileSystem, Option, PlatformError } from "effect"
import { LockBackendError } from "effect-lock"
import * as File from "effect-lock/layers/File"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import { join, relative, sep } from "node:path"

const budget = Duration.seconds(5)
const ttl = Duration.seconds(30)

const temporary = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync("/tmp/effect-lock-disk-")),
  (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true, force: true }))
)

/** The present as virtual time, so that leases can be made to expire. */
const atPresent = Effect.andThen(
  TestClock.withLive(Effect.clockWith((clock) => clock.currentTimeMillis)),
  TestClock.setTime
)

type Service = Effect.Success<ReturnType<typeof File.make>>

const open = (directory: string, options: Partial<File.Options> = {}, disk?: FileSystem.FileSystem) => {
  const made = File.make({ directory, ...options })
  const onDisk = disk === undefined ? made : Effect.provideService(made, FileSystem.FileSystem, disk)
  return Effect.provide(onDisk, NodeServices.layer)
}

const tryAcquire = (backend: Service, ownerId: string, key = "k") =>
  backend.tryAcquire({ key, ownerId, ttl, metadata: {}, willWait: false, budget })

const isGranted = (backend: Service, ownerId: string, key = "k") =>
  Effect.map(tryAcquire(backend, ownerId, key), (reply) => reply._tag === "Acquired")

const grant = (backend: Service, ownerId: string, key = "k") =>
  Effect.map(tryAcquire(backend, ownerId, key), (reply) => {
    assert(reply._tag === "Acquired", `${key} is held`)
    return reply
  })

const release = (backend: Service, ownerId: string, key = "k") =>
  backend.release({ key, ownerId, handle: Option.none(), unanswered: true, budget })

const reasonOf = (error: unknown): string => error instanceof LockBackendError ? error.reason._tag : String(error)

const walk = (directory: string): Array<string> =>
  fs.readdirSync(directory, { recursive: true, withFileTypes: true }).map((entry) => join(entry.parentPath, entry.name))

const records = (directory: string) => walk(directory).filter((path) => /[/\\]g\d{16}$/.test(path)).sort()

const rewrite = (path: string, change: (text: string) => string, mtime: number) => {
  fs.writeFileSync(path, change(fs.readFileSync(path, "utf8")))
  fs.utimesSync(path, mtime / 1000, mtime / 1000)
}

const realDisk = Effect.provide(FileSystem.FileSystem, NodeServices.layer)

const systemError = (code: string, tag: "PermissionDenied" | "Unknown", method: string) =>
  PlatformError.systemError({
    _tag: tag,
    module: "FileSystem",
    method,
    pathOrDescriptor: "/locks",
    cause: Object.assign(new Error(code), { code })
  })

/** A disk on which these calls fail while `broken.code` is set. */
const breakable = Effect.map(realDisk, (real) => {
  const broken: { code: string | undefined; tag: "PermissionDenied" | "Unknown" } = { code: undefined, tag: "Unknown" }
  const or =
    <A extends Array<never>, B>(method: string, call: (...args: A) => Effect.Effect<B, PlatformError.PlatformError>) =>
    (...args: A) =>
      Effect.suspend(() =>
        broken.code === undefined ? call(...args) : Effect.fail(systemError(broken.code, broken.tag, method))
      )
  const disk: FileSystem.FileSystem = {
    ...real,
    link: or("link", real.link as never) as typeof real.link,
    rename: or("rename", real.rename as never) as typeof real.rename,
    utimes: or("utimes", real.utimes as never) as typeof real.utimes,
    writeFileString: or("writeFileString", real.writeFileString as never) as typeof real.writeFileString,
    makeDirectory: or("makeDirectory", real.makeDirectory as never) as typeof real.makeDirectory
  }
  return { disk, broken }
})

describe("the lock directory", () => {
  it.live("is made with mode 0700, what is in it with 0700 and 0600", () =>
    Effect.gen(function*() {
      const directory = join(yield* temporary, "a", "b")
      const backend = yield* open(directory)
      yield* grant(backend, "one")
      assert.strictEqual(fs.statSync(directory).mode & 0o777, 0o700)
      for (const path of walk(directory)) {
        const info = fs.statSync(path)
        assert.strictEqual(info.mode & 0o777, info.isDirectory() ? 0o700 : 0o600, relative(directory, path))
      }
    }))

  it.live("is refused if it is a symbolic link, no directory, or others can write to it", () =>
    Effect.gen(function*() {
      const root = yield* temporary
      fs.mkdirSync(join(root, "real"), { mode: 0o700 })
      fs.symlinkSync(join(root, "real"), join(root, "link"))
      fs.writeFileSync(join(root, "file"), "")
      fs.mkdirSync(join(root, "open"))
      fs.chmodSync(join(root, "open"), 0o777)
      for (const name of ["link", "file", "open"]) {
        const error = yield* Effect.flip(open(join(root, name)))
        assert.strictEqual(reasonOf(error), "Misconfigured", name)
        assert.include(error.message, join(root, name))
      }
      assert.deepStrictEqual(fs.readdirSync(join(root, "real")), [])
    }))

  it.live("is refused if it is empty or holds a NUL", () =>
    Effect.gen(function*() {
      for (const directory of ["", "a\0b"]) {
        assert.strictEqual(reasonOf(yield* Effect.flip(open(directory))), "Misconfigured")
      }
    }))

  it.effect("is refused if its file system's time is more than a minute from Effect's", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const error = yield* Effect.flip(open(directory))
      assert.strictEqual(reasonOf(error), "Misconfigured")
      assert.include(error.message, "TestClock.setTime")
    }))

  it.live("keeps no temporary file, also not of a writer that died long ago", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      fs.mkdirSync(join(directory, "tmp"), { mode: 0o700 })
      const old = join(directory, "tmp", "left-over")
      fs.writeFileSync(old, "", { mode: 0o600 })
      const longAgo = Date.now() / 1000 - 3600
      fs.utimesSync(old, longAgo, longAgo)
      const backend = yield* open(directory)
      for (let i = 0; i < 5; i++) {
        yield* grant(backend, `owner-${i}`)
        yield* release(backend, `owner-${i}`)
      }
      assert.deepStrictEqual(fs.readdirSync(join(directory, "tmp")), [])
      assert.isAtMost(records(directory).length, 2)
    }))

  it.live("takes no name out of itself, and no two keys to one place, also where case does not count", () =>
    Effect.gen(function*() {
      const root = yield* temporary
      const directory = join(root, "locks")
      const backend = yield* open(directory)
      const keys = [
        "..",
        "../../etc/passwd",
        "/abs",
        "a/../b",
        ".",
        "a",
        "A",
        "a.",
        "a ",
        "-a",
        "job.1",
        "job.2",
        "C:\\x",
        "CON",
        "nul.txt",
        "%2e%2e",
        "%",
        "é",
        "e\u0301",
        "ß",
        "SS",
        "İ",
        "\u202e",
        "👩‍👩‍👧",
        "__proto__",
        "$(id)",
        "';DROP",
        "x:fence",
        "l-a",
        "lh-",
        "g0000000000000001",
        "tmp",
        "k".repeat(512),
        `${"k".repeat(511)}l`
      ]
      for (const key of keys) yield* grant(backend, "one", key)
      assert.deepStrictEqual(fs.readdirSync(root), ["locks"])
      const places = records(directory).map((path) => relative(directory, path))
      assert.strictEqual(new Set(places.map((path) => path.toLowerCase())).size, keys.length)
      for (const path of places) {
        assert.match(path, /^n-[^/\\]*[/\\]lh?-[a-z0-9_%A-F-]+[/\\]g\d{16}$/)
        assert.isTrue(path.split(sep).every((part) => part.length <= 255 && part !== ".."))
      }
    }))
})

describe("a disk that fails", () => {
  const failures = [
    ["ENOSPC", "Unknown", "Misconfigured"],
    ["EROFS", "Unknown", "Misconfigured"],
    ["EACCES", "PermissionDenied", "Unauthorized"],
    ["EIO", "Unknown", "Unreachable"],
    ["EMFILE", "Unknown", "Throttled"]
  ] as const
  for (const [code, tag, reason] of failures) {
    it.live(`${code} is ${reason}: nobody's lock is taken, and all goes on when it is over`, () =>
      Effect.gen(function*() {
        const directory = yield* temporary
        const healthy = yield* open(directory)
        const { broken, disk } = yield* breakable
        const failing = yield* open(directory, {}, disk)
        yield* grant(healthy, "holder", "held")
        const mine = yield* grant(failing, "mine", "mine")
        Object.assign(broken, { code, tag })
        const errors = yield* Effect.all([
          Effect.flip(tryAcquire(failing, "new", "free")),
          Effect.flip(failing.renew({ key: "mine", ownerId: "mine", ttl, handle: mine.handle, budget })),
          Effect.flip(release(failing, "mine", "mine"))
        ])
        assert.deepStrictEqual(errors.map(reasonOf), [reason, reason, reason])
        for (const error of errors) assert.include(error.message, code)
        assert.isFalse(yield* isGranted(failing, "thief", "held"))
        assert.isFalse(yield* isGranted(healthy, "thief", "mine"))
        broken.code = undefined
        assert.isTrue(yield* isGranted(failing, "new again", "free"))
        assert.strictEqual(yield* release(failing, "mine", "mine"), "Released")
        assert.isTrue(yield* isGranted(healthy, "next", "mine"))
      }))
  }

  it.live("one without hard links is refused when the layer is built", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const real = yield* realDisk
      const disk = { ...real, link: () => Effect.fail(systemError("EOPNOTSUPP", "Unknown", "link")) }
      const error = yield* Effect.flip(open(directory, {}, disk))
      assert.strictEqual(reasonOf(error), "Misconfigured")
      assert.include(error.message, "hard links")
    }))
})

describe("records that are not as they should be", () => {
  it.effect("cut short: held until unchanged for a minute, then taken over, and that is said", () =>
    Effect.gen(function*() {
      yield* atPresent
      const directory = yield* temporary
      const backend = yield* open(directory)
      const before = yield* grant(backend, "one")
      const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      rewrite(records(directory).at(-1)!, (text) => text.slice(0, 20), now)
      const reply = yield* tryAcquire(backend, "two")
      assert.strictEqual(reply._tag, "Held")
      assert.match(reply._tag === "Held" ? reply.holders[0]!.ownerId : "", /^damaged:\d{16}$/)
      yield* TestClock.adjust("59 seconds")
      assert.isFalse(yield* isGranted(backend, "two"))
      yield* TestClock.adjust("2 seconds")
      const after = yield* grant(backend, "two")
      assert.include(after.degraded, "damaged")
      assert.isTrue(Option.getOrThrow(after.fencingToken) > Option.getOrThrow(before.fencingToken))
    }))

  it.effect("of another version: never stolen", () =>
    Effect.gen(function*() {
      yield* atPresent
      const directory = yield* temporary
      const backend = yield* open(directory)
      yield* grant(backend, "one")
      const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      rewrite(records(directory).at(-1)!, (text) => text.replace(`"v":1`, `"v":2`), now)
      assert.isFalse(yield* isGranted(backend, "two"))
      yield* TestClock.adjust("1 day")
      assert.isFalse(yield* isGranted(backend, "two"))
    }))

  it.effect("of another boot: its mtime says nothing, only being seen unchanged for its ttl and the margin", () =>
    Effect.gen(function*() {
      yield* atPresent
      const directory = yield* temporary
      const backend = yield* open(directory)
      yield* grant(backend, "one")
      const other = (text: string) => text.replace(/"bootId":"[^"]*"/, `"bootId":"another-boot"`)
      rewrite(records(directory).at(-1)!, other, 1_000_000)
      assert.isFalse(yield* isGranted(backend, "two"))
      yield* TestClock.adjust("30 seconds")
      assert.isFalse(yield* isGranted(backend, "two"))
      yield* TestClock.adjust("3 seconds")
      assert.isTrue(yield* isGranted(backend, "two"))
    }))

  it.effect("with an mtime in the future: the same, so that a clock set back can't pin a lock for ever", () =>
    Effect.gen(function*() {
      yield* atPresent
      const directory = yield* temporary
      const backend = yield* open(directory)
      yield* grant(backend, "one")
      const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      rewrite(records(directory).at(-1)!, (text) => text, now + 3_600_000_000)
      assert.isFalse(yield* isGranted(backend, "two"))
      yield* TestClock.adjust("33 seconds")
      assert.isTrue(yield* isGranted(backend, "two"))
    }))

  it.live("of another key: a Protocol error, never stolen", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const backend = yield* open(directory)
      yield* grant(backend, "one")
      rewrite(records(directory).at(-1)!, (text) => text.replace(`"key":"k"`, `"key":"j"`), Date.now())
      assert.strictEqual(reasonOf(yield* Effect.flip(tryAcquire(backend, "two"))), "Protocol")
    }))
})

describe("a process that dies between any two steps", () => {
  // Every call that changes the disk from the n-th on never happens: what a SIGKILL leaves. The process still lives as
  // far as /proc knows, so only time can free what it left.
  const dying = (after: number) =>
    Effect.map(realDisk, (real) => {
      let left = after
      let died = false
      const step = <A extends Array<never>, B, E>(call: (...args: A) => Effect.Effect<B, E>) => (...args: A) =>
        Effect.suspend((): Effect.Effect<B, E> => {
          if (left-- > 0) return call(...args)
          died = true
          return Effect.never
        })
      const disk: FileSystem.FileSystem = {
        ...real,
        link: step(real.link as never) as typeof real.link,
        rename: step(real.rename as never) as typeof real.rename,
        remove: step(real.remove as never) as typeof real.remove,
        utimes: step(real.utimes as never) as typeof real.utimes,
        writeFileString: step(real.writeFileString as never) as typeof real.writeFileString,
        makeDirectory: step(real.makeDirectory as never) as typeof real.makeDirectory
      }
      return { disk, hasDied: () => died }
    })

  it.effect("blocks nobody for longer than its ttl, and nobody is let in beside it", () =>
    Effect.gen(function*() {
      let deaths = 0
      let life = 0
      for (let after = 0; life < 3; after++) {
        yield* atPresent
        const directory = yield* temporary
        const next = yield* open(directory)
        // A chain that has some history, of another owner.
        yield* grant(next, "earlier")
        yield* release(next, "earlier")
        const { disk, hasDied } = yield* dying(after)
        let holds = false
        const program = Effect.gen(function*() {
          const backend = yield* open(directory, {}, disk)
          const { handle } = yield* grant(backend, "mortal")
          holds = true
          yield* backend.renew({ key: "k", ownerId: "mortal", ttl, handle, budget })
          holds = false
          yield* release(backend, "mortal")
        })
        const mortal = yield* Effect.forkDetach(Effect.scoped(program), { startImmediately: true })
        yield* TestClock.withLive(
          Effect.sleep("1 millis").pipe(
            Effect.repeat({ until: () => hasDied() || mortal.pollUnsafe() !== undefined, times: 20_000 })
          )
        )
        assert.isTrue(hasDied() || mortal.pollUnsafe()?._tag === "Success", `neither died nor ended: ${after}`)
        if (hasDied()) deaths++
        else life++
        if (holds) assert.isFalse(yield* isGranted(next, "early"), `beside a holder that died after ${after} steps`)
        yield* TestClock.adjust("31 seconds")
        assert.isTrue(yield* isGranted(next, "heir"), `after a death after ${after} steps`)
      }
      assert.isAtLeast(deaths, 10)
    }), 120_000)
})

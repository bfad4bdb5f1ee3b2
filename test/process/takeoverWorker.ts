/**
 * A process that takes each of many locks once, and keeps what it gets until it is killed:
 * `takeoverWorker.ts DIRECTORY EVIDENCE ROUND KEYS exclusive|replacing`.
 *
 * Nobody links a generation before two processes have judged its lock free, so each takeover is a race. With
 * `replacing`, a generation that is there is replaced: what a takeover that does not exclude would do.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Clock, Console, Duration, Effect, FileSystem, Option, Path, Stdio } from "effect"
import * as FileLock from "effect-lock/layers/File"
import { obey } from "./children.ts"

// Longer than the test: a holder is over when its process is dead, and not before.
const ttl = Duration.minutes(10)
const trusted = Duration.toMillis(ttl) * 0.95
const budget = Duration.seconds(5)

const worker = Effect.fn(function*(next: Effect.Effect<string>) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const stdio = yield* Stdio.Stdio
  const [directory = "", evidence = "", round = "", keys = "", link = ""] = yield* stdio.args

  const create = (file: string) =>
    fs.writeFileString(file, "", { flag: "wx" }).pipe(
      Effect.as("created"),
      Effect.catchReason("PlatformError", "AlreadyExists", () => Effect.succeed("there"))
    )

  // The first to come waits for the second; those who come later pass.
  const meetAnother = Effect.fn(function*(name: string) {
    const first = path.join(evidence, `first-${round}-${name}`)
    const second = path.join(evidence, `second-${round}-${name}`)
    if ((yield* create(first)) === "there") {
      yield* create(second)
      return
    }
    const deadline = (yield* Clock.currentTimeMillis) + 50_000
    while (!(yield* fs.exists(second))) {
      if ((yield* Clock.currentTimeMillis) > deadline) {
        return yield* Effect.die(new Error(`no other process judged ${name} free`))
      }
      yield* Effect.sleep("1 millis")
    }
  })

  const racing: FileSystem.FileSystem = {
    ...fs,
    link: (from, to) => {
      const name = path.basename(path.dirname(to))
      if (!name.startsWith("l-")) return fs.link(from, to)
      return Effect.andThen(meetAnother(name), link === "replacing" ? fs.rename(from, to) : fs.link(from, to))
    }
  }
  const backend = yield* Effect.provideService(FileLock.make({ directory }), FileSystem.FileSystem, racing)

  const tryOnce = Effect.fn(function*(key: string) {
    const ownerId = crypto.randomUUID()
    const sentAt = yield* Clock.monotonicTimeNanos
    const reply = yield* backend.tryAcquire({ key, ownerId, ttl, metadata: {}, willWait: false, budget })
    if (reply._tag === "Held") return
    // Nobody removes a witness while its round lasts: one that is there is another holder's.
    const witness = yield* create(path.join(evidence, `held-${round}-${key}`))
    const elapsed = Number((yield* Clock.monotonicTimeNanos) - sentAt) / 1e6
    const renewal = yield* backend.renew({ key, ownerId, ttl, handle: reply.handle, budget })
    const token = Option.getOrThrow(reply.fencingToken)
    yield* Console.log(`grant ${key} ${token} ${elapsed < trusted ? witness : "untrusted"} ${renewal._tag}`)
  })

  yield* Console.log("ready")
  yield* next
  for (let key = 0; key < Number(keys); key++) yield* tryOnce(`k${key}`)
  yield* Console.log("done")
  return yield* Effect.never
})

obey(worker).pipe(Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)

/**
 * A process that holds a lock and does as it is told: `holderWorker.ts DIRECTORY KEY TTL`.
 *
 * - `check`: says what the lease's check says, then gives the lease back, says so, and ends.
 * - `exit`: ends at once, with the lease held and no finalizer run.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, Layer, Logger, Option, Stdio } from "effect"
import { withLock } from "effect-lock"
import * as FileLock from "effect-lock/layers/File"
import { obey } from "./children.ts"

const worker = Effect.fn(function*(next: Effect.Effect<string>) {
  const stdio = yield* Stdio.Stdio
  const [directory = "", key = "", ttlMillis = ""] = yield* stdio.args
  const hold = Effect.gen(function*() {
    const lease = yield* withLock(key, { ttl: Number(ttlMillis) })
    yield* Console.log(`holds ${Option.getOrThrow(lease.fencingToken)} ${lease.ownerId}`)
    const order = yield* next
    if (order === "exit") return yield* Effect.sync(() => process.exit(0))
    const checked = yield* lease.check.pipe(
      Effect.as("trusted"),
      Effect.catchTag("LockLost", (error) => Effect.succeed(error.reason))
    )
    yield* Console.log(`checked ${checked}`)
  })
  yield* hold.pipe(Effect.scoped, Effect.provide(FileLock.layer({ directory })))
  yield* Console.log("released")
})

// Standard output is for what the test hears.
const logging = Layer.succeed(Logger.LogToStderr, true)

obey(worker).pipe(Effect.provide(Layer.merge(NodeServices.layer, logging)), NodeRuntime.runMain)

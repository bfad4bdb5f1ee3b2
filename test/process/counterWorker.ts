/**
 * A process that increments a counter in a file: `counterWorker.ts DIRECTORY FILE INCREMENTS with-lock|without-lock`.
 *
 * Without the lock, its first increment waits for a word between reading and writing.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, FileSystem, Stdio } from "effect"
import { Lock, LockBackend } from "effect-lock"
import * as FileLock from "effect-lock/layers/File"
import { obey } from "./children.ts"

const worker = Effect.fn(function*(next: Effect.Effect<string>) {
  const fs = yield* FileSystem.FileSystem
  const stdio = yield* Stdio.Stdio
  const [directory = "", file = "", increments = "", mode = ""] = yield* stdio.args
  const backend = yield* FileLock.make({ directory })

  const increment = (between: Effect.Effect<unknown>) =>
    Effect.gen(function*() {
      const read = Number(yield* fs.readFileString(file))
      yield* between
      yield* fs.writeFileString(file, String(read + 1))
    })
  const locked = Lock.guard(increment(Effect.yieldNow), "counter", { wait: "60 seconds" }).pipe(
    Effect.provideService(LockBackend, backend)
  )
  const unlocked = increment(Effect.yieldNow)
  const linger = Effect.andThen(Console.log("read"), next)

  yield* Console.log("ready")
  yield* next
  for (let count = 0; count < Number(increments); count++) {
    if (mode === "with-lock") yield* locked
    else yield* count === 0 ? increment(linger) : unlocked
  }
  yield* Console.log("done")
})

obey(worker).pipe(Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)

/**
 * A process with many callers of one lock: `worker.ts PORT CALLERS ROUNDS TTL`, times in milliseconds.
 *
 * Each round writes `in` and `out` with its fencing token to a list of the same server. Two holders at once, or tokens
 * out of order, show in that list whatever happens to a process in between.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Duration, Effect, Option, Stdio } from "effect"
import { LockBackend, withLock } from "effect-lock"
import * as RedisLock from "effect-lock/layers/Redis"
import { Redis } from "ioredis"
import { obey } from "../../process/children.ts"

const worker = Effect.fn(function*(next: Effect.Effect<string>) {
  const stdio = yield* Stdio.Stdio
  const [port = "", callers = "", rounds = "", ttl = ""] = yield* stdio.args
  const journal = yield* Effect.acquireRelease(
    Effect.sync(() => new Redis(Number(port), "127.0.0.1")),
    (driver) => Effect.sync(() => driver.disconnect())
  )
  const write = (what: string) => Effect.promise(() => journal.rpush("journal", what))
  const backend = yield* RedisLock.make({ url: `redis://127.0.0.1:${port}` })
  const round = Effect.scoped(Effect.gen(function*() {
    const lease = yield* withLock("k", { ttl: Duration.millis(Number(ttl)), wait: "60 seconds" })
    const token = Option.getOrThrow(lease.fencingToken)
    yield* write(`in ${token}`)
    yield* write(`out ${token}`)
  })).pipe(Effect.provideService(LockBackend, backend))

  yield* Console.log("ready")
  yield* next
  yield* Effect.forEach(
    Array.from({ length: Number(callers) }),
    () => Effect.repeat(round, { times: Number(rounds) - 1 }),
    { concurrency: "unbounded", discard: true }
  )
  yield* Console.log("done")
})

obey(worker).pipe(Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)

/**
 * A worker's process: `worker.ts NAME with-lock|without-lock`. It increments the register's counter again and again:
 * read, think, write back. Only the lock keeps that from losing updates.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import {
  Console,
  Deferred,
  Effect,
  Layer,
  Logger,
  Option,
  Random,
  Ref,
  References,
  Schedule,
  Schema,
  Stdio,
  Stream
} from "effect"
import { fullJitter, withLock } from "effect-lock"
import * as FileLock from "effect-lock/layers/File"
import { now } from "./hostClock.ts"
import { Register } from "./registerProtocol.ts"
import * as Trust from "./trust.ts"
import { encodeEvent, WorkerCommand, type WorkerEvent } from "./workerProtocol.ts"

const lockOptions = {
  ttl: "2 seconds",
  // A machine that is busy with something else may be slow; that is not what this is about.
  outageBudget: "10 seconds",
  // A release wakes the next in line at once; a death does not, so look often.
  schedule: Schedule.spaced("150 millis").pipe(fullJitter)
} as const

const report = (event: WorkerEvent) => Console.log(encodeEvent(event))

const think = Effect.flatMap(Random.nextIntBetween(5, 25), Effect.sleep)

const worker = Effect.gen(function*() {
  const stdio = yield* Stdio.Stdio
  const register = yield* Register
  const [name = "", mode] = yield* stdio.args
  const shallLinger = yield* Ref.make(false)
  const shallFinish = yield* Ref.make(false)
  const proceed = yield* Deferred.make<void>()
  // What a worker that lingered still wants to write.
  const unwritten = yield* Ref.make(Option.none<number>())

  // Uninterruptible, so that every answer of the register is counted, also when the lease is lost meanwhile.
  const write = (fence: Option.Option<bigint>, value: number, late: boolean) =>
    Effect.uninterruptible(Effect.gen(function*() {
      const { highest, outcome } = yield* register.write({ worker: name, fence, value })
      yield* report({ _tag: "Wrote", at: yield* now, fence, value, outcome, highest, late })
    }))

  const increment = Effect.fn(function*(fence: Option.Option<bigint>, linger: Effect.Effect<void>) {
    const read = yield* register.read({ fence })
    const late = yield* Ref.getAndSet(shallLinger, false)
    if (late) {
      yield* Ref.set(unwritten, Option.some(read + 1))
      yield* report({ _tag: "Lingers", at: yield* now, read })
      yield* linger
    }
    yield* think
    yield* write(fence, read + 1, late)
  })

  const holdWithLock = Effect.scoped(Effect.gen(function*() {
    yield* report({ _tag: "Waits", at: yield* now })
    const lease = yield* withLock("counter", lockOptions)
    const fence = lease.fencingToken
    const trust = yield* Trust.follow(lease, report)

    const lost = yield* lease.guard(increment(fence, Effect.never)).pipe(
      Effect.as(Option.none<string>()),
      Effect.catchTag("LockLost", (error) => Effect.succeedSome(error.reason))
    )
    yield* report({ _tag: "Ended", at: yield* now, until: yield* trust.end, lost })

    // What a paused process may do when it wakes, whatever lock it had: send its last write. Never do this.
    const late = yield* Ref.getAndSet(unwritten, Option.none())
    if (Option.isSome(lost) && Option.isSome(late)) yield* write(fence, late.value, true)
  }))

  const holdWithoutLock = Effect.gen(function*() {
    yield* report({ _tag: "Holds", at: yield* now, fence: Option.none(), trustedUntil: Infinity })
    yield* increment(Option.none(), Deferred.await(proceed))
    const at = yield* now
    yield* report({ _tag: "Ended", at, until: at, lost: Option.none() })
  })

  const work = (mode === "with-lock" ? holdWithLock : holdWithoutLock).pipe(
    Effect.andThen(think),
    Effect.repeat({ until: () => Ref.get(shallFinish) })
  )

  const obey = (command: WorkerCommand) =>
    ({
      linger: Ref.set(shallLinger, true),
      proceed: Deferred.succeed(proceed, undefined),
      finish: Ref.set(shallFinish, true)
    })[command]

  // Ends with its input: a worker does not outlive the program that started it.
  const commands = stdio.stdin.pipe(
    Stream.decodeText,
    Stream.splitLines,
    Stream.mapEffect((line) => Schema.decodeUnknownEffect(WorkerCommand)(line)),
    Stream.runForEach(obey)
  )
  yield* Effect.raceFirst(work, commands)
  // Left open, it would keep the process alive.
  yield* Effect.sync(() => process.stdin.destroy())
})

// Standard output is for events. That a lease was lost is an event, so the library's warning would only say it again.
const logging = Layer.mergeAll(
  Layer.succeed(Logger.LogToStderr, true),
  Layer.succeed(References.MinimumLogLevel, "Error")
)

const services = Layer.mergeAll(Register.layer, FileLock.layer({ directory: "locks" }), logging).pipe(
  Layer.provideMerge(NodeServices.layer)
)

worker.pipe(Effect.provide(services), NodeRuntime.runMain)

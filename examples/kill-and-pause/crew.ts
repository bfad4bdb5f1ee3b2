/** The processes of the demonstration: the register and the workers. They end with the scope they were started in. */
import { Deferred, Effect, Fiber, Path, Queue, Schema, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { now } from "./hostClock.ts"
import type { Journal, Signalled } from "./journal.ts"
import { NotCarriedOut } from "./notCarriedOut.ts"
import { Ledger } from "./registerProtocol.ts"
import { decodeEvent, type WorkerCommand } from "./workerProtocol.ts"

export interface Worker {
  readonly name: string
  readonly tell: (command: WorkerCommand) => Effect.Effect<void>
  readonly signal: (signal: Signalled["signal"]) => Effect.Effect<void>
  /** Waits until the process has ended and everything that it said is in the journal. */
  readonly ended: Effect.Effect<void, NotCarriedOut>
  /** Fails if the process ends although nobody asked it to. */
  readonly failure: Effect.Effect<never, NotCarriedOut>
}

export const startWorker = Effect.fn(function*(
  name: string,
  options: {
    readonly directory: string
    readonly mode: "with-lock" | "without-lock"
    readonly journal: Journal
  }
) {
  const { journal } = options
  const commands = yield* Queue.unbounded<WorkerCommand>()
  const input = Stream.fromQueue(commands).pipe(Stream.map((command) => `${command}\n`), Stream.encodeText)
  const handle = yield* start("worker.ts", [name, options.mode], options.directory, input)
  yield* journal.add({ worker: name, event: { _tag: "Started", at: yield* now, pid: handle.pid } })
  const output = yield* lines(handle.stdout).pipe(
    Stream.mapEffect((line) => decodeEvent(line)),
    Stream.runForEach((event) => journal.add({ worker: name, event })),
    Effect.mapError((cause) => new NotCarriedOut({ message: `${name} said something strange: ${cause.message}` })),
    Effect.forkScoped
  )
  let mayEnd = false
  const worker: Worker = {
    name,
    tell: (command) =>
      Effect.suspend(() => {
        mayEnd ||= command === "finish"
        return Effect.asVoid(Queue.offer(commands, command))
      }),
    signal: (signal) =>
      Effect.gen(function*() {
        mayEnd ||= signal === "SIGKILL"
        const at = yield* now
        yield* Effect.sync(() => process.kill(handle.pid, signal))
        yield* journal.add({ worker: name, event: { _tag: "Signalled", at, signal } })
      }),
    ended: Fiber.join(output),
    failure: Effect.flatMap(Fiber.join(output), () => {
      const message = `${name} ended although nobody asked it to`
      return mayEnd ? Effect.never : Effect.fail(new NotCarriedOut({ message }))
    })
  }
  return worker
})

export const startRegister = Effect.fn(function*(directory: string, journal: Journal) {
  const listening = yield* Deferred.make<void, NotCarriedOut>()
  const ledger = yield* Deferred.make<Ledger, NotCarriedOut>()
  const close = yield* Deferred.make<void>()
  const handle = yield* start("register.ts", [], directory, Stream.drain(Stream.fromEffect(Deferred.await(close))))
  yield* journal.add({ worker: "register", event: { _tag: "Started", at: yield* now, pid: handle.pid } })
  const ended = new NotCarriedOut({ message: "the register ended too early" })
  yield* lines(handle.stdout).pipe(
    Stream.runForEach((line) =>
      line === "listening"
        ? Deferred.succeed(listening, undefined)
        : Effect.flatMap(decodeLedger(line), (decoded) => Deferred.succeed(ledger, decoded))
    ),
    Effect.ensuring(Deferred.fail(listening, ended)),
    Effect.ensuring(Deferred.fail(ledger, ended)),
    Effect.forkScoped
  )
  yield* Deferred.await(listening)
  return {
    /** Fails if the register ends before it is closed. */
    failure: Effect.andThen(Deferred.await(ledger), Effect.never),
    /** Closes the register and returns its ledger. */
    close: Effect.andThen(Deferred.succeed(close, undefined), Deferred.await(ledger))
  }
})

const decodeLedger = Schema.decodeEffect(Schema.fromJsonString(Schema.toCodecJson(Ledger)))

const start = Effect.fn(function*(
  file: string,
  args: ReadonlyArray<string>,
  directory: string,
  stdin: Stream.Stream<Uint8Array>
) {
  const path = yield* Path.Path
  const script = yield* path.fromFileUrl(new URL(file, import.meta.url))
  return yield* ChildProcess.make(process.execPath, [...process.execArgv, script, ...args], {
    cwd: directory,
    stdin,
    stderr: "inherit",
    // It also ends a process that is stopped.
    killSignal: "SIGKILL"
  })
})

const lines = <E, R>(output: Stream.Stream<Uint8Array, E, R>) => output.pipe(Stream.decodeText, Stream.splitLines)

/**
 * Processes of a test, and how they talk: a line at a time, words with blanks between them.
 *
 * A child is killed when the scope that started it closes, whatever it is doing, also while it is stopped. A child ends
 * by itself when its input does, so that it does not outlive a test runner that was killed.
 */
import { assert } from "@effect/vitest"
import { type Cause, Effect, Path, Queue, Stdio, Stream } from "effect"
import { ChildProcess } from "effect/process"

export interface Child {
  readonly pid: number
  readonly say: (line: string) => Effect.Effect<void>
  /** The next line that the child says. */
  readonly hear: Effect.Effect<ReadonlyArray<string>>
  /** The next line, which must begin with this word: the words after it. */
  readonly expect: (word: string) => Effect.Effect<ReadonlyArray<string>>
  readonly signal: (signal: "SIGCONT" | "SIGKILL" | "SIGSTOP") => Effect.Effect<void>
  /** Waits until the process has ended. */
  readonly ended: Effect.Effect<void>
}

/** Only there can a process prove that another is dead. */
export const deathIsProvable = process.platform === "linux"

/** Starts a script of this directory. */
export const start = Effect.fn(function*(script: string, args: ReadonlyArray<string>) {
  const path = yield* Path.Path
  const file = yield* path.fromFileUrl(new URL(script, import.meta.url))
  const said = yield* Queue.unbounded<string>()
  const heard = yield* Queue.unbounded<string, Cause.Done>()
  const handle = yield* ChildProcess.make(
    process.execPath,
    ["--conditions=effect-lock-source", file, ...args],
    {
      stdin: Stream.fromQueue(said).pipe(Stream.map((line) => `${line}\n`), Stream.encodeText),
      stderr: "inherit",
      killSignal: "SIGKILL"
    }
  )
  yield* lines(handle.stdout).pipe(
    Stream.runForEach((line) => Queue.offer(heard, line)),
    Effect.ensuring(Queue.end(heard)),
    Effect.forkScoped
  )
  const name = `${script} (process ${handle.pid})`
  const inTime = <A, E>(effect: Effect.Effect<A, E>, what: string) =>
    effect.pipe(Effect.timeout("60 seconds"), Effect.catch((cause) => Effect.die(new Error(what, { cause }))))
  const hear = Effect.map(
    inTime(Queue.take(heard), `${name} ended, or said nothing for a minute`),
    (line) => line.split(" ")
  )
  const child: Child = {
    pid: handle.pid,
    say: (line) => Effect.asVoid(Queue.offer(said, line)),
    hear,
    expect: (word) =>
      Effect.map(hear, ([first, ...rest]) => {
        assert.strictEqual(first, word, `${name} said: ${[first, ...rest].join(" ")}`)
        return rest
      }),
    signal: (signal) => Effect.sync(() => process.kill(handle.pid, signal)),
    // A process that was killed has no exit code; that is not a failure here.
    ended: inTime(Effect.ignore(handle.exitCode), `${name} did not end within a minute`)
  }
  return child
})

/** Kills children and waits until they are gone. */
export const kill = (children: ReadonlyArray<Child>) =>
  Effect.forEach(children, (child) => Effect.andThen(child.signal("SIGKILL"), child.ended), { discard: true })

/** For a child: runs `work` with what takes the next line of its input; ends, at the latest, when its input does. */
export const obey = <A, E, R>(work: (next: Effect.Effect<string>) => Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const stdio = yield* Stdio.Stdio
    const orders = yield* Queue.unbounded<string>()
    const input = Stream.runForEach(lines(stdio.stdin), (line) => Queue.offer(orders, line))
    yield* Effect.raceFirst(work(Queue.take(orders)), input)
    // Left open, it would keep the process alive.
    yield* Effect.sync(() => process.stdin.destroy())
  })

const lines = <E, R>(bytes: Stream.Stream<Uint8Array, E, R>) => bytes.pipe(Stream.decodeText, Stream.splitLines)

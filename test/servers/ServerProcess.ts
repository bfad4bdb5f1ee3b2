/**
 * A real server that a test starts on a free port of loopback, and stops by pid.
 *
 * A server dies with the process that started it, however that ends, and leaves no files.
 */
import { Deferred, Effect, Exit, type Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { existsSync, mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import * as path from "node:path"

export interface ServerOptions {
  readonly name: string
  /** The program and its arguments, with the port and a directory of its own. */
  readonly command: (
    at: { readonly port: number; readonly directory: string }
  ) => readonly [string, ...ReadonlyArray<string>]
  /** Whether it answers; asked again and again until it does. */
  readonly answers: (port: number) => Effect.Effect<boolean>
}

export interface ServerProcess {
  readonly port: number
  /** Where the server keeps its data; survives restarts, goes with the scope. */
  readonly directory: string
  readonly pid: () => number
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** SIGKILL, and wait for the end. */
  readonly kill: Effect.Effect<void>
  /** SIGTERM, and wait for the end. */
  readonly stop: Effect.Effect<void>
  /** On the same port, with the same data. */
  readonly start: Effect.Effect<void>
}

/** Whether the machine has a program: suites that need it are skipped by name where it is missing. */
export const isInstalled = (program: string): boolean =>
  (process.env["PATH"] ?? "").split(path.delimiter).some((folder) => existsSync(path.join(folder, program)))

/**
 * A port of loopback that nobody listens on at this moment. Below those that the system hands out by itself, or a
 * connection of another test might have it before the server does.
 */
export const freePort: Effect.Effect<number> = Effect.suspend(() => {
  const port = 10_000 + Math.floor(Math.random() * 22_000)
  return Effect.flatMap(isFree(port), (free) => free ? Effect.succeed(port) : freePort)
})

const isFree = (port: number): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const server = createServer()
    server.once("error", () => resume(Effect.succeed(false)))
    server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.succeed(true))))
  })

/** Starts a server and waits until it answers; the port may be lost to another program in between, so it is tried anew. */
export const serverProcess = (options: ServerOptions): Effect.Effect<ServerProcess, never, Scope.Scope> =>
  Effect.gen(function*() {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(path.join(tmpdir(), `effect-lock-${options.name}-`))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
    )
    const running: Running = { child: undefined, said: "" }
    yield* Effect.addFinalizer(() => end(running, "SIGKILL"))
    const launch = (port: number) => begin(running, options, port, directory)
    for (let tries = 1;; tries++) {
      const port = yield* freePort
      const exit = yield* Effect.exit(launch(port))
      if (Exit.isFailure(exit)) {
        if (tries < 5) continue
        return yield* Effect.failCause(exit.cause)
      }
      const server: ServerProcess = {
        port,
        directory,
        pid: () => running.child?.pid ?? 0,
        signal: (signal) => Effect.sync(() => void running.child?.kill(signal)),
        kill: end(running, "SIGKILL"),
        stop: end(running, "SIGTERM"),
        start: Effect.suspend(() => launch(port))
      }
      return server
    }
  })

interface Running {
  child: ChildProcess | undefined
  said: string
}

const setpriv = "/usr/bin/setpriv"

const begin = (running: Running, options: ServerOptions, port: number, directory: string): Effect.Effect<void> =>
  Effect.gen(function*() {
    const [program, ...args] = options.command({ port, directory })
    running.said = ""
    // Not even a test runner that was killed leaves a server behind.
    const child = existsSync(setpriv)
      ? spawn(setpriv, ["--pdeathsig", "KILL", program, ...args], { cwd: directory })
      : spawn(program, args, { cwd: directory })
    running.child = child
    const keep = (text: Buffer) => {
      running.said = (running.said + String(text)).slice(-4000)
    }
    child.stdout.on("data", keep)
    child.stderr.on("data", keep)
    child.once("error", (error) => keep(Buffer.from(error.message)))
    const deadline = performance.now() + 60_000
    while (!(yield* options.answers(port))) {
      const over = child.exitCode !== null || child.signalCode !== null
      if (over || performance.now() > deadline) {
        return yield* Effect.die(new Error(`${options.name} does not answer on ${port}: ${running.said}`))
      }
      yield* Effect.sleep("20 millis")
    }
    // Who answers may be another test's server, and ours about to find the port taken.
    yield* Effect.sleep("30 millis")
    if (child.exitCode !== null || child.signalCode !== null) {
      return yield* Effect.die(new Error(`${options.name} ended: ${running.said}`))
    }
  })

const end = (running: Running, signal: "SIGKILL" | "SIGTERM"): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { child } = running
    if (child === undefined || child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
    const ended = yield* Deferred.make<void>()
    child.once("exit", () => Deferred.doneUnsafe(ended, Effect.void))
    child.kill(signal)
    // A stopped process takes nothing but SIGKILL.
    if (signal === "SIGTERM") child.kill("SIGCONT")
    yield* Deferred.await(ended)
  })

/** The workers of a run: processes that are started, killed, stopped and started again. */
import { Effect, type Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { hostTime } from "./history.ts"
import type { Order, WorkerSetup } from "./messages.ts"

export interface Crew {
  /** The present life of a worker. */
  readonly lifeOf: (worker: number) => string
  readonly lives: () => ReadonlyArray<string>
  readonly start: (worker: number) => void
  /** SIGKILL, and wait for the end. */
  readonly kill: (worker: number) => Effect.Effect<void>
  readonly pause: (worker: number) => void
  readonly goOn: (worker: number) => void
  readonly tell: (worker: number, order: Order) => void
  readonly hasEnded: (worker: number) => boolean
  readonly kills: ReadonlyMap<string, number>
  /** What was said on standard error, and who ended without being told to. */
  readonly complaints: () => ReadonlyArray<string>
}

interface Running {
  readonly life: string
  readonly child: ChildProcess
  mayEnd: boolean
}

const setpriv = "/usr/bin/setpriv"

/** The code of a worker, with the module that its processes run. */
export const crew = (
  module: string,
  setupOf: (worker: number, life: string) => WorkerSetup
): Effect.Effect<Crew, never, Scope.Scope> =>
  Effect.gen(function*() {
    const running = new Map<number, Running>()
    const everyone: Array<Running> = []
    const starts = new Map<number, number>()
    const kills = new Map<string, number>()
    const complaints: Array<string> = []

    const start = (worker: number) => {
      const nth = (starts.get(worker) ?? 0) + 1
      starts.set(worker, nth)
      const life = `worker ${worker}.${nth}`
      const command = [
        process.execPath,
        "--conditions=effect-lock-source",
        module,
        JSON.stringify(setupOf(worker, life))
      ] as const
      // Not even one that is stopped outlives a test runner that was killed.
      const [program, ...args] = existsSync(setpriv) ? [setpriv, "--pdeathsig", "KILL", ...command] : command
      const child = spawn(program, args, {
        stdio: ["pipe", "ignore", "pipe"],
        env: { PATH: process.env["PATH"], NODE_COMPILE_CACHE: path.join(tmpdir(), "effect-lock-compile-cache") }
      })
      const one: Running = { life, child, mayEnd: false }
      running.set(worker, one)
      everyone.push(one)
      let said = ""
      child.stderr!.on("data", (text: Buffer) => {
        said = (said + String(text)).slice(0, 4000)
      })
      child.stdin!.on("error", () => {})
      child.on("close", (code, signal) => {
        if (said !== "") complaints.push(`${life} said on standard error: ${said.trim()}`)
        const isWell = one.mayEnd && (code === 0 || signal === "SIGKILL")
        if (!isWell) complaints.push(`${life} ended by itself, with ${signal ?? `exit code ${code}`}`)
      })
    }

    const end = ({ child, life }: Running) =>
      Effect.callback<void>((resume) => {
        if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
        child.once("exit", () => resume(Effect.void))
        kills.set(life, hostTime())
        child.kill("SIGKILL")
      })
    const killOne = (one: Running) =>
      Effect.suspend(() => {
        one.mayEnd = true
        return end(one)
      })

    yield* Effect.addFinalizer(() => Effect.forEach(everyone, killOne, { concurrency: "unbounded", discard: true }))
    const of = (worker: number) => running.get(worker)!
    return {
      lifeOf: (worker) => of(worker).life,
      lives: () => everyone.map(({ life }) => life),
      start,
      kill: (worker) => killOne(of(worker)),
      pause: (worker) => void of(worker).child.kill("SIGSTOP"),
      goOn: (worker) => void of(worker).child.kill("SIGCONT"),
      tell: (worker, order) => {
        const one = of(worker)
        if (order.tag === "finish") one.mayEnd = true
        one.child.stdin!.write(`${JSON.stringify(order)}\n`)
      },
      hasEnded: (worker) => of(worker).child.exitCode !== null || of(worker).child.signalCode !== null,
      kills,
      complaints: () => complaints
    }
  })

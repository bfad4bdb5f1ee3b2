/**
 * The torture of one backend: workers that increment counters under locks, a nemesis that does to them and to the servers
 * what can happen, and a verdict.
 */
import { NodeServices } from "@effect/platform-node"
import { Effect, Exit, Fiber, Schedule, type Scope } from "effect"
import { Lock, LockBackend } from "effect-lock"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import type { Arena, Ground } from "./arenas.ts"
import { judge, judgeAftermath, type Violation } from "./checker.ts"
import { type Crew, crew as makeCrew } from "./crew.ts"
import { type History, hostTime } from "./history.ts"
import { heal, strike } from "./nemesis.ts"
import { plan, type Stroke } from "./plan.ts"
import { type Counts, type Register, register as makeRegister } from "./register.ts"
import { backendOf } from "./workerBackend.ts"

export interface Options {
  readonly ground: Ground
  readonly seed: string
  /** Milliseconds of faults; getting ready before, and healing after, come on top. */
  readonly millis: number
  readonly workers: number
  readonly keys: number
  /** Milliseconds between two faults, from and to. */
  readonly every: readonly [number, number]
  /** What the workers' processes run; a copy of it, for code that is wrong on purpose. */
  readonly worker?: string
  /** End at the first violation of R2. */
  readonly untilCaught?: boolean
  readonly onProgress?: (progress: Progress) => void
}

export interface Progress {
  readonly ground: string
  readonly phase: "getting ready" | "under fire" | "healing" | "going home"
  readonly counts: Counts
  readonly faults: number
}

export interface Report {
  readonly ground: Ground
  readonly seed: string
  readonly counts: Counts
  readonly strokes: ReadonlyArray<Stroke>
  readonly faults: ReadonlyMap<string, number>
  readonly recoveries: ReadonlyMap<string, number | undefined>
  readonly violations: ReadonlyArray<Violation>
  readonly lives: number
}

/**
 * What is granted on top of ttl + 2 s until every key is acquired again, in milliseconds, and on top of the ttl until no
 * lock is left: a busy machine takes its time to run processes and to connect them anew.
 */
export const slack = 60_000

const worker = path.join(import.meta.dirname, "worker.ts")

export const torture = (options: Options): Effect.Effect<Report, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { ground, millis, seed, workers } = options
    const keys = Array.from({ length: options.keys }, (_, index) => `key ${index}`)
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(path.join(tmpdir(), "effect-lock-torture-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
    )
    const socket = path.join(folder, "register")
    const register = yield* makeRegister(socket)
    const arena = yield* ground.open(workers)
    const crew = yield* makeCrew(options.worker ?? worker, (worker, life) => ({
      life,
      socket,
      seed: `${seed} ${life}`,
      keys,
      ttl: ground.ttl,
      backend: arena.setupFor(worker)
    }))
    const everybody = Array.from({ length: workers }, (_, index) => index)
    const strokes = plan({
      seed: `${seed} ${ground.name}`,
      millis,
      workers,
      servers: arena.servers,
      choices: ground.choices,
      every: options.every
    })

    let phase: Progress["phase"] = "getting ready"
    const faults = new Map<string, number>()
    const tell = Effect.sync(() =>
      options.onProgress?.({
        ground: ground.name,
        phase,
        counts: register.counts,
        faults: [...faults.values()].reduce((sum, n) => sum + n, 0)
      })
    )
    yield* Effect.forkScoped(Effect.repeat(tell, Schedule.spaced("1 second")))

    for (const each of everybody) crew.start(each)
    yield* until(() => everybody.every((each) => register.present.has(crew.lifeOf(each))), 60_000)
    phase = "under fire"
    const onStroke = ({ fault }: Stroke) => faults.set(fault, (faults.get(fault) ?? 0) + 1)
    const nemesis = yield* Effect.forkChild(strike(strokes, arena, crew, ground.ttl, onStroke))
    const isCaught = () => options.untilCaught === true && judge(historyOf(register, crew, arena), ["R2"]).length > 0
    yield* until(isCaught, millis, 500)
    if (isCaught()) yield* Fiber.interrupt(nemesis)
    yield* Effect.exit(Fiber.join(nemesis))

    phase = "healing"
    yield* heal(arena, crew, workers)
    const healedAt = hostTime()
    const recovered = (key: string) => {
      const at = register.acquiredAt.get(key)
      return at === undefined || at <= healedAt ? undefined : at - healedAt
    }
    // What was caught need not go on.
    const awaited = options.untilCaught === true ? [] : keys
    yield* until(() => awaited.every((key) => recovered(key) !== undefined), ground.ttl + 2000 + slack)
    const recoveries = new Map(awaited.map((key) => [key, recovered(key)]))

    phase = "going home"
    const residue = options.untilCaught === true ? [] : yield* goHome(options, keys, register, crew, arena)
    const history = historyOf(register, crew, arena)
    yield* Effect.forEach(everybody, crew.kill, { concurrency: "unbounded" })
    const aftermath = { recoveries, residue, complaints: crew.complaints() }
    const violations = [...judge(history, ground.rules), ...judgeAftermath(aftermath)]
    return {
      ground,
      seed,
      counts: register.counts,
      strokes,
      faults,
      recoveries,
      violations,
      lives: crew.lives().length
    }
  })

const historyOf = (register: Register, { kills }: Crew, { amnesias }: Arena): History => ({
  contacts: register.contacts,
  holds: [...register.holds.values()],
  counters: register.counters,
  skews: register.skews,
  kills,
  amnesias
})

/** Workers close everything and end; what is left of them and on the servers, in words. */
const goHome = (
  { ground, workers }: Options,
  keys: ReadonlyArray<string>,
  register: Register,
  crew: Crew,
  arena: Arena
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.gen(function*() {
    const residue: Array<string> = []
    const everybody = Array.from({ length: workers }, (_, index) => index)
    for (const each of everybody) crew.tell(each, { tag: "finish" })
    yield* until(() => everybody.every(crew.hasEnded), slack)
    for (const each of everybody) {
      const life = crew.lifeOf(each)
      const left = register.finished.get(life)
      if (left === undefined) residue.push(`${life} did not close its backend within ${slack} ms`)
      else if (!crew.hasEnded(each)) residue.push(`${life} closed everything and did not end`)
      residue.push(...(left ?? []).map((what) => `${life}: ${what}`))
    }
    const held = yield* whatIsHeld(arena, keys, ground.ttl + slack)
    return [...residue, ...held, ...(yield* arena.residue)]
  })

/** Keys that are still held when every lease has had the time to end. */
const whatIsHeld = (
  arena: Arena,
  keys: ReadonlyArray<string>,
  patience: number
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.scoped(Effect.gen(function*() {
    const backend = yield* Effect.orDie(backendOf(arena.direct))
    const giveUpAt = hostTime() + patience
    for (;;) {
      const looks = yield* Effect.forEach(keys, (key) =>
        Effect.map(
          Effect.exit(Effect.provideService(Lock.inspect(key), LockBackend, backend)),
          (exit) => {
            if (Exit.isFailure(exit)) return [`${key} can't be looked at`]
            return exit.value.map(({ ownerId }) => `${key} is still held by ${ownerId}`)
          }
        ))
      const held = looks.flat()
      if (held.length === 0 || hostTime() > giveUpAt) return held
      yield* Effect.sleep("200 millis")
    }
  })).pipe(Effect.provide(NodeServices.layer))

/** Waits until `done`, at most so long. */
const until = (done: () => boolean, patience: number, step = 50): Effect.Effect<void> =>
  Effect.gen(function*() {
    const giveUpAt = hostTime() + patience
    while (!done() && hostTime() < giveUpAt) yield* Effect.sleep(step)
  })

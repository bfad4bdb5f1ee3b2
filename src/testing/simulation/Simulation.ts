/**
 * Deterministic simulation: the real core, in processes whose scheduler, clocks and network are made up, against a
 * model server that knows the truth. One seed is one history.
 *
 * It is there for what no test with a real clock can reach: requests that arrive seconds late, processes that stand
 * still between two steps, machines that sleep, clocks that run at different rates, thousands of orders of the same
 * events.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { LockBackend } from "../../LockBackend.ts"
import { caller, freshCall, instanceOf, type Place } from "./Caller.ts"
import { type Fault, Faults, type Mix, ttl } from "./Faults.ts"
import { mixes, type MixName } from "./Mixes.ts"
import { Network } from "./Network.ts"
import { type Counts, Oracles, type Violation } from "./Oracles.ts"
import { Process } from "./Process.ts"
import { observerOf, Register } from "./Register.ts"
import { clientOf, Server } from "./Server.ts"
import { chance, World } from "./World.ts"

export type { Fault, Kind, Mix } from "./Faults.ts"
export { mixes, type MixName } from "./Mixes.ts"
export type { Counts, Oracle, Violation } from "./Oracles.ts"

/**
 * How large a simulation is, and what else is asked of it.
 *
 * **Details**
 *
 * - `processes`, `rounds`: so many processes make so many calls one after the other; default 3 × 3.
 * - `callers`: so many do so at the same time in each process; default 1 or 2, by the seed.
 * - `faults`: these and no others, instead of those that the seed and the mix draw.
 * - `hold`: every call is one guard that holds the lock for so many milliseconds, instead of something by the seed.
 * - `keepHistory`: keeps the history in words.
 *
 * @category models
 */
export interface Options {
  readonly processes?: number | undefined
  readonly rounds?: number | undefined
  readonly callers?: number | undefined
  readonly faults?: ReadonlyArray<Fault> | undefined
  readonly hold?: number | undefined
  readonly keepHistory?: boolean | undefined
}

/**
 * What happened.
 *
 * **Details**
 *
 * `hash` differs if anything in the history does. `faults` are those that met something, `messages` the number of
 * requests of each process, `history` the events in words if they were kept.
 *
 * @category models
 */
export interface Outcome {
  readonly seed: number
  readonly violations: ReadonlyArray<Violation>
  readonly faults: ReadonlyArray<Fault>
  readonly counts: Counts
  readonly messages: ReadonlyArray<number>
  readonly hash: number
  readonly steps: number
  readonly millis: number
  readonly history: ReadonlyArray<string>
}

const mostSteps = 400_000
// A dead holder's lease, then the longest pause between two tries, then the try.
const mostUntilAcquired = 1.05 * ttl + 2000 + 100

/**
 * Simulates the history of `seed` under `mix`.
 *
 * **Details**
 *
 * A history in which a machine slept and a wall clock was set back is judged by its fencing tokens only: together they
 * hide the sleep from both clocks, and no client can notice.
 *
 * @category running
 */
export const simulate = (seed: number, mix: Mix, options: Options = {}): Outcome => {
  const { callers = chance(seed, 8)() < 0.5 ? 1 : 2, processes = 3, rounds = 3 } = options
  const rates = chance(seed, 9)
  const rate = () => 1 + (2 * rates() - 1) * (mix.rate ?? 0)
  const world = new World(seed, { disorder: mix.disorder ?? 0.02, keepHistory: options.keepHistory === true })
  const faults = new Faults(seed, mix, options.faults)
  const oracles: Oracles = new Oracles(world, () => server)
  const server = mix.takeover === "observed"
    ? new Register(world, oracles)
    : new Server(world, rate(), (mix.duplicate ?? 0) > 0, oracles)
  const network = new Network(world, faults, seed)
  const fibers: Array<Fiber.Fiber<void>> = []

  const placeOf = (process: Process): Place => {
    const implementation = server instanceof Register
      ? observerOf(server, network, process)
      : clientOf(server, network, process, mix.push === true)
    const backend = Effect.runSync(Scope.provide(LockBackend.make(implementation), Scope.makeUnsafe()))
    return { world, process, backend, faults, oracles, mix, seed, hold: options.hold }
  }
  const start = (place: Place, effect: Effect.Effect<void>) => Effect.runForkWith(place.process.context)(effect)

  const places = Array.from({ length: processes }, (_, id) => placeOf(new Process(world, id, seed, rate())))
  world.plan(
    faults.ofProcesses(processes).map((fault) => {
      const { process } = places[fault.process]!
      return {
        at: fault.at,
        can: () => !process.dead && !process.paused,
        run: () => strike(faults, process, fault, world)
      }
    })
  )
  for (const place of places) {
    for (let i = 0; i < callers; i++) fibers.push(start(place, caller(place, i, rounds)))
  }
  if (!world.run(mostSteps)) oracles.violated("rest", `the simulation did not come to rest within ${mostSteps} steps`)
  for (const { backend, process } of places) {
    if (process.dead) continue
    oracles.onRest("rest", instanceOf(backend), undefined, `at the end in process ${process.id}`)
    if (process.open > 0) oracles.violated("rest", `process ${process.id} ended with ${process.open} requests open`)
  }
  if (faults.happened.every(({ kind }) => kind === "interrupt")) {
    oracles.onRest("residue", undefined, undefined, "at the end")
  }
  fibers.forEach((fiber, index) => {
    const { process } = places[Math.floor(index / callers)]!
    if (!process.dead && fiber.pollUnsafe() === undefined) {
      oracles.violated("rest", `a caller of process ${process.id} did not end`)
    }
  })

  faults.heal()
  world.plan([])
  const healed = world.now
  let acquired = Infinity
  const fresh = placeOf(new Process(world, processes, seed, rate()))
  start(fresh, freshCall(fresh, () => acquired = world.now))
  world.run(mostSteps)
  if (acquired - healed > mostUntilAcquired) {
    oracles.violated("liveness", `a fresh client had the lock ${acquired - healed} ms after everything had healed`)
  }
  return {
    seed,
    violations: judge(oracles.violations, faults.happened),
    faults: faults.happened,
    counts: oracles.counts,
    messages: places.map(({ process }) => process.sent),
    hash: world.hash,
    steps: world.steps,
    millis: world.now,
    history: world.history ?? []
  }
}

const strike = (faults: Faults, process: Process, fault: Fault, world: World): void => {
  faults.note(fault)
  world.note(`p${process.id} ${fault.kind}`, fault.by)
  switch (fault.kind) {
    case "pause":
      return process.pause(fault.by, false)
    case "suspend":
      return process.pause(fault.by, true)
    case "kill":
      return process.kill()
    case "forward":
      return process.setWall(fault.by)
    case "backward":
      return process.setWall(-fault.by)
  }
}

const judge = (violations: ReadonlyArray<Violation>, faults: ReadonlyArray<Fault>): ReadonlyArray<Violation> => {
  const has = (kind: Fault["kind"]) => faults.some((fault) => fault.kind === kind)
  return has("suspend") && has("backward")
    ? violations.filter(({ oracle }) => oracle === "order")
    : violations
}

/**
 * The smallest part of a failing history's faults with which it still fails: those are left out, one after the other,
 * that are not needed. `undefined` if the history does not fail.
 *
 * @category running
 */
export const minimise = (seed: number, mix: Mix, options: Options = {}): Outcome | undefined => {
  let smallest = simulate(seed, mix, options)
  if (smallest.violations.length === 0) return undefined
  for (let i = 0; i < smallest.faults.length;) {
    const faults = smallest.faults.filter((_, index) => index !== i)
    const outcome = simulate(seed, mix, { ...options, faults })
    if (outcome.violations.length === 0) i++
    else smallest = outcome
  }
  return smallest
}

/**
 * What to tell of a seed that fails: how to replay it, the smallest list of faults, what went wrong, and the history.
 *
 * @category running
 */
export const report = (seed: number, name: MixName, options: Options = {}): string => {
  const { processes = 3, rounds = 3 } = options
  const outcome = minimise(seed, mixes[name], { ...options, keepHistory: true })
  if (outcome === undefined) return `seed ${seed} of ${name} passes`
  return [
    `seed ${seed} of ${name}, ${processes} processes x ${rounds} rounds, fails:`,
    ...outcome.violations.map(({ at, detail, oracle }) => `  ${oracle} at ${at.toFixed(3)} ms: ${detail}`),
    `replay: npm run sim -- --seed ${seed} --mix ${name} --processes ${processes} --rounds ${rounds}`,
    `the ${outcome.faults.length} faults that it takes:`,
    ...outcome.faults.map((fault) => `  ${JSON.stringify(fault)}`),
    "what happened:",
    ...outcome.history
  ].join("\n")
}

/**
 * Deterministic simulation: the real core, in processes whose scheduler, clocks and network are made up, against a
 * model server that knows the truth. One seed is one history.
 *
 * It is there for what no test with a real clock can reach: requests that arrive seconds late, processes that stand
 * still between two steps, machines that sleep, clocks that run at different rates, thousands of orders of the same
 * events.
 */
import { caller, freshCall } from "./Caller.ts"
import { type Fault, Faults, type Mix, ttl } from "./Faults.ts"
import type { Model, Surroundings } from "./Model.ts"
import { Network } from "./Network.ts"
import { type Counts, Oracles, type Violation } from "./Oracles.ts"
import { instanceOf, Place } from "./Place.ts"
import { Process } from "./Process.ts"
import { registersOf } from "./Register.ts"
import { serverOf } from "./Server.ts"
import { strokesOf } from "./Strokes.ts"
import { chance, World } from "./World.ts"

export type { Fault, Kind, Mix } from "./Faults.ts"
export { mixes, type MixName } from "./Mixes.ts"
export type { Grant, Model, Surroundings, Truth } from "./Model.ts"
export type { Counts, Oracle, Violation } from "./Oracles.ts"

/**
 * How large a simulation is, and what else is asked of it.
 *
 * **Details**
 *
 * - `processes`, `rounds`: so many processes make so many calls one after the other; default 3 × 3.
 * - `callers`: so many do so at the same time in each process; default 1 or 2, by the seed.
 * - `faults`: these and no others, instead of those that the seed and the mix draw.
 * - `keys`: so many locks; default 1, or 2 in a quarter of the histories.
 * - `model`: what the processes share, instead of the server or the register that the mix names.
 * - `hold`: every call is one guard that holds the lock for so many milliseconds, instead of something by the seed.
 * - `keepHistory`: keeps the history in words.
 *
 * @category models
 */
export interface Options {
  readonly processes?: number | undefined
  readonly rounds?: number | undefined
  readonly callers?: number | undefined
  readonly keys?: number | undefined
  readonly model?: ((of: Surroundings) => Model) | undefined
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
const mostUntilAcquired = ({ mostUntilFree = 1.05 * ttl }: Model) => mostUntilFree + 2000 + 100

/**
 * Simulates the history of `seed` under `mix`.
 *
 * **Details**
 *
 * A history in which a machine slept and a wall clock was set back is judged by its fencing tokens only: together they
 * hide the sleep from both clocks, and no client can notice.
 *
 * Whose lock an operator broke with `now`, or the server forgot, may trust it until he is told, at the latest until it
 * would have expired: so long a second holder may exist, and only the order of their tokens is judged. Who drains a lock
 * excuses nobody.
 *
 * At the end nothing is left: no lease, no queue, no request, no fiber in any process that lives; and a keeper has no
 * fiber at any time at which there is no lease and no call.
 *
 * @category running
 */
export const simulate = (seed: number, mix: Mix, options: Options = {}): Outcome => {
  const { callers = chance(seed, 8)() < 0.5 ? 1 : 2, processes = 3, rounds = 3 } = options
  const { model: makeModel = mix.takeover === "observed" ? registersOf : serverOf } = options
  const rates = chance(seed, 9)
  // Mostly near the limits, where differences matter.
  const rate = () => 1 + Math.cbrt(2 * rates() - 1) * (mix.rate ?? 0)
  const world = new World(seed, { disorder: mix.disorder ?? 0.02, keepHistory: options.keepHistory === true })
  const faults = new Faults(seed, mix, options.faults)
  const oracles: Oracles = new Oracles(world, (key) => model.truthOf(key))
  const of: Surroundings = { world, faults, oracles, network: new Network(world, faults, seed), mix, seed, rate }
  const model = makeModel(of)
  const keys = keysOf(options.keys ?? (options.hold === undefined && chance(seed, 12)() < 0.25 ? 2 : 1))
  const first = new Process(world, 0, seed, rate())
  const placeOf = (id: number) => {
    const process = id === 0 ? first : new Process(world, id, seed, rate())
    if (mix.machine === "one") process.startBeside(first)
    return new Place(of, model, process, keys, options.hold)
  }

  const places = Array.from({ length: processes }, (_, id) => placeOf(id))
  const operator = placeOf(processes)
  world.plan(strokesOf(world, faults, model, places, operator))
  const calling = places.map((place) =>
    Array.from({ length: callers }, (_, index) => place.start(caller(place, index, rounds)))
  )
  if (!world.run(mostSteps)) oracles.violated("rest", `the simulation did not come to rest within ${mostSteps} steps`)
  places.forEach((place, index) => {
    const { backends, process } = place
    if (process.dead) return
    if (calling[index]!.some((fiber) => fiber.pollUnsafe() === undefined)) {
      oracles.violated("rest", `a caller of process ${process.id} did not end`)
    }
    for (const backend of backends) {
      oracles.onRest("rest", instanceOf(backend), undefined, `at the end in process ${process.id}`)
    }
    if (process.open > 0) oracles.violated("rest", `process ${process.id} ended with ${process.open} requests open`)
  })
  for (const { process } of [...places, operator]) {
    if (!process.dead) {
      oracles.onCensus(process, () => true, "at the end")
    }
  }
  if (faults.happened.every(({ kind }) => kind === "interrupt")) {
    for (const key of keys) oracles.onNobody(key, () => true, "at the end")
  }

  faults.heal()
  world.plan([])
  const healed = world.now
  const fresh = placeOf(processes + 1)
  for (const key of keys) {
    let acquired = Infinity
    fresh.start(freshCall(fresh, key, () => acquired = world.now))
    world.run(mostSteps)
    if (acquired - healed > mostUntilAcquired(model)) {
      oracles.violated("liveness", `a fresh client had ${key} ${acquired - healed} ms after everything had healed`)
    }
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

const keysOf = (count: number): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, index) => index === 0 ? "lock" : `lock${index}`)

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
 * What to tell of a seed that fails under the mix of this name: how to replay it, the smallest list of faults, what went
 * wrong, and the history.
 *
 * @category running
 */
export const report = (seed: number, name: string, mix: Mix, options: Options = {}): string => {
  const { processes = 3, rounds = 3 } = options
  const outcome = minimise(seed, mix, { ...options, keepHistory: true })
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

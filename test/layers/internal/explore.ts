/**
 * Runs a scenario under every order of its steps, or under many random ones.
 */
import { processOf, Violation, type World } from "./modelWorld.ts"

/** What can happen besides the processes' own steps. */
export interface Event {
  readonly name: string
  readonly isPossible: (world: World) => boolean
  readonly happen: (world: World) => void
}

/** A world with its processes started, and what must hold when nothing is left to happen. */
export interface Scenario {
  readonly world: World
  readonly events: ReadonlyArray<Event>
  readonly atEnd: () => void
}

/** The passing of time, once. */
export const pass = (millis: number): Event => once(`${millis} ms pass`, (world) => world.pass(millis))

/** The wall clock is set, once. */
export const setWall = (by: number): Event =>
  once(`the wall clock is set by ${by} ms`, (world) => {
    world.wall += by
  })

/** A process dies between two of its steps, or never. */
export const death = (process: string): Event => {
  let died = false
  return {
    name: `${process} dies`,
    isPossible: (world) => !died && world.lanesOf(process).length > 0,
    happen: (world) => {
      died = true
      world.crash(process)
    }
  }
}

const once = (name: string, happen: (world: World) => void): Event => {
  let happened = false
  return {
    name,
    isPossible: () => !happened,
    happen: (world) => {
      happened = true
      world.log.push(name)
      happen(world)
    }
  }
}

/**
 * Runs once; `choose` is asked at every step for one of so many possibilities. Possibility 0 goes on with whoever took
 * the last step, if it can; else with another step of the same process.
 */
const runOnce = (make: () => Scenario, choose: (possibilities: number) => number): void => {
  const { atEnd, events, world } = make()
  let last = ""
  try {
    while (world.pending.size > 0) {
      const distance = (lane: string) => lane === last ? 0 : processOf(lane) === processOf(last) ? 1 : 2
      const processes = [...world.pending.keys()].sort((a, b) => distance(a) - distance(b) || (a < b ? -1 : 1))
      const possible = events.filter((event) => event.isPossible(world))
      const chosen = choose(processes.length + possible.length)
      const process = processes[chosen]
      if (process === undefined) {
        possible[chosen - processes.length]!.happen(world)
        world.check()
      } else {
        last = process
        world.step(process)
      }
    }
    atEnd()
  } catch (error) {
    if (error instanceof Violation) error.message += `\n  ${world.log.join("\n  ")}`
    throw error
  }
}

/** Every order in which at most `switches` times something else happens than the next step of the same process. */
export const everyOrder = (make: () => Scenario, switches = Infinity): number => {
  let prefix: Array<number> = []
  let runs = 0
  while (true) {
    const taken: Array<{ readonly chosen: number; readonly of: number }> = []
    let switched = 0
    runOnce(make, (of) => {
      const chosen = prefix[taken.length] ?? 0
      if (chosen > 0) switched++
      taken.push({ chosen, of: chosen === 0 && switched >= switches ? 1 : of })
      return chosen
    })
    runs++
    // The next order in lexicographic sequence: advance the last choice that has another possibility.
    while (taken.length > 0 && taken.at(-1)!.chosen + 1 >= taken.at(-1)!.of) taken.pop()
    const last = taken.at(-1)
    if (last === undefined) return runs
    prefix = [...taken.slice(0, -1).map(({ chosen }) => chosen), last.chosen + 1]
  }
}

/** So many random orders, the same ones for the same seed. */
export const randomOrders = (make: () => Scenario, runs: number, seed: number): void => {
  const random = mulberry32(seed)
  for (let run = 0; run < runs; run++) {
    // Some runs switch at every step, some seldom: long stretches of one process find what fine mixing does not.
    const stay = random() * 0.9
    runOnce(make, (of) => random() < stay ? 0 : Math.floor(random() * of))
  }
}

const mulberry32 = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

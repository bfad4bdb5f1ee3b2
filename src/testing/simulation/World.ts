/**
 * Virtual time and seeded chance: the world in which simulated processes and their server live. Nothing in it happens
 * twice differently, so one seed is one history.
 */

/**
 * A seeded source of numbers in [0, 1).
 *
 * @category models
 */
export type Chance = () => number

/**
 * A stream of chance of its own for each list of numbers: what one part of a simulation draws does not move the others,
 * so a history changes little when one fault is left out of it.
 *
 * Source: mulberry32 by T. Ettinger (public domain), seeded by a murmur-like mix.
 *
 * @category chance
 */
export const chance = (...of: ReadonlyArray<number>): Chance => {
  let state = 0x9e3779b9
  for (const each of of) state = mix(state, each)
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

const mix = (state: number, value: number): number => {
  let h = Math.imul(state ^ value, 0x85ebca6b)
  h ^= h >>> 13
  h = Math.imul(h, 0xc2b2ae35)
  return h ^ (h >>> 16)
}

/**
 * What runs in a world: it has tasks that are ready, and it may stand still.
 *
 * @category models
 */
export interface Runner {
  readonly ready: Array<() => void>
  readonly dead: boolean
  readonly paused: boolean
  /** When it goes on, if it is paused. */
  readonly resumeAt: number
}

/**
 * Something that happens later.
 *
 * @category models
 */
export interface Timer {
  at: number
  readonly order: number
  readonly run: () => void
  /** Who must be awake for it; `undefined` for what happens outside of all processes. */
  readonly runner: Runner | undefined
  cancelled: boolean
}

/**
 * Something that happens at a time, if anything happens after it at all, and if it then still can.
 *
 * @category models
 */
export interface Stroke {
  readonly at: number
  readonly can: () => boolean
  readonly run: () => void
}

/**
 * Time, chance and the order of events. Times are milliseconds of true time, which no process can read.
 *
 * @category models
 */
export class World {
  now = 0
  steps = 0
  /** A number that differs if anything in the history does. */
  hash = 0x811c9dc5
  /** The history in words, if it is kept. */
  readonly history: Array<string> | undefined
  readonly runners: Array<Runner> = []
  /** Ready tasks are taken in random order and fibers yield at random places, each with this probability. */
  readonly disorder: number
  private readonly timers = new Timers()
  private readonly chance: Chance
  private strokes: ReadonlyArray<Stroke> = []
  private struck = 0
  private order = 0
  /** Operations until a fiber is made to yield again. */
  private untilYield: number

  constructor(seed: number, options: { readonly disorder: number; readonly keepHistory: boolean }) {
    this.chance = chance(seed, 1)
    this.disorder = options.disorder
    this.history = options.keepHistory ? [] : undefined
    this.untilYield = this.drawYield()
  }

  /** Lets `run` happen in `millis`. */
  after(millis: number, run: () => void, runner?: Runner): Timer {
    const timer = { at: this.now + millis, order: this.order++, run, runner, cancelled: false }
    this.timers.push(timer)
    return timer
  }

  /** Lets these happen, in the order of time; they do not make the history longer. */
  plan(strokes: ReadonlyArray<Stroke>): void {
    this.strokes = strokes
    this.struck = 0
  }

  /** Notes that something happened: in the hash, and in words if the history is kept. */
  note(words: string, number = 0): void {
    let hash = Math.imul(this.hash ^ ((this.now * 1024) | 0), 0x01000193)
    hash = Math.imul(hash ^ ((number * 1024) | 0), 0x01000193)
    for (let i = 0; i < words.length; i++) hash = Math.imul(hash ^ words.charCodeAt(i), 0x01000193)
    this.hash = hash
    this.history?.push(`${this.now.toFixed(3).padStart(10)} ${words}${number === 0 ? "" : ` ${number}`}`)
  }

  /** Whether a fiber is made to yield here. */
  yields(): boolean {
    if (--this.untilYield >= 0) return false
    this.untilYield = this.drawYield()
    return true
  }

  /** Runs until nothing is left to happen; `false` if that takes more than `mostSteps`. */
  run(mostSteps: number): boolean {
    const end = this.steps + mostSteps
    while (this.steps < end) {
      this.steps++
      if (this.runTask()) continue
      const timer = this.timers.pop()
      if (timer === undefined) return true
      if (timer.cancelled || timer.runner?.dead === true) continue
      if (this.strike(timer.at)) {
        this.timers.push(timer)
        continue
      }
      if (timer.at > this.now) this.now = timer.at
      if (timer.runner?.paused === true) {
        // All that became due meanwhile happens at once, in any order.
        const shuffle = this.disorder > 0 ? this.chance() : 0
        timer.at = Math.max(timer.runner.resumeAt, this.now) + (1 + shuffle) * 1e-3
        this.timers.push(timer)
        continue
      }
      timer.run()
    }
    return false
  }

  // How many tosses of a coin it takes: one draw instead of one for every operation.
  private drawYield(): number {
    return this.disorder > 0 ? Math.floor(Math.log(1 - this.chance()) / Math.log(1 - this.disorder)) : Infinity
  }

  private strike(until: number): boolean {
    for (let next = this.strokes[this.struck]; next !== undefined && next.at <= until;) {
      this.struck++
      if (next.can()) {
        this.now = Math.max(this.now, next.at)
        next.run()
        return true
      }
      next = this.strokes[this.struck]
    }
    return false
  }

  private runTask(): boolean {
    let ready = 0
    for (const runner of this.runners) {
      if (!runner.paused && !runner.dead) ready += runner.ready.length
    }
    if (ready === 0) return false
    let index = this.disorder > 0 ? Math.floor(this.chance() * ready) : 0
    for (const { dead, paused, ready } of this.runners) {
      if (paused || dead) continue
      if (index >= ready.length) {
        index -= ready.length
        continue
      }
      const task = ready.splice(index, 1)[0]!
      task()
      return true
    }
    return false
  }
}

// A binary heap by time, then by order of making.
class Timers {
  private readonly heap: Array<Timer> = []

  push(timer: Timer): void {
    const { heap } = this
    let place = heap.push(timer) - 1
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (!isBefore(timer, heap[parent]!)) break
      heap[place] = heap[parent]!
      place = parent
    }
    heap[place] = timer
  }

  pop(): Timer | undefined {
    const { heap } = this
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    let place = 0
    for (;;) {
      let child = 2 * place + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, last)) break
      heap[place] = heap[child]!
      place = child
    }
    heap[place] = last
    return first
  }
}

const isBefore = (a: Timer, b: Timer): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)

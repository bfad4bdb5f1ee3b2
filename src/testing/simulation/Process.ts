/**
 * One simulated process: a scheduler that runs its fibers in random order and makes them yield at random, clocks of its
 * own that may run at a wrong rate, be set, or stand still, and everything else that a program could read chance from.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"
import { type Chance, chance, type Runner, type World } from "./World.ts"

// Fibers that never yield by themselves would not see each other's effects.
const mostOperations = 2000

const epoch = 1_700_000_000_000

/**
 * A process of the simulation.
 *
 * @category models
 */
export class Process implements Runner {
  readonly id: number
  readonly ready: Array<() => void> = []
  readonly clock: Clock.Clock
  /** What its fibers run with. */
  readonly context: Context.Context<never>
  dead = false
  paused = false
  resumeAt = 0
  /** Every fiber that has run in it. */
  readonly fibers = new Set<Fiber.Fiber<unknown, unknown>>()
  /** Requests sent so far, requests under way, and what went wrong that a caller may rightly call an outage. */
  sent = 0
  open = 0
  troubles = 0
  /** When the server said what the process last heard of a lock. */
  readonly knowsAsOf = new Map<string, number>()
  /** Faults after which something may rightly be left until its ttl ends. */
  hampered = 0
  /** The locks whose last try was not answered. */
  readonly isOut = new Set<string>()
  private readonly world: World
  /** How much faster than true time its clocks run. */
  private readonly rate: number
  private wallOffset = 0
  private pausedFor = 0
  private suspendedFor = 0

  constructor(world: World, id: number, seed: number, rate: number) {
    this.world = world
    this.id = id
    this.rate = rate
    world.runners.push(this)
    this.clock = this.makeClock()
    this.context = Context.make(Clock.Clock, this.clock).pipe(
      Context.add(Scheduler.Scheduler, this.makeScheduler()),
      Context.add(Random.Random, randomOf(chance(seed, 2, id))),
      Context.add(References.MinimumLogLevel, "None")
    )
  }

  /** Milliseconds for which it has not stood still. */
  get active(): number {
    return this.world.now - this.pausedFor
  }

  /** The fibers that have not ended, in words. */
  get alive(): ReadonlyArray<"keeper" | "fiber"> {
    const alive: Array<"keeper" | "fiber"> = []
    for (const fiber of this.fibers) {
      if (fiber.pollUnsafe() !== undefined) this.fibers.delete(fiber)
      // The keeper's have a clock and a scheduler, and nothing else of the process.
      else alive.push(fiber.context.mapUnsafe.has(Random.Random.key) ? "fiber" : "keeper")
    }
    return alive
  }

  /** Stands still for `millis`, as under SIGSTOP; `asleep`: the whole machine does, and its monotonic clock too. */
  pause(millis: number, asleep: boolean): void {
    if (this.paused || this.dead) return
    this.troubles++
    this.paused = true
    this.resumeAt = this.world.now + millis
    this.world.after(millis, () => {
      this.paused = false
      this.pausedFor += millis
      if (asleep) this.suspendedFor += millis
    })
  }

  /** Sets its wall clock by `millis`. */
  setWall(millis: number): void {
    this.troubles++
    this.wallOffset += millis
  }

  /** Its wall clock is that of `other`, on whose machine it starts. */
  startBeside(other: Process): void {
    this.wallOffset = other.wallOffset
  }

  /** Ends it, as kill -9 does. */
  kill(): void {
    this.dead = true
    this.ready.length = 0
  }

  private get monotonic(): number {
    return (this.world.now - this.suspendedFor) * this.rate
  }

  private makeScheduler(): Scheduler.Scheduler {
    const dispatcher: Scheduler.SchedulerDispatcher = {
      scheduleTask: (task) => {
        if (!this.dead) this.ready.push(task)
      },
      flush: () => {}
    }
    return {
      executionMode: "sync",
      makeDispatcher: () => dispatcher,
      shouldYield: (fiber) => {
        // The first operation after it was resumed, of every fiber that there is.
        if (fiber.currentOpCount === 1) this.fibers.add(fiber)
        return fiber.currentOpCount > mostOperations || this.world.yields()
      }
    }
  }

  private makeClock(): Clock.Clock {
    const wall = () => Math.floor(this.world.now * this.rate + this.wallOffset + epoch)
    const wallNanos = () => BigInt(wall()) * 1_000_000n
    const monotonicNanos = () => BigInt(Math.floor(this.monotonic * 1e6))
    return {
      currentTimeMillisUnsafe: wall,
      currentTimeMillis: Effect.sync(wall),
      currentTimeNanosUnsafe: wallNanos,
      currentTimeNanos: Effect.sync(wallNanos),
      monotonicTimeNanosUnsafe: monotonicNanos,
      monotonicTimeNanos: Effect.sync(monotonicNanos),
      sleep: (duration) => this.sleep(Duration.toMillis(duration))
    }
  }

  // By the monotonic clock: a machine that sleeps sleeps longer.
  private sleep(millis: number): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      const until = this.monotonic + millis
      const wake = () => {
        const left = until - this.monotonic
        if (left > 1e-6) timer = this.world.after(left / this.rate, wake, this)
        else resume(Effect.void)
      }
      let timer = this.world.after(millis / this.rate, wake, this)
      return Effect.sync(() => {
        timer.cancelled = true
      })
    })
  }
}

const randomOf = (next: Chance): typeof Random.Random.Service => ({
  nextDoubleUnsafe: next,
  nextIntUnsafe: () => Math.floor((next() * 2 - 1) * Number.MAX_SAFE_INTEGER)
})

/**
 * The keeper of one backend instance: wakes leases when something of theirs is due (a renewal, jeopardy, the end of
 * trust) and whatever else waits for a moment, with one timer for all of them and none while there are none.
 *
 * Loss is found here without I/O, so a hung connection can't hide it.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import * as Lease from "../Lease.ts"

/** What the keeper keeps, a lease or a wait; times in milliseconds of the monotonic clock. */
export interface Kept {
  /** When `onDue` wants to be called; the keeper orders by it. */
  dueAt: number
  /** Its place in the keeper's heap, −1 when it has none; the keeper's own. */
  place: number
  /** A step of the wall clock is noticed within a tenth of this; `Infinity` where only the monotonic one counts. */
  readonly ttl: number
  /** Does what is due at `now` and sets a later `dueAt`, or leaves the keeper. */
  onDue(now: Lease.Stamp): void
}

// Below this, the two clocks differ by reading and rounding only.
const clockNoise = 2

/** One keeper serves the leases of one backend instance that live on the same clock. */
export class Keeper {
  readonly clock: Clock.Clock
  private readonly context: Context.Context<never>
  private readonly heap: Array<Kept> = []
  private readonly dispatcher: Scheduler.SchedulerDispatcher
  private timer: Fiber.Fiber<void> | undefined
  private timerAt = Infinity
  private settlingSoon = false
  private ticking = false
  private tickEvery = Infinity
  private wallLead = -Infinity

  constructor(fiber: Fiber.Fiber<unknown, unknown>, clock: Clock.Clock) {
    this.clock = clock
    // Not the whole context of the first acquisition: that would keep its services and spans alive.
    this.context = Context.make(Clock.Clock, clock).pipe(Context.add(Scheduler.Scheduler, fiber.cache.scheduler))
    this.dispatcher = fiber.cache.scheduler.makeDispatcher()
  }

  get size(): number {
    return this.heap.length
  }

  /** Takes one in, or notes that its `dueAt` changed. */
  keep(kept: Kept, now: Lease.Stamp): void {
    if (kept.place < 0) {
      if (this.heap.length === 0) {
        this.wallLead = Infinity
        this.tickEvery = Infinity
      }
      this.wallLead = Math.min(this.wallLead, now.wall - now.monotonic)
      this.tickEvery = Math.min(this.tickEvery, 1000, kept.ttl / 10)
      kept.place = this.heap.push(kept) - 1
      this.up(kept)
    } else {
      this.up(kept)
      this.down(kept)
    }
    if (Math.min(this.heap[0]!.dueAt, now.monotonic + this.tickEvery) < this.timerAt) this.settleSoon()
  }

  /** Lets one go. */
  drop(kept: Kept): void {
    const place = kept.place
    if (place < 0) return
    kept.place = -1
    const last = this.heap.pop()!
    if (last !== kept) {
      last.place = place
      this.heap[place] = last
      this.up(last)
      this.down(last)
    }
    if (this.heap.length === 0 && this.timer !== undefined) this.settleSoon()
  }

  private tick(): void {
    this.ticking = true
    const now = Lease.stamp(this.clock)
    // The wall clock ran ahead of the monotonic one: the machine slept, or the clock was set. Trust ends by the larger
    // difference, but what is due is ordered by the monotonic one, so everybody must look again.
    const lead = now.wall - now.monotonic
    if (lead > this.wallLead + clockNoise) {
      this.wallLead = lead
      for (const kept of this.heap.slice()) {
        if (kept.place >= 0) this.due(kept, now)
      }
    } else if (lead < this.wallLead) {
      this.wallLead = lead
    }
    let first = this.heap[0]
    while (first !== undefined && first.dueAt <= now.monotonic + Lease.roundOff) {
      this.due(first, now)
      first = this.heap[0]
    }
    this.ticking = false
    if (first !== undefined) this.arm(now)
  }

  private due(kept: Kept, now: Lease.Stamp): void {
    kept.onDue(now)
    if (kept.place < 0) return
    // Whatever a lease answers, the loop in `tick` must end.
    if (kept.dueAt <= now.monotonic + Lease.roundOff) kept.dueAt = now.monotonic + 1
    this.up(kept)
    this.down(kept)
  }

  // Not here and now: most leases are given back before anything else gets to run, most calls are followed by another,
  // and a timer costs more than they do. A timer that is too early stays: it costs one look.
  private settleSoon(): void {
    // A tick arms it once, when all is done.
    if (this.settlingSoon || this.ticking) return
    this.settlingSoon = true
    this.dispatcher.scheduleTask(() => {
      this.settlingSoon = false
      if (this.heap.length > 0) this.arm(Lease.stamp(this.clock))
      // Whoever is next in a queue is called by a task behind this one, and will need the timer that stands.
      else this.dispatcher.scheduleTask(() => this.heap.length === 0 && this.disarm(), 0)
    }, 0)
  }

  // The timer never sleeps longer than a tick: a step of the wall clock wakes nobody by itself.
  private arm(now: Lease.Stamp): void {
    const at = Math.min(this.heap[0]!.dueAt, now.monotonic + this.tickEvery)
    if (at >= this.timerAt) return
    this.disarm()
    this.timerAt = at
    const timer = Effect.runForkWith(this.context)(
      Effect.andThen(
        nap(Math.max(at - now.monotonic, 0)),
        Effect.sync(() => {
          this.timer = undefined
          this.timerAt = Infinity
          this.tick()
        })
      )
    )
    if (timer.pollUnsafe() === undefined) this.timer = timer
  }

  private disarm(): void {
    const timer = this.timer
    this.timer = undefined
    this.timerAt = Infinity
    timer?.interruptUnsafe()
  }

  // A binary heap with known places, because most leases leave long before they are due.

  private up(kept: Kept): void {
    let place = kept.place
    while (place > 0) {
      const parent = this.heap[(place - 1) >> 1]!
      if (parent.dueAt <= kept.dueAt) break
      this.put(parent, place)
      place = (place - 1) >> 1
    }
    this.put(kept, place)
  }

  private down(kept: Kept): void {
    const size = this.heap.length
    let place = kept.place
    for (;;) {
      let child = 2 * place + 1
      if (child >= size) break
      if (child + 1 < size && this.heap[child + 1]!.dueAt < this.heap[child]!.dueAt) child++
      const smallest = this.heap[child]!
      if (smallest.dueAt >= kept.dueAt) break
      this.put(smallest, place)
      place = child
    }
    this.put(kept, place)
  }

  private put(kept: Kept, place: number): void {
    kept.place = place
    this.heap[place] = kept
  }
}

/**
 * Sleeps for `millis`; for a fraction, less half of what is one moment anyway, because the sum of fractions would else
 * end a trifle beyond the moment that was meant.
 */
export const nap = (millis: number): Effect.Effect<void> =>
  Effect.sleep(Duration.millis(Number.isInteger(millis) ? millis : Math.max(millis - Lease.roundOff / 2, 0)))

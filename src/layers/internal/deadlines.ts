/**
 * The deadlines of what is in flight, commands or polls: one timer for all of them, none for each.
 *
 * The timer is set to the earliest deadline it was told of and looks at all of them when it fires. What was
 * answered leaves it set: as the deadlines of one program are much alike, it fires about once per timeout.
 */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"

/** What is in flight. `deadline` is in milliseconds of `Deadlines.now`. */
export interface Timed {
  readonly deadline: number
  readonly expire: () => void
}

/** Those in flight. */
export class Deadlines<T extends Timed> {
  private readonly clock: Clock.Clock
  private readonly pending = new Set<T>()
  private next = Infinity
  private timer: Fiber.Fiber<void> | undefined

  constructor(clock: Clock.Clock) {
    this.clock = clock
  }

  /** Monotonic milliseconds. */
  now(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe()) / 1e6
  }

  add(timed: T): void {
    this.pending.add(timed)
    if (timed.deadline < this.next) this.arm(timed.deadline)
  }

  delete(timed: T): void {
    this.pending.delete(timed)
  }

  /** No timer is left; answers what was in flight. */
  stop(): ReadonlyArray<T> {
    const left = [...this.pending]
    this.pending.clear()
    this.next = Infinity
    this.timer?.interruptUnsafe()
    this.timer = undefined
    return left
  }

  private arm(at: number): void {
    this.timer?.interruptUnsafe()
    this.next = at
    const nap = this.clock.sleep(Duration.millis(Math.max(Math.ceil(at - this.now()), 1)))
    this.timer = Effect.runForkWith(Context.empty())(Effect.andThen(nap, Effect.sync(() => this.sweep())))
  }

  private sweep(): void {
    const now = this.now()
    this.timer = undefined
    this.next = Infinity
    let earliest = Infinity
    for (const timed of this.pending) {
      if (timed.deadline > now) earliest = Math.min(earliest, timed.deadline)
      else {
        this.pending.delete(timed)
        timed.expire()
      }
    }
    // Whoever was told may have sent another command.
    if (earliest < this.next) this.arm(earliest)
  }
}

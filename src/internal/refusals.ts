/**
 * What one caller has been refused so far: when to try again, and what to tell when it gives up.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import * as Lease from "../Lease.ts"
import { type LockBackendError, LockContended } from "../LockError.ts"
import { isBlind, type WaitSchedule } from "../LockOptions.ts"
import { timedOut } from "./bounded.ts"
import type { LocalQueue, Place } from "./localQueue.ts"

type Step = (now: number, input: LockContended) => Pull.Pull<[unknown, Duration.Duration], never, unknown>

/** The refusals of one acquire call, by the backend or by the local queue. */
export class Refusals {
  private readonly schedule: WaitSchedule
  private readonly clock: Clock.Clock
  private readonly queue: LocalQueue
  private readonly place: Place
  private readonly backend: string
  private step: Step | undefined
  count = 0

  constructor(schedule: WaitSchedule, clock: Clock.Clock, queue: LocalQueue, place: Place, backend: string) {
    this.schedule = schedule
    this.clock = clock
    this.queue = queue
    this.place = place
    this.backend = backend
  }

  /** The schedule's next delay, in milliseconds; its end is the end of the waiting. */
  get nextDelay(): Effect.Effect<number, LockContended> {
    return Effect.suspend(() => {
      const step = this.step
      if (step === undefined) {
        return Effect.flatMap(Schedule.toStep(this.schedule), (step) => {
          this.step = step
          return this.nextDelay
        })
      }
      // Making an error, with its stack, costs more than all else of a refusal.
      const refused = isBlind(this.schedule) ? unseen : this.contended("ScheduleOver")
      return Pull.matchEffect(step(this.clock.currentTimeMillisUnsafe(), refused), {
        onSuccess: ([, delay]) => Effect.succeed(Duration.toMillis(delay)),
        onDone: () => Effect.fail(this.contended("ScheduleOver")),
        onFailure: (cause) => Effect.failCause(cause)
      })
    })
  }

  contended(reason: LockContended["reason"]): LockContended {
    const { holder, key, refusedBy } = this.queue
    const holders = holder === undefined ? refusedBy ?? [] : [holder.describe()]
    return new LockContended({ key, reason, attempts: this.count, waited: Duration.millis(this.waited), holders })
  }

  /** What to tell when the wait is over: contention only if somebody is known to have the lock, else the outage. */
  get waitOver(): LockContended | LockBackendError {
    const { holder, key, outage, refusedBy } = this.queue
    if (holder !== undefined || refusedBy !== undefined) return this.contended("WaitOver")
    return outage?.error ?? timedOut({ backend: this.backend, operation: "acquire", key, budget: this.waited })
  }

  private get waited(): number {
    return Lease.stamp(this.clock).monotonic - this.place.since
  }
}

const unseen = undefined as never as LockContended

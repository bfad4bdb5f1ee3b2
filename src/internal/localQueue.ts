/**
 * One contender per process, backend instance and key: callers queue here, and only the one whose turn it is talks to
 * the backend.
 */
import type * as Fiber from "effect/Fiber"
import type { Holder } from "../Holder.ts"
import type { LockBackendError } from "../LockError.ts"

/** What the backend last said of a key, shared by everybody who queues for it. */
export interface Outage {
  /** Monotonic milliseconds of the first failure since the last conclusive answer. */
  readonly since: number
  readonly error: LockBackendError
}

/** Why a parked caller is woken: its turn has come, or it must give up with this error. */
export type Wake = "turn" | LockBackendError

/**
 * One caller's place in a queue. It has the turn from the moment it is given, not from the moment it runs: whoever
 * ends must `leave`, wherever it stands.
 */
export class Place {
  previous: Place | undefined
  next: Place | undefined
  state: "parked" | "turn" | "left" = "left"
  /** Why it was woken, once it is; kept because it may not be parked at that moment. */
  woken: Wake | undefined
  wake: ((reason: Wake) => void) | undefined
  readonly fiber: Fiber.Fiber<unknown, unknown>
  /** Monotonic milliseconds: when it came, when its `wait` ends. */
  readonly since: number
  readonly until: number
  readonly outageBudget: number

  constructor(fiber: Fiber.Fiber<unknown, unknown>, since: number, wait: number, outageBudget: number) {
    this.fiber = fiber
    this.since = since
    this.until = since + wait
    this.outageBudget = outageBudget
  }
}

/** Who holds the turn's lease, for those who wait behind it. */
export interface LocalHolder {
  readonly describe: () => Holder
}

/** The queue of one key. */
export class LocalQueue {
  readonly key: string
  private readonly queues: Map<string, LocalQueue>
  private turn: Place | undefined
  private first: Place | undefined
  private last: Place | undefined
  parked = 0
  /** The lease of whoever has the turn, once granted. */
  holder: LocalHolder | undefined
  /** The holders of the last conclusive answer; `undefined` if that was not a refusal. */
  refusedBy: ReadonlyArray<Holder> | undefined
  outage: Outage | undefined
  /** Tells the caller that has the turn, while it pauses, that somebody came to wait behind it. */
  nudge: (() => void) | undefined

  private constructor(queues: Map<string, LocalQueue>, key: string) {
    this.queues = queues
    this.key = key
  }

  /** The queue of `key`, made when it is first needed; it goes when nobody is left in it. */
  static of(queues: Map<string, LocalQueue>, key: string): LocalQueue {
    const existing = queues.get(key)
    if (existing !== undefined) return existing
    const queue = new LocalQueue(queues, key)
    queues.set(key, queue)
    return queue
  }

  get isFree(): boolean {
    return this.turn === undefined
  }

  /** Takes the turn if it is free, else the last place in the line. */
  enter(place: Place): void {
    if (this.turn === undefined) {
      this.turn = place
      place.state = "turn"
      return
    }
    place.state = "parked"
    place.previous = this.last
    if (this.last === undefined) this.first = place
    else this.last.next = place
    this.last = place
    this.parked++
    this.nudge?.()
  }

  /** Gives up a place; a turn passes to the next in line. Idempotent. */
  leave(place: Place): void {
    if (place.state === "parked") {
      this.unlink(place)
    } else if (place.state === "turn") {
      this.holder = undefined
      this.nudge = undefined
      this.turn = this.first
      if (this.turn !== undefined) {
        this.unlink(this.turn)
        this.turn.state = "turn"
        rouse(this.turn, "turn")
      }
    }
    place.state = "left"
    if (this.turn === undefined && this.queues.get(this.key) === this) this.queues.delete(this.key)
  }

  /** The shortest wait left among those in line, in milliseconds; `Infinity` if nobody's is bounded. */
  shortestWait(now: number): number {
    let shortest = Infinity
    for (let place = this.first; place !== undefined; place = place.next) {
      if (place.until - now < shortest) shortest = place.until - now
    }
    return shortest
  }

  /**
   * Wakes everybody in line whose budget for this outage is spent: they need not fail one after the other, each after
   * a try of its own.
   */
  failParked(outage: Outage, now: number): void {
    for (let place = this.first; place !== undefined;) {
      const next: Place | undefined = place.next
      if (now - Math.max(place.since, outage.since) >= place.outageBudget) this.expel(place, outage.error)
      place = next
    }
  }

  /** Wakes everybody in line with `error`, and whoever has the turn from its pause. */
  close(error: LockBackendError): void {
    while (this.first !== undefined) this.expel(this.first, error)
    this.nudge?.()
  }

  private expel(place: Place, error: LockBackendError): void {
    this.unlink(place)
    place.state = "left"
    rouse(place, error)
  }

  private unlink(place: Place): void {
    if (place.previous === undefined) this.first = place.next
    else place.previous.next = place.next
    if (place.next === undefined) this.last = place.previous
    else place.next.previous = place.previous
    place.previous = undefined
    place.next = undefined
    this.parked--
  }
}

// Through the scheduler: resuming on the releasing fiber's stack would nest ten thousand waiters that hand over to
// each other.
const rouse = (place: Place, reason: Wake): void => {
  place.woken = reason
  place.fiber.currentDispatcher.scheduleTask(() => place.wake?.(reason), 0)
}

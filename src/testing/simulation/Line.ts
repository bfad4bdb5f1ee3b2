/**
 * The line of a fair model server: it gives a lock that is free to whoever came first, for a while in which that one has
 * to come, and tells it.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type * as LockBackend from "../../LockBackend.ts"
import type { Network } from "./Network.ts"
import type { Process } from "./Process.ts"

/**
 * How long a lock is given to somebody who has not come for it yet, in milliseconds.
 *
 * @category constants
 */
export const window = 200

/**
 * Who waits for one lock.
 *
 * @category models
 */
export class Line {
  private readonly waiting = new Map<string, Inbox>()

  /** Comes to the end of the line, unless it is in it. */
  join(ownerId: string, inbox: Inbox): void {
    if (!this.waiting.has(ownerId)) this.waiting.set(ownerId, inbox)
  }

  leave(ownerId: string): void {
    this.waiting.delete(ownerId)
  }

  clear(): void {
    this.waiting.clear()
  }

  /** Takes the first one out whose process lives. */
  next(): { readonly ownerId: string; readonly inbox: Inbox } | undefined {
    for (const [ownerId, inbox] of this.waiting) {
      this.waiting.delete(ownerId)
      if (!inbox.isGone) return { ownerId, inbox }
    }
    return undefined
  }
}

interface Waiter {
  /** The token of what it was given, since its last try was sent. */
  given: number | undefined
  /** The token of whoever had the lock when that try was refused. */
  refusedBy: number | undefined
  called: boolean
  wake: (() => void) | undefined
}

/**
 * Where one process hears what it was given.
 *
 * @category models
 */
export class Inbox {
  private readonly network: Network
  private readonly process: Process
  private readonly waiters = new Map<string, Waiter>()

  constructor(network: Network, process: Process) {
    this.network = network
    this.process = process
  }

  get isGone(): boolean {
    return this.process.dead
  }

  /** From the server, so it comes late or not at all. */
  tell(ownerId: string, fence: number): void {
    this.network.tell(this.process, () => {
      const waiter = this.waiters.get(ownerId)
      if (waiter === undefined) return
      waiter.given = fence
      waiter.called = true
      waiter.wake?.()
    })
  }

  /** A try is sent. */
  enter(ownerId: string): void {
    this.waiters.set(ownerId, { given: undefined, refusedBy: undefined, called: false, wake: undefined })
  }

  refused(ownerId: string, by: number | undefined): void {
    const waiter = this.waiters.get(ownerId)
    if (waiter !== undefined) waiter.refusedBy = by
  }

  /** What `ownerId` was given since its last try was refused. */
  take(ownerId: string): number | undefined {
    const waiter = this.waiters.get(ownerId)
    if (waiter?.given === undefined || waiter.refusedBy === undefined) return undefined
    if (waiter.given <= waiter.refusedBy) return undefined
    this.waiters.delete(ownerId)
    return waiter.given
  }

  /** Calls `wake` when something was given to `ownerId`, at once if it was; returns what undoes that. */
  watch(ownerId: string, wake: () => void): () => void {
    const waiter = this.waiters.get(ownerId)
    if (waiter === undefined) return () => {}
    if (waiter.called) wake()
    waiter.wake = wake
    return () => {
      waiter.wake = undefined
    }
  }
}

/**
 * The grant of what was given.
 *
 * @category constructors
 */
export const provisional = (fence: number): LockBackend.Acquired => ({
  _tag: "Acquired",
  fencingToken: Option.some(BigInt(fence)),
  handle: String(fence),
  grantedTtl: Duration.millis(window),
  provisional: true
})

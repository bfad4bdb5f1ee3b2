/**
 * What must never happen, checked from outside: against the server's truth and true time, which no process knows.
 */
import * as Cause from "effect/Cause"
import type * as Exit from "effect/Exit"
import type { HeldLease } from "../../internal/heldLease.ts"
import type { Instance } from "../../internal/instance.ts"
import * as Lease from "../../Lease.ts"
import type { LockBackendError, LockContended } from "../../LockError.ts"
import { ttl } from "./Faults.ts"
import type { Process } from "./Process.ts"
import type { Truth } from "./Server.ts"
import type { World } from "./World.ts"

/**
 * What an oracle watches.
 *
 * **Details**
 *
 * - `trust`: a write made while the lease was trusted, although the server gave the lock to somebody else or to nobody.
 * - `fence`: a trusted write that the fenced resource refused.
 * - `order`: a grant whose token is not larger than all before it.
 * - `revenant`: a released owner id took the lock again.
 * - `late`: a guarded body ran on after trust had ended.
 * - `residue`: something was left after an interruption on a healthy network.
 * - `liveness`: a fresh client did not get the lock in time after everything had healed.
 * - `rest`: something went on after the end: a timer, a request, a fiber.
 * - `error`: contention told although nobody else had the lock, or an outage told although there was none; or a defect.
 *
 * @category models
 */
export type Oracle = "trust" | "fence" | "order" | "revenant" | "late" | "residue" | "liveness" | "rest" | "error"

/**
 * One thing that must not happen, and did.
 *
 * @category models
 */
export interface Violation {
  readonly oracle: Oracle
  readonly at: number
  readonly detail: string
}

/**
 * How many of what happened, for judging whether a run has tested anything.
 *
 * @category models
 */
export interface Counts {
  acquired: number
  contended: number
  outages: number
  lost: number
  interrupted: number
  trustedWrites: number
  otherWrites: number
}

/**
 * How long one backend call of the simulation may take, in milliseconds.
 *
 * @category constants
 */
export const operationTimeout = ttl / 4

// How often a monitor looks, and how long after its trust a body may run on: one tick of the keeper, which notices a
// wall clock that was set, one look, and the difference of clock rates.
const look = 20
const mostLate = ttl / 10 * 1.05 + look + 5

/**
 * The judge of one history.
 *
 * @category models
 */
export class Oracles {
  readonly violations: Array<Violation> = []
  readonly counts: Counts = {
    acquired: 0,
    contended: 0,
    outages: 0,
    lost: 0,
    interrupted: 0,
    trustedWrites: 0,
    otherWrites: 0
  }
  private readonly world: World
  private readonly truth: () => Truth
  /** The largest token that the fenced resource has seen, and the largest granted. */
  private seen = 0
  private granted = 0

  constructor(world: World, truth: () => Truth) {
    this.world = world
    this.truth = truth
  }

  violated(oracle: Oracle, detail: string): void {
    this.world.note(`VIOLATION ${oracle}: ${detail}`)
    this.violations.push({ oracle, at: this.world.now, detail })
  }

  /** A write to a resource that refuses smaller tokens; `isTrusted` was read at this very moment. */
  onWrite(ownerId: string, fence: number, isTrusted: boolean): void {
    this.world.note(`write ${ownerId} ${isTrusted ? "trusted" : "late"}`, fence)
    if (isTrusted) this.counts.trustedWrites++
    else this.counts.otherWrites++
    const isAccepted = fence >= this.seen
    if (isTrusted) {
      const holder = this.truth().holder()
      if (holder?.ownerId !== ownerId || holder.fence !== fence) {
        const who = holder === undefined ? "nobody has it" : `${holder.ownerId} has it with token ${holder.fence}`
        this.violated("trust", `${ownerId} trusted its lease with token ${fence}, but ${who}`)
      }
      if (!isAccepted) this.violated("fence", `${ownerId} wrote with token ${fence} after ${this.seen} was seen`)
    }
    if (isAccepted) this.seen = fence
  }

  /** The server granted the lock. */
  onGrant(ownerId: string, fence: number): void {
    if (fence <= this.granted) this.violated("order", `${ownerId} was granted token ${fence} after ${this.granted}`)
    this.granted = fence
  }

  /** A body that runs under `lease`; what is returned says that it has ended. */
  onBody(process: Process, lease: HeldLease): () => void {
    let over = false
    let endedAt = -1
    const watch = () => {
      if (over || process.dead) return
      this.world.after(look, watch)
      // A process that stands still can't stop anything; time counts while it runs.
      if (process.paused) return
      const left = lease.hasEnded ? 0 : lease.renewal.remaining(Lease.stamp(process.clock))
      // A clock that was set forth and back again before anybody looked has ended nothing.
      if (left > 0) endedAt = -1
      else if (endedAt < 0) endedAt = process.active
      else if (process.active - endedAt > mostLate) {
        over = true
        this.violated("late", `${lease.ownerId} ran on ${process.active - endedAt} ms after its trust had ended`)
      }
    }
    watch()
    return () => {
      over = true
    }
  }

  /** A call has ended; what it tells must be so. `before` was noted at its start. */
  onExit(process: Process, call: string, before: Before, exit: Exit.Exit<unknown, CallError>): void {
    const { counts } = this
    if (exit._tag === "Success") {
      this.world.note(`${call} succeeded`)
      return
    }
    const cause = exit.cause
    this.world.note(
      `${call} ${cause.reasons.map((reason) => reason._tag === "Fail" ? reason.error._tag : reason._tag)}`
    )
    if (Cause.hasDies(cause)) this.violated("error", `${call} died: ${String(Cause.squash(cause))}`)
    const found = Cause.findErrorOption(cause)
    if (found._tag === "None") {
      counts.interrupted++
      return
    }
    const error = found.value
    if (error._tag === "LockContended") {
      counts.contended++
      // The last answer counts until there is another, also for who comes to wait behind the one who got it.
      const isOther = ({ from, ownerId, until }: { ownerId: string; from: number; until: number }) =>
        !ownerId.startsWith(`${call}.`) && from <= this.world.now && until >= before.knowsAsOf
      if (!this.truth().grants.some(isOther)) {
        this.violated("error", `${call} was told of contention (${error.reason}), but nobody else had the lock`)
      }
    } else if (error._tag === "LockBackendError") {
      counts.outages++
      // Neither an answer nor a trouble yet: "don't know" is all that there is to tell.
      const isUnderWay = error.reason._tag === "TimedOut" && process.open > 0
      if (!before.isOut && process.troubles === before.troubles && !isUnderWay) {
        this.violated("error", `${call} was told of an outage (${error.reason._tag}), but there was none`)
      }
    } else if (error._tag === "LockLost") {
      counts.lost++
    } else {
      this.violated("error", `${call} failed with ${error._tag}`)
    }
  }

  /** What is left of a call, or of a whole process if `call` is `undefined`. */
  onRest(oracle: "residue" | "rest", instance: Instance | undefined, call: string | undefined, when: string): void {
    const isOf = (ownerId: string): boolean => call === undefined || ownerId.startsWith(`${call}.`)
    for (const lease of instance?.leases ?? []) {
      if (isOf(lease.ownerId)) this.violated(oracle, `the lease ${lease.ownerId} was left ${when}`)
    }
    if (call === undefined && instance !== undefined && instance.queues.size > 0) {
      this.violated(oracle, `a local queue was left ${when}`)
    }
    const holder = this.truth().holder()
    if (oracle === "residue" && holder !== undefined && isOf(holder.ownerId)) {
      this.violated(oracle, `${holder.ownerId} still had the lock ${when}`)
    }
  }
}

/**
 * What a call can fail with.
 *
 * @category models
 */
export type CallError = LockContended | LockBackendError | { readonly _tag: "LockLost" | "InvalidLockRequest" }

/**
 * How things stood when a call began.
 *
 * @category models
 */
export interface Before {
  readonly knowsAsOf: number
  readonly troubles: number
  readonly isOut: boolean
}

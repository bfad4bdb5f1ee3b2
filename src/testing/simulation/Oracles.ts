/**
 * What must never happen, checked from outside: against the server's truth and true time, which no process knows.
 */
import * as Cause from "effect/Cause"
import type * as Exit from "effect/Exit"
import type { HeldLease } from "../../internal/heldLease.ts"
import type { Instance } from "../../internal/instance.ts"
import * as Lease from "../../Lease.ts"
import type { InvalidLockRequest, LockBackendError, LockContended, LockLost } from "../../LockError.ts"
import { ttl } from "./Faults.ts"
import type { Truth } from "./Model.ts"
import type { Process } from "./Process.ts"
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
  private readonly truthOf: (key: string) => Truth
  private readonly resources = new Map<string, Resource>()
  /** Owner ids whose lock was taken from them, and until when they may not know it. */
  private readonly overruled = new Map<string, number>()
  /** Owner ids whose lock an operator wanted to break. */
  private readonly named = new Set<string>()

  constructor(world: World, truthOf: (key: string) => Truth) {
    this.world = world
    this.truthOf = truthOf
  }

  violated(oracle: Oracle, detail: string): void {
    this.world.note(`VIOLATION ${oracle}: ${detail}`)
    this.violations.push({ oracle, at: this.world.now, detail })
  }

  /** A write to a resource that refuses smaller tokens; `isTrusted` was read at this very moment. */
  onWrite(key: string, ownerId: string, fence: number, isTrusted: boolean): void {
    this.world.note(`write ${ownerId} ${isTrusted ? "trusted" : "late"}`, fence)
    if (isTrusted) this.counts.trustedWrites++
    else this.counts.otherWrites++
    const resource = this.resourceOf(key)
    const isAccepted = fence >= resource.seen
    if (isTrusted && !(this.world.now <= (this.overruled.get(ownerId) ?? -1))) {
      const holder = this.truthOf(key).holder()
      if (holder?.ownerId !== ownerId || holder.fence !== fence) {
        const who = holder === undefined ? "nobody has it" : `${holder.ownerId} has it with token ${holder.fence}`
        this.violated("trust", `${ownerId} trusted its lease with token ${fence}, but ${who}`)
      }
      if (!isAccepted) this.violated("fence", `${ownerId} wrote with token ${fence} after ${resource.seen} was seen`)
    }
    if (!isAccepted) return
    if (fence === resource.seen && resource.seenOf !== ownerId) {
      this.violated("fence", `${ownerId} and ${resource.seenOf} both wrote with token ${fence}`)
    }
    resource.seen = fence
    resource.seenOf = ownerId
  }

  /** The server granted the lock. */
  onGrant(key: string, ownerId: string, fence: number): void {
    const resource = this.resourceOf(key)
    if (fence <= resource.granted) {
      this.violated("order", `${ownerId} was granted token ${fence} after ${resource.granted}`)
    }
    resource.granted = fence
  }

  /**
   * The lock was taken from `ownerId` without its knowledge: an operator broke it with `now`, or the server forgot it.
   *
   * A second holder may exist until the first learns of it, at the next renewal that is answered or at `until`, when its
   * lease would have expired: as long it may trust what is not so, and the resource refuses what it writes. Only that is
   * suspended: tokens grow, and nobody else is excused.
   */
  readonly onOverruled = (by: "operator" | "server", ownerId: string, until: number): void => {
    if (by === "server" || this.named.has(ownerId)) this.overruled.set(ownerId, until)
  }

  /** An operator means to break the lock that `ownerId` has, and nobody else's. */
  onBreak(ownerId: string): void {
    this.named.add(ownerId)
  }

  /** `ownerId` was told that the lock is not its own any more. */
  readonly onTold = (ownerId: string): void => {
    const until = this.overruled.get(ownerId)
    if (until !== undefined) this.overruled.set(ownerId, Math.min(until, this.world.now))
  }

  private resourceOf(key: string): Resource {
    let resource = this.resources.get(key)
    if (resource === undefined) {
      resource = { seen: 0, seenOf: "", granted: 0 }
      this.resources.set(key, resource)
    }
    return resource
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
  onExit(process: Process, call: Call, before: Before, exit: Exit.Exit<unknown, CallError>): void {
    const { counts } = this
    const { isClosed, key, name } = call
    if (exit._tag === "Success") {
      this.world.note(`${name} succeeded`)
      return
    }
    const cause = exit.cause
    this.world.note(
      `${name} ${cause.reasons.map((reason) => reason._tag === "Fail" ? reason.error._tag : reason._tag)}`
    )
    if (Cause.hasDies(cause)) this.violated("error", `${name} died: ${String(Cause.squash(cause))}`)
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
        !ownerId.startsWith(`${name}.`) && from <= this.world.now && until >= before.knowsAsOf
      if (!this.truthOf(key).grants.some(isOther)) {
        this.violated("error", `${name} was told of contention (${error.reason}), but nobody else had the lock`)
      }
    } else if (error._tag === "LockBackendError") {
      counts.outages++
      // Neither an answer nor a trouble yet: "don't know" is all that there is to tell.
      const isUnderWay = error.reason._tag === "TimedOut" && process.open > 0
      if (error.reason._tag === "Misconfigured") {
        if (!isClosed) this.violated("error", `${name} was told that the backend is closed, but it was open`)
      } else if (!before.isOut && process.troubles === before.troubles && !isUnderWay) {
        this.violated("error", `${name} was told of an outage (${error.reason._tag}), but there was none`)
      }
    } else if (error._tag === "LockLost") {
      counts.lost++
      if (error.reason === "BackendClosed" && !isClosed) {
        this.violated("error", `${name} was told that the backend is closed, but it was open`)
      }
    } else {
      this.violated("error", `${name} failed with ${error._tag}`)
    }
  }

  /** What is left of a call, or of a whole process if `call` is `undefined`. */
  onRest(
    oracle: "residue" | "rest",
    instance: Instance | undefined,
    call: { readonly name: string; readonly key: string } | undefined,
    when: string
  ): void {
    const isOf = (ownerId: string): boolean => call === undefined || ownerId.startsWith(`${call.name}.`)
    for (const lease of instance?.leases ?? []) {
      if (isOf(lease.ownerId)) this.violated(oracle, `the lease ${lease.ownerId} was left ${when}`)
    }
    if (call === undefined && instance !== undefined && instance.queues.size > 0) {
      this.violated(oracle, `a local queue was left ${when}`)
    }
    if (call !== undefined) this.onNobody(call.key, isOf, when)
  }

  /** Nobody of those that are meant has the lock. */
  onNobody(key: string, isMeant: (ownerId: string) => boolean, when: string): void {
    const truth = this.truthOf(key)
    const holder = truth.occupant === undefined ? truth.holder() : truth.occupant()
    if (holder !== undefined && isMeant(holder.ownerId)) {
      this.violated("residue", `${holder.ownerId} still had the lock ${when}`)
    }
  }

  /** Nothing runs in a process whose callers have ended: neither its fibers, nor the keeper of leases that are gone. */
  onCensus(process: Process, isMeant: (kind: "keeper" | "fiber") => boolean, when: string): void {
    for (const kind of process.alive.filter(isMeant)) {
      this.violated(
        "rest",
        `a ${kind === "keeper" ? "fiber of the keeper" : "fiber"} of process ${process.id} was left ${when}`
      )
    }
  }
}

/** What a lock protects: the largest token that it has seen, whose that was, and the largest granted. */
interface Resource {
  seen: number
  seenOf: string
  granted: number
}

/**
 * What a call can fail with.
 *
 * @category models
 */
export type CallError = LockContended | LockBackendError | LockLost | InvalidLockRequest

/**
 * A call that has ended; `isClosed`: its backend was closed meanwhile.
 *
 * @category models
 */
export interface Call {
  readonly name: string
  readonly key: string
  readonly isClosed: boolean
}

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

/**
 * What one process knows of one node of a quorum: whether it answers, whether it may vote, what its clock says.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Lease from "../../Lease.ts"
import { type BackendReason, Misconfigured, Throttled, TimedOut, Unreachable } from "../../LockError.ts"
import type { Greeting, QuorumNode, Take, TakeReply } from "./quorumNode.ts"

/** A node that did not answer in time is asked no more often than this for a vote, in milliseconds, until it does. */
export const probeEvery = 100

/** How long a node that is not connected is listened for, in milliseconds. */
const knockFor = 1500

/** What a node said of itself, over which connection, and when. */
interface Greeted extends Greeting {
  readonly connection: number
  readonly since: Lease.Stamp
}

/**
 * One node as this process sees it.
 *
 * `guard` is for how long a node must have been running before it may vote, in milliseconds; 0 = no guard. A node that
 * comes back empty could give away a lock that is still held: by then, every lease that it may have forgotten is over.
 *
 * Source: S. Sanfilippo, "Distributed Locks with Redis", section "Performance, crash recovery and fsync" (delayed
 * restarts), kept by the client instead of the server.
 */
export class Member {
  readonly node: QuorumNode
  readonly index: number
  /** It did not answer the last time: nobody waits for it, but if it answers in time its vote counts. */
  isSuspect = false
  private readonly guard: number
  private readonly others: ReadonlyArray<Member>
  private probedAt = -Infinity
  private isKnocking = false
  /** The connection over which a vote was answered last. */
  private answeredOver = -1
  private greeting: Greeted | undefined
  private clock: { readonly micros: number; readonly at: number } | undefined
  private notConnected: BackendReason | undefined

  constructor(node: QuorumNode, index: number, guard: number, others: ReadonlyArray<Member>) {
    this.node = node
    this.index = index
    this.guard = guard
    this.others = others
  }

  private get isReachable(): boolean {
    return this.node.isReady() || this.node.connections() === 0
  }

  /** Why it is not worth asking now; `undefined` if it is. The first connection is made by the first request. */
  get unready(): BackendReason | undefined {
    if (this.isReachable) return undefined
    return this.notConnected ??= new Unreachable({ detail: `${this.node.name} is not connected` })
  }

  /** As `unready`, for a vote: one that does not answer is only asked now and then. */
  unreadyToVote(clock: Clock.Clock): BackendReason | undefined {
    const { unready } = this
    if (unready !== undefined || !this.isSuspect) return unready
    const now = Lease.stamp(clock).monotonic
    if (now - this.probedAt < probeEvery) return this.silent
    this.probedAt = now
    return undefined
  }

  /**
   * Asks one that is not connected who it is, one question at a time: a client that hangs while it connects finds out
   * only by a request that is not answered. Nothing else would do, because it may be sent late.
   */
  get knock(): Effect.Effect<void> | undefined {
    if (this.isReachable || this.isKnocking) return undefined
    return Effect.suspend(() => {
      this.isKnocking = true
      return Effect.ensuring(
        Effect.ignore(this.node.greet(knockFor)),
        Effect.sync(() => {
          this.isKnocking = false
        })
      )
    })
  }

  /** The reason of one that nobody waits for any more. */
  get silent(): BackendReason {
    return new TimedOut({ detail: `${this.node.name} does not answer; the outcome is unknown`, after: Duration.zero })
  }

  /**
   * Whether a vote that was asked for over `connection` arrives before whatever is sent now. Before the first answer it
   * may not: a driver sends a script once more where the server does not know it yet.
   */
  keepsOrder(connection: number): boolean {
    return connection === this.answeredOver && connection === this.node.connections()
  }

  /** What its clock says now, in microseconds, if anybody has asked. */
  clockAt(now: number): number | undefined {
    return this.clock === undefined ? undefined : Math.floor(this.clock.micros + (now - this.clock.at) * 1000)
  }

  /**
   * Its vote. It counts only if it came over the connection whose node was found to be running for long enough: a
   * driver may have sent the request again, to a node that was restarted meanwhile.
   *
   * `isWanted`: asked just before it is sent; a try may be given up in an earlier round, or while the node is greeted.
   */
  vote(
    take: Take,
    timeout: number,
    isWanted: () => boolean,
    clock: Clock.Clock
  ): Effect.Effect<TakeReply, BackendReason> {
    const { greeting, node } = this
    if (greeting?.connection === node.connections()) return this.voteOf(greeting, take, timeout, isWanted, clock)
    return Effect.flatMap(node.greet(timeout), (answer) => {
      // An answer comes over the connection that there is when it comes.
      const greeting = { ...answer, connection: node.connections(), since: Lease.stamp(clock) }
      this.greeting = greeting
      return this.voteOf(greeting, take, timeout, isWanted, clock)
    })
  }

  private voteOf(
    greeting: Greeted,
    take: Take,
    timeout: number,
    isWanted: () => boolean,
    clock: Clock.Clock
  ): Effect.Effect<TakeReply, BackendReason> {
    const { node } = this
    const refusal = this.refusalOf(greeting, clock) ?? (isWanted() ? undefined : this.silent)
    if (refusal !== undefined) return Effect.fail(refusal)
    return Effect.flatMap(node.take(take, timeout), (reply): Effect.Effect<TakeReply, BackendReason> => {
      this.clock = { micros: reply.clock, at: Lease.stamp(clock).monotonic }
      this.answeredOver = node.connections()
      if (this.greeting?.connection === node.connections()) return Effect.succeed(reply)
      return Effect.fail(new Unreachable({ detail: `${node.name} was connected anew; its vote does not count` }))
    })
  }

  // Why it may not vote.
  private refusalOf(greeting: Greeted, clock: Clock.Clock): BackendReason | undefined {
    const { name } = this.node
    const twin = this.others.find((other) => other.index < this.index && other.greeting?.identity === greeting.identity)
    if (twin !== undefined) {
      const detail = `${name} and ${twin.node.name} are one server: each node must be a master of its own`
      return new Misconfigured({ detail })
    }
    const left = this.guard - greeting.uptime - Lease.elapsedForTakeover(greeting.since, Lease.stamp(clock))
    if (left <= 0) return undefined
    const wait = Duration.millis(Math.ceil(left))
    const detail = `${name} was restarted and may have forgotten leases: it does not vote for another `
      + `${Duration.format(wait)}, until the longest of them is over (maxTtl). If it keeps everything over restarts `
      + "(appendfsync always), switch that off with { restartGuard: false }"
    return new Throttled({ detail, retryAfter: Option.some(wait) })
  }
}

/**
 * Winning a majority, with a fencing token that each of its nodes has accepted.
 *
 * The token is proposed by the client, from what the nodes' clocks say, and a node accepts only one that is larger than
 * every token it has seen. Any later winner's majority shares a node with this one, so its token is larger, whatever the
 * clocks do: they only decide how often a second round is needed. (A counter per node and the largest of a majority
 * would not do: counters drift apart, and the next majority may know smaller ones.)
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Lease from "../../Lease.ts"
import type { Acquired, AcquireRequest, Held } from "../../LockBackend.ts"
import { type BackendReason, TimedOut } from "../../LockError.ts"
import * as Quorum from "./quorum.ts"
import { Claim } from "./quorumClaim.ts"
import { failuresOf } from "./quorumFailure.ts"
import { foremost, holderOf } from "./quorumHolder.ts"
import type { Member } from "./quorumMember.ts"
import type { Take, TakeReply } from "./quorumNode.ts"
import { isUnknown, leave, poll, type Vote } from "./quorumPoll.ts"
import { decide, type Verdict } from "./quorumVerdict.ts"

/** One try. */
export const tryAcquire = (
  quorum: Quorum.Quorum,
  request: AcquireRequest
): Effect.Effect<Acquired | Held, BackendReason> =>
  Effect.clockWith((clock) => {
    const invalid = Quorum.checkTtl(quorum, Duration.toMillis(request.ttl))
    if (invalid !== undefined) return Effect.fail(invalid)
    return new Try(quorum, request, clock).run
  })

// The first round may only be asking what time it is, the second may meet a node that knows a larger token.
const mostRounds = 3

class Try {
  private readonly quorum: Quorum.Quorum
  private readonly request: AcquireRequest
  private readonly clock: Clock.Clock
  private readonly claim: Claim
  private readonly attempt: number
  private readonly startedAt: Lease.Stamp
  private readonly ttl: number
  private readonly timeout: number
  private votes: ReadonlyArray<Vote<TakeReply>> = []

  constructor(quorum: Quorum.Quorum, request: AcquireRequest, clock: Clock.Clock) {
    const { key, metadata, ownerId } = request
    this.quorum = quorum
    this.request = request
    this.clock = clock
    this.claim = quorum.claims.get(ownerId) ?? new Claim(key, ownerId)
    quorum.claims.set(ownerId, this.claim)
    this.claim.metadata = metadata
    this.attempt = this.claim.attempt
    this.startedAt = Lease.stamp(clock)
    this.ttl = Duration.toMillis(request.ttl)
    this.timeout = Quorum.timeoutOf(quorum, this.ttl, request.budget)
  }

  get run(): Effect.Effect<Acquired | Held, BackendReason> {
    return Effect.onInterrupt(
      Effect.flatMap(this.round(1, this.proposal()), (verdict) => this.conclude(verdict)),
      () => this.cleanUp("nobody waits")
    )
  }

  // ---------------------------------------------------------------------------
  // rounds
  // ---------------------------------------------------------------------------

  private round(number: number, fence: number): Effect.Effect<Exclude<Verdict, { _tag: "Again" }>> {
    const { attempt, claim, quorum, timeout } = this
    const take: Take = {
      key: claim.key,
      ownerId: claim.ownerId,
      attempt,
      fence,
      ttl: Quorum.onNodes(quorum.settings, this.ttl),
      metadata: this.request.metadata,
      mode: number === 1 ? "propose" : "raise"
    }
    const isWanted = () => !claim.isOver && claim.attempt === attempt
    const sentOver: Array<number> = []
    const question = {
      members: quorum.members,
      ask: (member: Member) => {
        const unready = member.unreadyToVote(this.clock)
        if (unready !== undefined) return unready
        sentOver[member.index] = claim.send(member)
        return member.vote(take, Quorum.patience(timeout), isWanted, this.clock)
      },
      onEnd: (member: Member, exit: Exit.Exit<TakeReply, BackendReason>) =>
        claim.end(member, sentOver[member.index]!, isUnanswered(exit)),
      timeout,
      decide: (votes: ReadonlyArray<Vote<TakeReply>>, waiting: number) => {
        this.votes = votes
        return decide(quorum, votes, waiting)
      }
    }
    return Effect.flatMap(poll(quorum, question), (verdict) => {
      if (verdict._tag !== "Again") return Effect.succeed(verdict)
      const { failure, fence } = verdict
      if (number < mostRounds) return this.round(number + 1, Math.max(fence, this.proposal()))
      // Unless clocks differ too much, others are granted tokens faster than we can propose one.
      return Effect.succeed(
        failure === undefined ? { _tag: "Held", records: [], open: 0 } : { _tag: "Failed", reason: failure }
      )
    })
  }

  // The middle of what the nodes' clocks say, so that no single one decides; 0 asks them.
  private proposal(): number {
    const now = Lease.stamp(this.clock).monotonic
    const clocks: Array<number> = []
    for (const member of this.quorum.members) {
      const clock = member.clockAt(now)
      if (clock !== undefined) clocks.push(clock)
    }
    clocks.sort((a, b) => a - b)
    return clocks[Math.floor((clocks.length - 1) / 2)] ?? 0
  }

  // ---------------------------------------------------------------------------
  // what becomes of it
  // ---------------------------------------------------------------------------

  private conclude(
    verdict: Exclude<Verdict, { _tag: "Again" }>
  ): Effect.Effect<Acquired | Held, BackendReason> {
    const { claim, request } = this
    if (verdict._tag === "Failed") return Effect.andThen(this.cleanUp("unknown"), Effect.fail(verdict.reason))
    if (verdict._tag === "Held") return Effect.as(this.cleanUp("held"), this.held(verdict))
    const elapsed = Lease.elapsedForTrust(this.startedAt, Lease.stamp(this.clock))
    // Another call of this owner id may have given up meanwhile, and with it what this one was granted.
    if (claim.isOver || claim.attempt !== this.attempt || elapsed > this.ttl / 2) {
      return Effect.andThen(this.cleanUp("unknown"), Effect.fail(tooSlow(elapsed)))
    }
    claim.fence = verdict.fence
    return Effect.succeed({
      _tag: "Acquired",
      fencingToken: Option.some(BigInt(verdict.fence)),
      handle: String(verdict.fence),
      grantedTtl: request.ttl,
      degraded: this.degraded
    })
  }

  // An answer that was not waited for is nothing to tell of.
  private get degraded(): string | undefined {
    const { members } = this.quorum
    const missing = failuresOf(members, this.votes, (member) => member.isSuspect)
    if (missing.length === 0) return undefined
    const each = missing.map(({ reason }) => reason.detail).join("; ")
    return `${missing.length} of ${members.length} nodes took no part: ${each}`
  }

  private held({ open, records }: Extract<Verdict, { _tag: "Held" }>): Held {
    const { majority } = this.quorum
    const top = foremost(records)
    // When so many have expired that a majority can be had.
    const free = records.map(({ remaining }) => remaining).sort((a, b) => a - b)[majority - open - 1]
    return {
      _tag: "Held",
      holders: top === undefined ? [] : [holderOf(top, majority)],
      retryAfter: free === undefined ? Option.none() : Option.some(Duration.millis(Math.max(free, 0)))
    }
  }

  /**
   * Frees what the try has placed, on all nodes, also those that did not answer: what arrives late is dead. The nodes
   * that had granted it are waited for, so that nothing is left of a refusal when it is told.
   *
   * A try of an owner id that was granted before changes nothing, unless others hold the lock by now.
   */
  private cleanUp(why: "held" | "unknown" | "nobody waits"): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { attempt, claim, quorum, request } = this
      // The core releases whoever waited; nobody comes back for the others.
      if (why === "held" && (!request.willWait || this.isDead)) quorum.claims.delete(claim.ownerId)
      if (claim.attempt !== attempt || (claim.fence !== undefined && why !== "held")) return Effect.void
      claim.attempt++
      claim.fence = undefined
      const granted = (member: Member) => {
        const vote = this.votes[member.index]
        return vote?._tag === "Answered" && vote.reply._tag === "Ok" && !member.isSuspect
      }
      const placed = quorum.members.filter((member) => claim.wasAsked(member) && !this.hasRefused(member))
      const release = (member: Member) =>
        member.unready ?? member.node.release(claim.releaseOf(member, attempt), Quorum.patience(this.timeout))
      const others = placed.filter((member) => !granted(member) && member.unready === undefined)
      const sent = Effect.forEach(
        others,
        (member) => leave(quorum.stragglers, Effect.suspend(() => release(member))),
        { discard: true }
      )
      return Effect.andThen(
        sent,
        poll(quorum, {
          members: placed.filter(granted),
          ask: release,
          timeout: this.timeout,
          decide: (_, waiting) => waiting === 0 || why === "nobody waits" ? true : undefined
        })
      )
    })
  }

  // A node that has answered, and holds nothing of ours.
  private hasRefused(member: Member): boolean {
    const vote = this.votes[member.index]
    return vote?._tag === "Answered" && (vote.reply._tag === "Held" || vote.reply._tag === "Dead")
  }

  private get isDead(): boolean {
    return this.votes.some((vote) => vote._tag === "Answered" && vote.reply._tag === "Dead")
  }
}

// What was interrupted may arrive, too.
const isUnanswered = (exit: Exit.Exit<unknown, BackendReason>): boolean => {
  if (exit._tag === "Success") return false
  const reason = Exit.findErrorOption(exit)
  return reason._tag === "None" || isUnknown(reason.value)
}

const tooSlow = (elapsed: number): BackendReason => {
  const after = Duration.millis(Math.ceil(elapsed))
  const detail = `the nodes took ${Duration.format(after)}: less than half of the ttl would be left of the lease`
  return new TimedOut({ detail, after })
}

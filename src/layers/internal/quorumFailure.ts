/**
 * A quorum that could not be reached, as one error that carries each node's own.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import {
  type BackendReason,
  Misconfigured,
  Protocol,
  Throttled,
  TimedOut,
  Unauthorized,
  Unreachable
} from "../../LockError.ts"
import type { Member } from "./quorumMember.ts"
import type { Vote } from "./quorumPoll.ts"

/**
 * What each node of a quorum that could not be reached said: the `cause` of the error.
 *
 * `granted`, `held`: how many said that, if they were asked for the lock; `needed`: how many answers decide.
 */
export class QuorumNotReached
  extends Schema.TaggedError<QuorumNotReached>("effect-lock/QuorumNotReached")("QuorumNotReached", {
    nodes: Schema.Int,
    needed: Schema.Int,
    granted: Schema.Int,
    held: Schema.Int,
    failures: Schema.Array(Schema.Struct({
      node: Schema.String,
      reason: Schema.Union([Unreachable, TimedOut, Throttled, Unauthorized, Misconfigured, Protocol])
    }))
  })
{
  override get message(): string {
    const { failures, needed, nodes } = this
    const each = failures.map(({ node, reason }) => `${node}: ${reason._tag}: ${reason.detail}`)
    return `${failures.length} of ${nodes} nodes did not take part, and it takes ${needed} that do. ${each.join("; ")}`
  }
}

/** What the votes were, besides the failures. */
export interface Tally {
  readonly granted: number
  readonly held: number
}

/** One node that did not take part. */
export interface NodeFailure {
  readonly node: string
  readonly reason: BackendReason
}

/** The nodes that failed, and of those that have not answered the ones that are `missed`. */
export const failuresOf = (
  members: ReadonlyArray<Member>,
  votes: ReadonlyArray<Vote<unknown>>,
  missed: (member: Member) => boolean = () => true
): ReadonlyArray<NodeFailure> =>
  members.flatMap((member, index): ReadonlyArray<NodeFailure> => {
    const vote = votes[index]
    if (vote === undefined || vote._tag === "Answered" || (vote._tag === "Pending" && !missed(member))) return []
    return [{ node: member.node.name, reason: vote._tag === "Failed" ? vote.reason : member.silent }]
  })

/**
 * The reason of a quorum that could not be reached. It is the kind that most stands in the way: what trying again can't
 * mend, only if the nodes that it could mend are too few.
 */
export const notReached = (
  nodes: number,
  needed: number,
  failures: ReadonlyArray<NodeFailure>,
  tally: Tally = { granted: 0, held: 0 }
): BackendReason => {
  const cause = new QuorumNotReached({ nodes, needed, ...tally, failures })
  const detail = cause.message
  const lasting = failures.filter(({ reason }) => !reason.isRetryable)
  if (lasting.length > nodes - needed) {
    switch (lasting[0]!.reason._tag) {
      case "Unauthorized":
        return new Unauthorized({ detail, cause })
      case "Misconfigured":
        return new Misconfigured({ detail, cause })
      default:
        return new Protocol({ detail, cause })
    }
  }
  const retryable = failures.map(({ reason }) => reason).filter(({ isRetryable }) => isRetryable)
  const throttled = retryable.filter((reason) => reason._tag === "Throttled")
  if (throttled.length > 0 && throttled.length === retryable.length) {
    return new Throttled({ detail, cause, retryAfter: soonest(nodes - needed, failures.length, throttled) })
  }
  const timedOut = retryable.filter((reason) => reason._tag === "TimedOut")
  if (timedOut.length > 0 && timedOut.length === retryable.length) {
    return new TimedOut({ detail, cause, after: timedOut.map(({ after }) => after).reduce(Duration.max) })
  }
  return new Unreachable({ detail, cause })
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

// When so many of them take part again that no more than `most` fail; unknown if one of those does not say.
const soonest = (
  most: number,
  failures: number,
  throttled: ReadonlyArray<Throttled>
): Option.Option<Duration.Duration> => {
  const waits = throttled.flatMap(({ retryAfter }) => Option.toArray(retryAfter)).map(Duration.toMillis)
  const wait = waits.sort((a, b) => a - b)[failures - most - 1]
  return wait === undefined ? Option.none() : Option.some(Duration.millis(wait))
}

/**
 * What a quorum does with a lock that is held: renewing, releasing, looking, breaking.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Holder } from "../../Holder.ts"
import type { BreakRequest, HeldKey, Lost, ReleaseRequest, Renewed, RenewRequest } from "../../LockBackend.ts"
import type { BackendReason } from "../../LockError.ts"
import * as Quorum from "./quorum.ts"
import type { Claim } from "./quorumClaim.ts"
import { foremost, holderOf } from "./quorumHolder.ts"
import type { Member } from "./quorumMember.ts"
import { everyAttempt, type NodeRecord } from "./quorumNode.ts"
import { leave, poll, type Vote } from "./quorumPoll.ts"

/**
 * Renews on all nodes; a majority that did is the lease. Nodes without it (they were down, or have forgotten) are given
 * it again, but count only from the next renewal on.
 */
export const renew = (
  quorum: Quorum.Quorum,
  request: RenewRequest
): Effect.Effect<Renewed | Lost, BackendReason> =>
  Effect.suspend(() => {
    const { handle, key, ownerId } = request
    const { majority, members } = quorum
    const ttl = Duration.toMillis(request.ttl)
    const invalid = Quorum.checkTtl(quorum, ttl)
    if (invalid !== undefined) return Effect.fail(invalid)
    const timeout = Quorum.timeoutOf(quorum, ttl, request.budget)
    const renewal = { key, ownerId, fence: handle, ttl: Quorum.onNodes(quorum.settings, ttl) }
    const claim = quorum.claims.get(ownerId)
    const lacking: Array<Member> = []
    let isRenewed = false
    const onReply = (member: Member) => (reply: "Ok" | "Gone" | "Taken") => {
      if (reply !== "Gone") return Effect.void
      lacking.push(member)
      return isRenewed ? join(quorum, claim, handle, ttl, member) : Effect.void
    }
    return Effect.flatMap(
      poll(quorum, {
        members,
        timeout,
        ask: (member) =>
          member.unready ?? Effect.tap(member.node.renew(renewal, Quorum.patience(timeout)), onReply(member)),
        decide: (votes, waiting): Effect.Effect<Renewed | Lost, BackendReason> | undefined => {
          const answers = answersOf(votes)
          const ok = answers.filter((answer) => answer === "Ok").length
          if (ok >= majority) {
            isRenewed = true
            const joins = Effect.forEach(
              lacking,
              (member) => leave(quorum.stragglers, join(quorum, claim, handle, ttl, member)),
              { discard: true }
            )
            return Effect.as(joins, { _tag: "Renewed", handle, grantedTtl: request.ttl })
          }
          // Whoever else has a majority has one of these nodes.
          if (answers.length - ok > members.length - majority) {
            return Effect.succeed({ _tag: "Lost", reason: answers.includes("Taken") ? "Taken" : "Gone" })
          }
          return waiting > 0 ? undefined : Effect.fail(Quorum.failed(quorum, votes, { granted: ok, held: 0 }))
        }
      }),
      (outcome) => outcome
    )
  })

/**
 * Releases on all nodes and ends the owner id. A majority of answers is enough: what is left on the others is no lock,
 * and ends by its ttl.
 */
export const release = (
  quorum: Quorum.Quorum,
  request: ReleaseRequest
): Effect.Effect<"Released" | "NotHeld", BackendReason> =>
  Effect.suspend(() => {
    const { key, ownerId, unanswered } = request
    const { majority, members } = quorum
    const claim = quorum.claims.get(ownerId)
    if (claim !== undefined) claim.isOver = true
    // Whatever becomes of this release. Of an owner id that is not known here, requests may be under way anywhere.
    quorum.claims.delete(ownerId)
    const timeout = Quorum.timeoutOf(quorum, Infinity, request.budget)
    const ask = (member: Member) => {
      if (claim !== undefined && member.isSuspect && !claim.wasAsked(member)) return member.silent
      const ofClaim = claim?.releaseOf(member) ?? { key, ownerId, attempt: everyAttempt, bury: true }
      return member.unready
        ?? member.node.release({ ...ofClaim, bury: ofClaim.bury || unanswered }, Quorum.patience(timeout))
    }
    return Effect.flatMap(
      poll(quorum, {
        members,
        timeout,
        ask,
        decide: (votes, waiting): Effect.Effect<"Released" | "NotHeld", BackendReason> | undefined => {
          const answers = answersOf(votes)
          const released = answers.filter((answer) => answer === "Released").length
          // The others are under way, ahead of whatever is sent next.
          if (released >= majority) return Effect.succeed("Released")
          if (answers.length - released > members.length - majority) return Effect.succeed("NotHeld")
          if (waiting > 0) return undefined
          if (answers.length < majority) return Effect.fail(Quorum.failed(quorum, votes))
          return Effect.succeed(released > 0 ? "Released" : "NotHeld")
        }
      }),
      (outcome) => outcome
    )
  })

/** Who holds the lock, or may: nodes that did not answer may have its other records. */
export const inspect = (
  quorum: Quorum.Quorum,
  request: { readonly key: string; readonly budget: Duration.Duration }
): Effect.Effect<ReadonlyArray<Holder>, BackendReason> =>
  Effect.suspend(() => {
    const { majority, members } = quorum
    const timeout = Quorum.timeoutOf(quorum, Infinity, request.budget)
    return Effect.flatMap(
      poll(quorum, {
        members,
        timeout,
        ask: (member) => member.unready ?? member.node.inspect(request.key, Quorum.patience(timeout)),
        decide: (votes, waiting): Effect.Effect<ReadonlyArray<Holder>, BackendReason> | undefined => {
          if (waiting > 0) return undefined
          const answers = answersOf(votes)
          if (answers.length < majority) return Effect.fail(Quorum.failed(quorum, votes))
          return Effect.succeed(holdersOf(quorum, answers))
        }
      }),
      (outcome) => outcome
    )
  })

/** Breaks on all nodes, if the owner id is the one that was seen. */
export const breakLock = (
  quorum: Quorum.Quorum,
  request: BreakRequest
): Effect.Effect<"Draining" | "Broken" | "NotHeld", BackendReason> =>
  Effect.suspend(() => {
    const { key, now, ownerId } = request
    const { majority, members } = quorum
    const timeout = Quorum.timeoutOf(quorum, Infinity, request.budget)
    return Effect.flatMap(
      poll(quorum, {
        members,
        timeout,
        ask: (member) => member.unready ?? member.node.break({ key, ownerId, now }, Quorum.patience(timeout)),
        decide: (votes, waiting): Effect.Effect<"Draining" | "Broken" | "NotHeld", BackendReason> | undefined => {
          if (waiting > 0) return undefined
          const answers = answersOf(votes)
          if (answers.length < majority) return Effect.fail(Quorum.failed(quorum, votes))
          const found = answers.filter((isFound) => isFound).length
          // What a minority had was no lock.
          const wasHeld = found > 0 && found + members.length - answers.length >= majority
          return Effect.succeed(wasHeld ? now ? "Broken" : "Draining" : "NotHeld")
        }
      }),
      (outcome) => outcome
    )
  })

/** The keys that are held. Each node is asked in many small steps, each of which may take `timeout` milliseconds. */
export const list = (
  quorum: Quorum.Quorum,
  keyPrefix: string,
  timeout: number
): Effect.Effect<ReadonlyArray<HeldKey>, BackendReason> =>
  Effect.gen(function*() {
    const { majority, members } = quorum
    const votes = yield* Effect.forEach(
      members,
      (member): Effect.Effect<Vote<ReadonlyArray<{ readonly key: string; readonly record: NodeRecord }>>> =>
        Effect.match(
          Effect.suspend(() => {
            const { unready } = member
            return unready === undefined ? member.node.list(keyPrefix, timeout) : Effect.fail(unready)
          }),
          {
            onSuccess: (reply) => ({ _tag: "Answered", reply }),
            onFailure: (reason) => ({ _tag: "Failed", reason })
          }
        ),
      { concurrency: "unbounded" }
    )
    const answers = answersOf(votes)
    if (answers.length < majority) return yield* Effect.fail(Quorum.failed(quorum, votes))
    const byKey = new Map<string, Array<NodeRecord>>()
    for (const { key, record } of answers.flat()) {
      const known = byKey.get(key)
      if (known === undefined) byKey.set(key, [record])
      else known.push(record)
    }
    return [...byKey].flatMap(([key, records]) => {
      const holders = holdersAmong(quorum, records, answers.length)
      return holders.length === 0 ? [] : [{ key, holders }]
    })
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const answersOf = <A>(votes: ReadonlyArray<Vote<A>>): ReadonlyArray<A> =>
  votes.flatMap((vote) => vote._tag === "Answered" ? [vote.reply] : [])

const holdersOf = (
  quorum: Quorum.Quorum,
  answers: ReadonlyArray<NodeRecord | undefined>
): ReadonlyArray<Holder> => holdersAmong(quorum, answers.filter((record) => record !== undefined), answers.length)

const holdersAmong = (
  { majority, members }: Quorum.Quorum,
  records: ReadonlyArray<NodeRecord>,
  answers: number
): ReadonlyArray<Holder> => {
  const top = foremost(records)
  return top === undefined || top.records.length + members.length - answers < majority ? [] : [holderOf(top, majority)]
}

// Only while the grant that was renewed is the present one: its release may be under way.
const join = (
  quorum: Quorum.Quorum,
  claim: Claim | undefined,
  handle: string,
  ttl: number,
  member: Member
): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (claim === undefined || claim.isOver || String(claim.fence) !== handle) return Effect.void
    const take = {
      key: claim.key,
      ownerId: claim.ownerId,
      attempt: claim.attempt,
      fence: Number(handle),
      ttl: Quorum.onNodes(quorum.settings, ttl),
      metadata: claim.metadata,
      mode: "join" as const
    }
    const connection = claim.send(member)
    return Effect.onExit(
      Effect.exit(member.node.take(take, Quorum.patience(0))),
      (exit) =>
        Effect.sync(() => claim.end(member, connection, exit._tag === "Failure" || exit.value._tag === "Failure"))
    )
  })

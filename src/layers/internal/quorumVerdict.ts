/**
 * What the votes for one try come to.
 */
import { type BackendReason, Misconfigured } from "../../LockError.ts"
import * as Quorum from "./quorum.ts"
import type { Member } from "./quorumMember.ts"
import type { NodeRecord, TakeReply } from "./quorumNode.ts"
import type { Vote } from "./quorumPoll.ts"

/**
 * - `Won`: a majority has accepted one and the same token.
 * - `Again`: a majority would accept a token, but another one, of at least `fence`; if it does not even then, `failure`
 *   says why, unless others were faster.
 * - `Held`: enough nodes take part, but others are in the way; `open` nodes would have granted it.
 * - `Failed`: too few take part.
 */
export type Verdict =
  | { readonly _tag: "Won"; readonly fence: number }
  | { readonly _tag: "Again"; readonly fence: number; readonly failure: BackendReason | undefined }
  | { readonly _tag: "Held"; readonly records: ReadonlyArray<NodeRecord>; readonly open: number }
  | { readonly _tag: "Failed"; readonly reason: BackendReason }

type Votes = ReadonlyArray<Vote<TakeReply>>

/** Decides, as soon as what may still come (`waiting` answers) can't change it: a tie is settled by its last vote. */
export const decide = (quorum: Quorum.Quorum, votes: Votes, waiting: number): Verdict | undefined => {
  const { majority } = quorum
  const accepted = new Map<number, number>()
  const records: Array<NodeRecord> = []
  let willing = 0
  let refused = 0
  let largest = 0
  let ahead = 0
  for (const vote of votes) {
    if (vote._tag !== "Answered") continue
    const { reply } = vote
    if (reply._tag === "Ok") {
      accepted.set(reply.fence, (accepted.get(reply.fence) ?? 0) + 1)
      largest = Math.max(largest, reply.fence)
      willing++
    } else if (reply._tag === "TooLow") {
      largest = Math.max(largest, reply.stored + 1)
      willing++
    } else if (reply._tag === "TooHigh") {
      ahead++
      willing++
    } else {
      if (reply._tag === "Held") records.push(reply.record)
      refused++
    }
  }
  let most = 0
  for (const [fence, count] of accepted) {
    if (count >= majority) return { _tag: "Won", fence }
    most = Math.max(most, count)
  }
  if (most + waiting >= majority) return undefined
  if (willing >= majority) {
    const failure = ahead === 0 ? undefined : failed(quorum, votes, willing - ahead, refused)
    return { _tag: "Again", fence: largest, failure }
  }
  if (willing + waiting >= majority) return undefined
  if (willing + refused >= majority) return { _tag: "Held", records, open: willing }
  // Each node's own answer is told, so all that may still come are waited for.
  return waiting > 0 ? undefined : { _tag: "Failed", reason: failed(quorum, votes, willing, refused) }
}

const failed = (quorum: Quorum.Quorum, votes: Votes, granted: number, held: number): BackendReason => {
  const seen = votes.map((vote, index): Vote<TakeReply> =>
    vote._tag === "Answered" && vote.reply._tag === "TooHigh"
      ? { _tag: "Failed", reason: behind(quorum.members[index]!) }
      : vote
  )
  return Quorum.failed(quorum, seen, { granted, held })
}

const behind = ({ node: { name } }: Member): BackendReason =>
  new Misconfigured({
    detail: `the clock of ${name} is more than a minute behind the other nodes', and a fencing token from the future `
      + "would block the key later: set its clock"
  })

/**
 * Who holds a lock, as a quorum of nodes has it.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type { Holder } from "../../Holder.ts"
import type { NodeRecord } from "./quorumNode.ts"

/** One owner id and its records on the nodes. */
export interface Candidate {
  readonly ownerId: string
  readonly records: ReadonlyArray<NodeRecord>
}

/** The owner id with the most records; of equals, the one with the larger token. */
export const foremost = (records: ReadonlyArray<NodeRecord>): Candidate | undefined => {
  const byOwner = new Map<string, Array<NodeRecord>>()
  for (const record of records) {
    const known = byOwner.get(record.ownerId)
    if (known === undefined) byOwner.set(record.ownerId, [record])
    else known.push(record)
  }
  let best: Candidate | undefined
  for (const [ownerId, records] of byOwner) {
    const isBetter = best === undefined || records.length > best.records.length
      || (records.length === best.records.length && fenceOf(records) > fenceOf(best.records))
    if (isBetter) best = { ownerId, records }
  }
  return best
}

/** How it looks to others. It holds the lock until fewer than `majority` of its records are left. */
export const holderOf = ({ ownerId, records }: Candidate, majority: number): Holder => {
  const latest = [...records].sort((a, b) => b.remaining - a.remaining)
  const last = latest[Math.min(majority, latest.length) - 1]!
  return {
    ownerId,
    since: DateTime.make(Math.min(...records.map(({ since }) => since))),
    remaining: Option.some(Duration.millis(Math.max(last.remaining, 0))),
    fencingToken: Option.some(BigInt(fenceOf(records))),
    metadata: last.metadata
  }
}

const fenceOf = (records: ReadonlyArray<NodeRecord>): number => Math.max(...records.map(({ fence }) => fence))

/** What the verdict is computed from: the journal, put in order, and the register's ledger. */
import type { Option } from "effect"
import type { Entry } from "./journal.ts"
import type { Attempt, Ledger } from "./registerProtocol.ts"

/** An interval in which a worker was entitled to believe that it is the only one at work. */
export interface Hold {
  readonly worker: string
  readonly fence: Option.Option<bigint>
  readonly from: number
  readonly until: number
}

export interface Evidence {
  /** The register's value at the end. */
  readonly value: number
  /** The register's list of all attempts to write, in its order. */
  readonly attempts: ReadonlyArray<Attempt>
  /** How many increments each worker was told to have been accepted. */
  readonly acknowledged: ReadonlyMap<string, number>
  readonly holds: ReadonlyArray<Hold>
  /** Writes of workers that had been paused between their read and their write. */
  readonly lateWrites: ReadonlyArray<Attempt>
  /** Workers that were killed while they held the lock. */
  readonly killed: ReadonlyArray<string>
  /** Leases that were lost: the worker and the reason. */
  readonly lost: ReadonlyArray<{ readonly worker: string; readonly reason: string }>
}

export const gather = (entries: ReadonlyArray<Entry>, ledger: Ledger): Evidence => {
  const held = new Map<string, Hold>()
  const holds: Array<Hold> = []
  const acknowledged = new Map<string, number>()
  const lateWrites: Array<Attempt> = []
  const killed: Array<string> = []
  const lost: Array<{ readonly worker: string; readonly reason: string }> = []

  const end = (worker: string, at: number): boolean => {
    const hold = held.get(worker)
    if (hold === undefined) return false
    holds.push({ ...hold, until: Math.min(hold.until, at) })
    return held.delete(worker)
  }

  for (const { event, worker } of entries) {
    switch (event._tag) {
      case "Holds":
        held.set(worker, { worker, fence: event.fence, from: event.at, until: event.trustedUntil })
        break
      case "Renewed": {
        const hold = held.get(worker)
        if (hold !== undefined) held.set(worker, { ...hold, until: event.trustedUntil })
        break
      }
      case "Wrote":
        if (event.late) lateWrites.push({ worker, fence: event.fence, outcome: event.outcome })
        if (event.outcome === "accepted") acknowledged.set(worker, (acknowledged.get(worker) ?? 0) + 1)
        break
      case "Ended":
        end(worker, event.until)
        if (event.lost._tag === "Some") lost.push({ worker, reason: event.lost.value })
        break
      case "Signalled":
        // The moment before the signal is the last at which the worker is known to have lived. When its exit is seen
        // here, somebody else may have had the lock for a while, rightly.
        if (event.signal === "SIGKILL" && end(worker, event.at)) killed.push(worker)
        break
    }
  }
  return { ...ledger, acknowledged, holds, lateWrites, killed, lost }
}

/** What the turns of many callers say about a lock: whether it excluded, whom it served, in which order, how fast. */
import { quantile, sorted } from "./statistics.ts"

/** One acquisition, in milliseconds of the machine's monotonic clock, which its processes have in common. */
export interface Turn {
  readonly waiter: number
  readonly asked: number
  /** Infinite if it never got the lock. */
  readonly granted: number
  /** When the release was about to be sent. */
  readonly ended: number
}

export interface Verdict {
  readonly grants: number
  /** Times that somebody got the lock while another one held it. */
  readonly violations: number
  /** From a release that is sent to the next grant, where somebody was waiting. */
  readonly handOver: Float64Array
  readonly waits: Float64Array
  /** Of the pairs of callers who waited at the same time, the share that was served in the wrong order. */
  readonly inversions: number
  /** Waiters that were never served. */
  readonly starved: number
}

/** `sameTime`: callers that asked within so many milliseconds have no order. */
export const judge = (turns: ReadonlyArray<Turn>, sameTime: number, until: number): Verdict => {
  const granted = turns.filter((turn) => Number.isFinite(turn.granted)).sort((a, b) => a.granted - b.granted)
  let violations = 0
  let heldUntil = Number.NEGATIVE_INFINITY
  const gaps: Array<number> = []
  for (const turn of granted) {
    if (turn.granted < heldUntil) violations++
    else if (turn.asked < heldUntil) gaps.push(turn.granted - heldUntil)
    heldUntil = Math.max(heldUntil, turn.ended)
  }
  const served = new Set(granted.map(({ waiter }) => waiter))
  return {
    grants: granted.length,
    violations,
    handOver: sorted(gaps),
    waits: sorted(turns.map((turn) => Math.min(turn.granted, until) - turn.asked)),
    inversions: inversions(turns, sameTime),
    starved: new Set(turns.map(({ waiter }) => waiter)).size - served.size
  }
}

const inversions = (turns: ReadonlyArray<Turn>, sameTime: number): number => {
  const byArrival = [...turns].sort((a, b) => a.asked - b.asked)
  let pairs = 0
  let inverted = 0
  for (const [index, first] of byArrival.entries()) {
    for (let next = index + 1; next < byArrival.length; next++) {
      const second = byArrival[next]
      if (second === undefined || second.asked > first.granted) break
      if (second.asked - first.asked <= sameTime || first.granted === second.granted) continue
      pairs++
      if (second.granted < first.granted) inverted++
    }
  }
  return pairs === 0 ? 0 : inverted / pairs
}

export const percentile = (values: Float64Array, p: number): number | undefined =>
  values.length === 0 ? undefined : quantile(values, p)

/** What the evidence says about each promise. Pure, and the same for a run with the lock and one without it. */
import { Option } from "effect"
import type { Evidence, Hold } from "./evidence.ts"

export interface Finding {
  readonly promise: string
  readonly found: string
  /** What is wrong; empty if nothing is. */
  readonly broken: ReadonlyArray<string>
}

export const judge = (evidence: Evidence): ReadonlyArray<Finding> => [
  increments(evidence),
  exclusion(evidence),
  fencing(evidence),
  lateWrites(evidence),
  killedHolder(evidence),
  pausedHolder(evidence)
]

/** The findings as a table, and one line that sums them up. */
export const format = (findings: ReadonlyArray<Finding>): string => {
  const width = Math.max(...findings.map(({ promise }) => promise.length))
  const broken = findings.flatMap((finding) => finding.broken)
  return [
    ...findings.map(({ broken, found, promise }) =>
      `  ${broken.length === 0 ? "ok    " : "BROKEN"}  ${promise.padEnd(width)}  ${found}`
    ),
    "",
    broken.length === 0 ? "all promises held" : `BROKEN: ${broken.join("; ")}`
  ].join("\n")
}

const increments = ({ acknowledged, attempts, value }: Evidence): Finding => {
  const accepted = attempts.filter(({ outcome }) => outcome === "accepted")
  const toldOf = [...acknowledged.values()].reduce((sum, n) => sum + n, 0)
  const broken: Array<string> = []
  if (accepted.length === 0) broken.push("nothing was written")
  if (value < accepted.length) broken.push(`${accepted.length - value} of ${accepted.length} increments were lost`)
  if (value > accepted.length) broken.push(`the counter shows ${value - accepted.length} increments that nobody made`)
  for (const worker of new Set([...acknowledged.keys(), ...accepted.map(({ worker }) => worker)])) {
    const told = acknowledged.get(worker) ?? 0
    const made = accepted.filter((attempt) => attempt.worker === worker).length
    if (told !== made) broken.push(`${worker} was told of ${told} increments, the register accepted ${made} of it`)
  }
  return {
    promise: "no increment is lost",
    found: `${toldOf} acknowledged, ${accepted.length} accepted, the counter shows ${value}`,
    broken
  }
}

const exclusion = ({ holds }: Evidence): Finding => {
  const pairs = holds.flatMap((a, i) => holds.slice(i + 1).map((b) => [a, b] as const))
  const overlaps = pairs.filter(([a, b]) => Math.max(a.from, b.from) < Math.min(a.until, b.until))
  const longest = Math.max(...overlaps.map(([a, b]) => Math.min(a.until, b.until) - Math.max(a.from, b.from)))
  return {
    promise: "one trusted holder at a time",
    found: `${holds.length} holds, ${overlaps.length} overlaps`,
    broken: overlaps.length === 0
      ? []
      : [`${overlaps.length} overlaps of two holders, the longest of ${Math.ceil(longest)} ms`]
  }
}

const fencing = ({ holds }: Evidence): Finding => {
  const promise = "fencing tokens grow"
  const tokens = byStart(holds).flatMap(({ fence }) => Option.toArray(fence))
  if (tokens.length === 0) return { promise, found: "no tokens", broken: ["there are no fencing tokens"] }
  const without = holds.length - tokens.length
  const broken = without === 0 ? [] : [`${without} of ${holds.length} holds had no fencing token`]
  tokens.forEach((token, i) => {
    const before = tokens[i - 1]
    if (before !== undefined && token <= before) broken.push(`fencing token ${token} was granted after ${before}`)
  })
  return { promise, found: `${tokens.length} grants, tokens ${tokens[0]} to ${tokens.at(-1)}`, broken }
}

const lateWrites = ({ attempts, lateWrites }: Evidence): Finding => {
  const refused = lateWrites.filter(({ outcome }) => outcome === "refused").length
  const broken: Array<string> = []
  if (lateWrites.length === 0) broken.push("no late write was attempted")
  if (refused < lateWrites.length) {
    broken.push(`${lateWrites.length - refused} of ${lateWrites.length} late writes were accepted`)
  }
  // Whatever the workers say: an accepted write with a lower token than one before it was late.
  let highest = 0n
  for (const { fence, outcome, worker } of attempts) {
    if (outcome === "refused" || Option.isNone(fence)) continue
    if (fence.value < highest) {
      broken.push(`a write of ${worker} with fencing token ${fence.value} was accepted after one with ${highest}`)
    } else {
      highest = fence.value
    }
  }
  return { promise: "late writes are refused", found: `${lateWrites.length} attempted, ${refused} refused`, broken }
}

const killedHolder = ({ attempts, holds, killed }: Evidence): Finding => {
  const promise = "a killed holder is replaced"
  if (killed.length === 0) return { promise, found: "no kill", broken: ["nobody was killed while holding the lock"] }
  const next = killed.map((worker) => [worker, successor(worker, holds, attempts)] as const)
  return {
    promise,
    found: next.map(([worker, by]) => `${worker} killed, followed by ${by ?? "nobody"}`).join("; "),
    broken: next.flatMap(([worker, by]) => by === undefined ? [`nobody took over from ${worker}`] : [])
  }
}

/** Who held next after the last hold of `worker`, and got something written. */
const successor = (
  worker: string,
  holds: ReadonlyArray<Hold>,
  attempts: Evidence["attempts"]
): string | undefined => {
  const last = byStart(holds).findLast((hold) => hold.worker === worker)
  const next = byStart(holds).find((hold) =>
    last !== undefined && hold.from >= last.until && hold.worker !== worker
    && attempts.some((attempt) => attempt.worker === hold.worker && attempt.outcome === "accepted")
  )
  return next?.worker
}

const byStart = (holds: ReadonlyArray<Hold>): ReadonlyArray<Hold> => holds.toSorted((a, b) => a.from - b.from)

const pausedHolder = ({ lateWrites, lost }: Evidence): Finding => {
  const paused = [...new Set(lateWrites.map(({ worker }) => worker))]
  const told = lost.filter(({ worker }) => paused.includes(worker))
  return {
    promise: "a paused holder is told",
    found: told.length === 0
      ? "nobody was told of a lost lease"
      : told.map(({ reason, worker }) => `${worker}: LockLost(${reason})`).join(", "),
    broken: paused
      .filter((worker) => !told.some((loss) => loss.worker === worker))
      .map((worker) => `${worker} was paused and not told that its time was over`)
  }
}

/** A run in words. */
import { showPlan } from "./plan.ts"
import type { Progress, Report } from "./torture.ts"

export const showProgress = (all: ReadonlyArray<Progress>): string =>
  all.map(({ counts, faults, ground, phase }) => {
    const losses = sum(counts.losses.values())
    return `${ground}: ${phase}, ${counts.acquisitions} acq, ${counts.writes} wr, ${losses} lost, ${faults} faults`
  }).join(" | ")

export const showReport = (report: Report): string => {
  const { counts, faults, ground, lives, recoveries, violations } = report
  const told = counts.early.toSorted((a, b) => a - b)
  const inTime = told.filter((early) => early >= 0)
  const late = told.filter((early) => early < 0)
  const recovery = [...recoveries.values()].map((after) => after === undefined ? Infinity : after)
  const lines: ReadonlyArray<readonly [string, string]> = [
    [
      "operations",
      `${counts.acquisitions} acquisitions, ${counts.reads} reads, ${counts.writes} writes, ${lives} lives`
    ],
    ["faults", `${sum(faults.values())}: ${list(faults)}`],
    ["came to nothing", list(counts.failures)],
    [
      "losses told",
      told.length === 0 ?
        "none" :
        `${list(counts.losses)}; ${inTime.length} before the backend could give the lock away`
        + (inTime.length === 0 ? "" : ` (median ${Math.round(median(inTime))} ms before)`)
        + (late.length === 0
          ? ""
          : `, ${late.length} after it, at most ${
            Math.round(-late[0]!)
          } ms (a process that does not run is told when it does)`)
    ],
    [
      "late writes",
      `${counts.refused + counts.lateRefused} calls refused; ${counts.lateWrites} writes sent after a loss, `
      + `${counts.lateRefused} of them refused, nobody had come after the others`
    ],
    ["stalls", `${counts.stalls.length}, the longest ${Math.max(0, ...counts.stalls)} ms`],
    ["acquired again", `${Math.round(Math.max(0, ...recovery))} ms after the last fault at the latest`],
    ...(ground.remark === undefined ? [] : [["judged", ground.remark] as const]),
    ["verdict", violations.length === 0 ? `${ground.rules.join(", ")} hold` : `${violations.length} VIOLATIONS`]
  ]
  return [
    `${ground.name} (ttl ${ground.ttl} ms)`,
    ...lines.map(([name, text]) => `  ${name.padEnd(16)}${text}`),
    ...violations.slice(0, 10).map(({ rule, what }) => `  ${rule}  ${what}`),
    ...(violations.length > 10 ? [`  and ${violations.length - 10} more`] : [])
  ].join("\n")
}

/** What it takes to look at it again. */
export const showReplay = ({ ground, seed, strokes }: Report, seconds: number): string =>
  [
    `what was done to ${ground.name}:`,
    showPlan(strokes),
    `again: npm run torture -- --backend ${ground.name} --seed ${seed} --seconds ${seconds}`
  ].join("\n")

const sum = (numbers: Iterable<number>): number => [...numbers].reduce((total, n) => total + n, 0)

const median = (sorted: ReadonlyArray<number>): number => sorted[Math.floor(sorted.length / 2)] ?? 0

const list = (counts: ReadonlyMap<string, number>): string =>
  counts.size === 0 ? "none" : [...counts].sort(([, a], [, b]) => b - a).map(([what, n]) => `${n} ${what}`).join(", ")

/** Many processes with many callers each, who all want one lock. */
import type { Place } from "../harness/Contestant.ts"
import type { Effort } from "../harness/Effort.ts"
import { type Child, start } from "../harness/fork.ts"
import { exactly, measure, quantile } from "../harness/statistics.ts"
import { type Row, type Table, values } from "../harness/Table.ts"
import { judge, percentile, type Turn } from "../harness/turns.ts"
import type { Counter } from "./rounds.ts"
import { attempt, type Entry, reference } from "./Suite.ts"

export interface CrowdOptions {
  readonly id: string
  readonly title: string
  readonly all: ReadonlyArray<Entry>
  readonly place: Place
  readonly effort: Effort
  readonly processes: number
  readonly waiters: number
  readonly log: (line: string) => void
  readonly counter?: Counter
  readonly clear?: () => Promise<unknown>
}

/** Between two locks a caller rests for up to so long. */
const rest = 40
const work = 1

/** Callers that asked within so many milliseconds have no order: their requests travelled side by side. */
const sameTime = 5

const now = (): number => Number(process.hrtime.bigint()) / 1e6

const pause = (milliseconds: number) => new Promise<void>((resolve) => void setTimeout(resolve, milliseconds))

export const crowdTable = async (options: CrowdOptions): Promise<Table> => {
  const { all, counter, effort, log, processes, waiters } = options
  log(options.title)
  const rows: Array<Row> = []
  for (const entry of all.filter(({ wanted }) => wanted)) {
    await options.clear?.()
    rows.push(
      await attempt(entry, log, async () => {
        const children: Array<Child> = []
        try {
          for (let member = 0; member < processes; member++) {
            children.push(start({
              kind: "member",
              contestant: reference(entry),
              place: options.place,
              member,
              waiters,
              milliseconds: effort.crowd,
              work,
              rest,
              // Processes that share the cores get as much of them, each.
              warmUp: effort.warmUp * Math.max(1, processes / 8),
              runIn: effort.warmUp
            }))
          }
          await Promise.all(children.map((child) => child.next("ready", 120_000)))
          const begin = now() + 100
          const at = begin + effort.warmUp
          for (const child of children) child.send({ kind: "go", at: begin })
          await pause(at - now())
          await counter?.reset()
          await pause(at + effort.crowd - now())
          const count = await counter?.read(entry.contestant.sends ?? [])
          const answers = await Promise.all(
            children.map((child) => child.next<ReadonlyArray<Turn>>("answer", 60_000))
          )
          const turns = answers.flat()
          const verdict = judge(turns, sameTime, at + effort.crowd)
          const { grants, handOver, waits } = verdict
          const served = new Map<number, number>()
          for (const turn of turns) {
            served.set(turn.waiter, (served.get(turn.waiter) ?? 0) + (Number.isFinite(turn.granted) ? 1 : 0))
          }
          return {
            violations: verdict.violations,
            values: values({
              perSecond: measure(perHalfSecond(turns, at, effort.crowd)),
              handOver50: one(percentile(handOver, 0.5)),
              handOver99: one(percentile(handOver, 0.99)),
              requests: count && grants > 0 ? exactly(count.requests / grants) : undefined,
              commands: count && grants > 0 ? exactly(count.commands / grants) : undefined,
              wait50: one(waits.length > 0 ? quantile(waits, 0.5) : undefined),
              longest: one(percentile(waits, 1)),
              inversions: exactly(verdict.inversions),
              starved: exactly(processes * waiters - [...served.values()].filter((count) => count > 0).length),
              fairness: exactly(jain([...served.values()]))
            })
          }
        } finally {
          await Promise.all(children.map((child) => child.end()))
        }
      })
    )
  }
  return {
    id: options.id,
    title: options.title,
    about: `${processes} processes with ${waiters} callers each want one lock; a holder has it for ${work} ms and then `
      + `rests for up to ${rest} ms. ${
        effort.crowd / 1000
      } s. A hand-over is from the release that is sent to the next `
      + `grant, where somebody waited; the spread of the rate is that of its half seconds.`,
    columns: [
      { id: "perSecond", title: "locks per second", unit: "/s", digits: 0, best: "highest" },
      { id: "handOver50", title: "hand-over p50", unit: "ms", digits: 2 },
      { id: "handOver99", title: "hand-over p99", unit: "ms", digits: 2 },
      ...(counter === undefined ? [] : [
        { id: "requests", title: "requests per lock", unit: "", digits: 2 },
        { id: "commands", title: "commands in the server per lock", unit: "", digits: 1 }
      ]),
      { id: "wait50", title: "wait p50", unit: "ms", digits: 0 },
      { id: "longest", title: "longest wait", unit: "ms", digits: 0 },
      { id: "inversions", title: "served out of order", unit: "", digits: 3 },
      { id: "starved", title: "never served", unit: "", digits: 0 },
      { id: "fairness", title: "Jain's fairness", unit: "", digits: 2, best: "highest" }
    ],
    rows,
    charts: [
      { column: "perSecond", scale: "linear" },
      { column: "handOver50", scale: "logarithmic" }
    ]
  }
}

const one = (value: number | undefined) => value === undefined ? undefined : exactly(value)

const perHalfSecond = (turns: ReadonlyArray<Turn>, at: number, milliseconds: number): ReadonlyArray<number> => {
  const length = Math.min(500, milliseconds)
  const bins = Array.from({ length: Math.floor(milliseconds / length) }, () => 0)
  for (const { granted } of turns) {
    const bin = Math.floor((granted - at) / length)
    const count = bins[bin]
    if (count !== undefined) bins[bin] = count + 1
  }
  return bins.map((count) => count * 1000 / length)
}

/** 1 if everybody got the same number of turns, 1/n if one got all. */
const jain = (counts: ReadonlyArray<number>): number => {
  const sum = counts.reduce((a, b) => a + b, 0)
  const squares = counts.reduce((a, b) => a + b * b, 0)
  return squares === 0 ? 0 : sum * sum / (counts.length * squares)
}

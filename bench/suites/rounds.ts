/** Callers of one process who all want one lock at once. */
import type { Place } from "../harness/Contestant.ts"
import type { Effort } from "../harness/Effort.ts"
import { start } from "../harness/fork.ts"
import { exactly, measure } from "../harness/statistics.ts"
import { type Column, type Row, type Table, values } from "../harness/Table.ts"
import type { Round } from "../harness/tasks.ts"
import { judge, percentile } from "../harness/turns.ts"
import { attempt, type Entry, reference } from "./Suite.ts"

/** What the server counted. */
export interface Counted {
  readonly requests: number
  readonly commands: number
  readonly connections: number
}

/** Counts from one moment to another. */
export interface Counter {
  readonly reset: () => Promise<void>
  readonly read: (sends: ReadonlyArray<string>) => Promise<Counted>
}

export interface RoundsOptions {
  readonly id: string
  readonly title: string
  readonly all: ReadonlyArray<Entry>
  readonly place: Place
  readonly effort: Effort
  readonly log: (line: string) => void
  /** What a holder does, in milliseconds. */
  readonly work: number
  readonly counter?: Counter
  readonly clear?: () => Promise<unknown>
}

const counted: ReadonlyArray<Column> = [
  { id: "requests", title: "requests per lock", unit: "", digits: 2 },
  { id: "commands", title: "commands in the server per lock", unit: "", digits: 1 },
  { id: "connections", title: "new connections", unit: "", digits: 0 }
]

/** A contestant that needs minutes is cut off. */
const longest = 60_000

export const roundsTable = async (options: RoundsOptions): Promise<Table> => {
  const { all, counter, effort, log, place } = options
  log(options.title)
  const rows: Array<Row> = []
  for (const entry of all.filter(({ name, wanted }) => wanted && !name.includes("excludes nobody"))) {
    await options.clear?.()
    rows.push(
      await attempt(entry, log, async () => {
        const child = start({
          kind: "rounds",
          contestant: reference(entry),
          place,
          waiters: effort.waiters,
          rounds: effort.rounds,
          warmUp: effort.warmUp,
          within: effort.roundsWithin,
          work: options.work
        })
        try {
          await child.next("ready", longest + effort.warmUp)
          await counter?.reset()
          child.send({ kind: "go" })
          const rounds = await child.next<ReadonlyArray<Round>>("answer", longest + effort.roundsWithin)
          const count = await counter?.read(entry.contestant.sends ?? [])
          const verdicts = rounds.map(({ turns }) => judge(turns, 0, Number.POSITIVE_INFINITY))
          const locks = rounds.length * effort.waiters
          const of = (value: (verdict: ReturnType<typeof judge>) => number | undefined) =>
            measure(verdicts.map(value).filter((found) => found !== undefined))
          return {
            violations: verdicts.reduce((sum, { violations }) => sum + violations, 0),
            values: values({
              total: measure(rounds.map(({ milliseconds }) => milliseconds)),
              handOver50: of(({ handOver }) => percentile(handOver, 0.5)),
              handOver99: of(({ handOver }) => percentile(handOver, 0.99)),
              longest: of(({ waits }) => percentile(waits, 1)),
              inversions: of(({ inversions }) => inversions),
              requests: count && exactly(count.requests / locks),
              commands: count && exactly(count.commands / locks),
              connections: count && exactly(count.connections)
            })
          }
        } finally {
          await child.end()
        }
      })
    )
  }
  const work = options.work > 0
    ? `holds it for ${options.work} ms (a timer's, so a little more)`
    : "gives it back at once"
  return {
    id: options.id,
    title: options.title,
    about: `${effort.waiters} callers of one process ask for one lock at once; each ${work}. `
      + `Up to ${effort.rounds} rounds. A hand-over is from the release that is sent to the next grant.`,
    columns: [
      { id: "total", title: "all served after", unit: "ms", digits: 1 },
      { id: "handOver50", title: "hand-over p50", unit: "ms", digits: 3 },
      { id: "handOver99", title: "hand-over p99", unit: "ms", digits: 3 },
      { id: "longest", title: "longest wait", unit: "ms", digits: 0 },
      { id: "inversions", title: "served out of order", unit: "", digits: 3 },
      ...(counter === undefined ? [] : counted)
    ],
    rows,
    charts: [{ column: "total", scale: "logarithmic" }]
  }
}

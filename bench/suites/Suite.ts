/** What a suite is given, and what two or more of them do. */
import type { Effect, Scope } from "effect"
import { type Contestant, type Place, type Reference, resolveContestant } from "../harness/Contestant.ts"
import type { Effort } from "../harness/Effort.ts"
import { ask, NoAnswer } from "../harness/fork.ts"
import { measure } from "../harness/statistics.ts"
import { type Column, type Row, type Table, values } from "../harness/Table.ts"
import type { Slice, SlicesAnswer } from "../harness/tasks.ts"

export interface Suite {
  readonly name: string
  /** Programs that must be on the PATH. */
  readonly programs: ReadonlyArray<string>
  readonly run: (effort: Effort, log: (line: string) => void) => Effect.Effect<ReadonlyArray<Table>, never, Scope.Scope>
}

export interface Entry extends Reference {
  readonly contestant: Contestant
  /** Whether it has a row; floors without one are compared with all the same. */
  readonly wanted: boolean
}

/** The only ones that have rows; none: everybody. */
export const only: Set<string> = new Set()

/** Every contestant that these modules have. */
export const entries = async (...modules: ReadonlyArray<string>): Promise<ReadonlyArray<Entry>> => {
  const all: Array<Entry> = []
  for (const module of modules) {
    const { contestants }: { contestants: ReadonlyArray<Contestant> } = await import(
      new URL(`../${module}`, import.meta.url).href
    )
    for (const { name } of contestants) {
      const wanted = only.size === 0 || only.has(name)
      all.push({ module, name, wanted, contestant: await resolveContestant({ module, name }) })
    }
  }
  return all
}

export const reference = ({ module, name }: Reference): Reference => ({ module, name })

/** A row of what was measured, or of why nothing was. */
export const attempt = async (
  { contestant: { name, role } }: Entry,
  log: (line: string) => void,
  measured: () => Promise<Omit<Row, "name" | "role" | "status">>
): Promise<Row> => {
  try {
    const row: Row = { name, role, status: "measured", ...(await measured()) }
    log(`  ${name}`)
    return row
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error
    log(`  ${name}: ${error.status}${error.status === "failed" ? `, ${error.message}` : ""}`)
    const detail = error.status === "failed" ? { detail: error.message } : {}
    return { name, role, status: error.status, ...detail, values: {} }
  }
}

export const sliceColumns = (floors: ReadonlyArray<Entry>): ReadonlyArray<Column> => [
  ...floors.map(({ name }, index): Column => ({
    id: `ratio${index}`,
    title: `× ${name}`,
    unit: "",
    digits: 3,
    best: "highest"
  })),
  { id: "perSecond", title: "locks per second", unit: "/s", digits: 0, best: "highest" },
  { id: "p50", title: "p50", unit: "ms", digits: 3 },
  { id: "p99", title: "p99", unit: "ms", digits: 3 }
]

/** Each slice over the mean of the floor's slices before and after it. */
const ratios = (slices: ReadonlyArray<Slice>, floor: ReadonlyArray<Slice>): ReadonlyArray<number> =>
  slices.map((slice, index) => {
    const before = floor[index]?.perSecond ?? Number.NaN
    const after = floor[index + 1]?.perSecond ?? Number.NaN
    return slice.perSecond / ((before + after) / 2)
  })

export interface SlicedOptions {
  readonly id: string
  readonly title: string
  readonly about: string
  readonly all: ReadonlyArray<Entry>
  readonly place: Place
  readonly keys: number
  readonly effort: Effort
  readonly log: (line: string) => void
  /** The floor that the chart compares with. */
  readonly chart?: number
  /** Before each contestant. */
  readonly reset?: () => Promise<unknown>
}

/** The table of a shape in which nobody waits: contestant and floors alternate in slices. */
export const sliced = async (options: SlicedOptions): Promise<Table> => {
  const { all, effort, keys, log, place } = options
  const floors = all.filter(({ contestant }) => contestant.role === "floor")
  log(options.title)
  const rows: Array<Row> = []
  for (const entry of all.filter(({ wanted }) => wanted)) {
    await options.reset?.()
    rows.push(
      await attempt(entry, log, async () => {
        const answer = await ask<SlicesAnswer>({
          kind: "slices",
          contestant: reference(entry),
          floors: floors.map(reference),
          place,
          keys,
          slices: effort.slices,
          slice: effort.slice,
          warmUp: effort.warmUp
        }, 60_000 + effort.slices * (floors.length + 1) * effort.slice * 10)
        const { floors: measured, slices, violations } = answer
        return {
          ...(entry.contestant.role === "floor" ? {} : { violations }),
          values: values({
            ...Object.fromEntries(
              floors.map((_, index) => {
                const slicesOf = measured[index] ?? []
                return [`ratio${index}`, slicesOf.length === 0 ? undefined : measure(ratios(slices, slicesOf))]
              })
            ),
            perSecond: measure(slices.map(({ perSecond }) => perSecond)),
            p50: measure(slices.map(({ p50 }) => p50).filter(Number.isFinite)),
            p99: measure(slices.map(({ p99 }) => p99).filter(Number.isFinite))
          })
        }
      })
    )
  }
  return {
    id: options.id,
    title: options.title,
    about: `${options.about} ${effort.slices} slices of ${effort.slice} ms each, alternating with each floor.`,
    columns: sliceColumns(floors),
    rows,
    charts: [{ column: `ratio${options.chart ?? 0}`, scale: "linear" }]
  }
}

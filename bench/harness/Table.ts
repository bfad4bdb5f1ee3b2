/** Results, as they are written to files: everything that is shown is made from them. */
import type { Role } from "./Contestant.ts"
import type { Measure } from "./statistics.ts"

export interface Column {
  readonly id: string
  readonly title: string
  readonly unit: string
  readonly digits: number
  /** Which values are good; the lowest unless it says so. */
  readonly best?: "highest"
}

export type Status = "measured" | "not installed" | "failed"

export interface Row {
  readonly name: string
  readonly role: Role
  readonly status: Status
  /** What went wrong, or what to know. */
  readonly detail?: string
  /** Times that two held one lock; absent where it was not looked for. */
  readonly violations?: number
  readonly values: Readonly<Record<string, Measure>>
}

export interface Table {
  /** Also the name of its files. */
  readonly id: string
  readonly title: string
  /** The shape, in a sentence or two: what was done, how often. */
  readonly about: string
  readonly columns: ReadonlyArray<Column>
  readonly rows: ReadonlyArray<Row>
  /** The columns that have a chart. */
  readonly charts: ReadonlyArray<{ readonly column: string; readonly scale: "linear" | "logarithmic" }>
}

export interface Results {
  readonly format: 1
  readonly suite: string
  readonly startedAt: string
  readonly finishedAt: string
  /** How long and how often: `full`, `quick` or `tiny`. */
  readonly effort: string
  readonly machine: Readonly<Record<string, string | number>>
  readonly versions: Readonly<Record<string, string>>
  readonly tables: ReadonlyArray<Table>
}

/** Measures that are there: a row leaves out what it has no value for. */
export const values = (
  all: Readonly<Record<string, Measure | undefined>>
): Readonly<Record<string, Measure>> =>
  Object.fromEntries(Object.entries(all).flatMap(([id, value]) => value === undefined ? [] : [[id, value]]))

/** Results for people: Markdown beside the charts, and text for the terminal. */
import { chart, format } from "./chart.ts"
import type { Column, Results, Row, Table } from "./harness/Table.ts"

/** Every chart there is, by the name of its file. */
export const charts = ({ tables }: Results): ReadonlyArray<readonly [file: string, svg: string]> =>
  tables.flatMap((table) =>
    table.charts.map(({ column, scale }) => [`${table.id}-${column}.svg`, chart(table, column, scale)] as const)
  )

const cell = (row: Row, column: Column): string => {
  const found = row.values[column.id]
  if (found === undefined) return ""
  const text = format(found.median, column.digits)
  if (found.n === 1) return text
  return `${text} (${format(found.p10, column.digits)}–${format(found.p90, column.digits)})`
}

const violated = (row: Row): boolean => (row.violations ?? 0) > 0

const status = (row: Row): string => {
  if (violated(row)) return `VIOLATED ${row.violations} times`
  if (row.status !== "measured") return row.detail === undefined ? row.status : `${row.status}: ${row.detail}`
  return row.violations === undefined ? "" : "kept"
}

const hasStatus = (table: Table): boolean => table.rows.some((row) => status(row) !== "")

const headings = (table: Table): ReadonlyArray<string> => [
  "",
  ...table.columns.map(({ title, unit }) => unit === "" ? title : `${title} (${unit})`),
  ...(hasStatus(table) ? ["exclusion"] : [])
]

const lines = (table: Table, name: (row: Row) => string): ReadonlyArray<ReadonlyArray<string>> =>
  table.rows.map((
    row
  ) => [name(row), ...table.columns.map((column) => cell(row, column)), ...(hasStatus(table) ? [status(row)] : [])])

const markdownCell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("<", "&lt;")

const markdownTable = (table: Table): string => {
  const name = (row: Row) =>
    row.role === "effect-lock" ? `**${row.name}**` : row.role === "floor" ? `*${row.name}*` : row.name
  const mark = (line: ReadonlyArray<string>) =>
    line.map((text) => text.startsWith("VIOLATED") ? `🔴 **${text}**` : text)
  const row = (line: ReadonlyArray<string>) => `| ${line.map(markdownCell).join(" | ")} |`
  return [
    row(headings(table)),
    row(headings(table).map((_, index) => index === 0 ? "---" : "--:")),
    ...lines(table, name).map((line) => row(mark(line)))
  ].join("\n")
}

const listed = (all: Readonly<Record<string, string | number>>): string =>
  Object.entries(all).map(([name, value]) => `${name} ${value}`).join(" · ")

/** One page of everything that was measured last. */
export const markdown = (all: ReadonlyArray<Results>): string =>
  [
    "# Results",
    "",
    "Written by `npm run bench` from the files beside it; don't edit. What is measured, and how: [../README.md](../README.md).",
    "",
    "Each number is a median, with the tenth and the ninetieth percentile in brackets. **Ours** are bold, *floors* in "
    + "italics: what the server, or the platform, does at best. A ratio `× floor` of 0.9 says that 0.9 locks are taken in "
    + "the time of one of the floor's.",
    ...all.flatMap(({ effort, finishedAt, machine, startedAt, suite, tables, versions }) => [
      "",
      `## ${suite}`,
      "",
      `${startedAt} to ${finishedAt}, effort: ${effort}. ${listed(machine)}.`,
      "",
      `Versions: ${listed(versions)}.`,
      ...tables.flatMap((table) => [
        "",
        `### ${table.title}`,
        "",
        table.about,
        "",
        markdownTable(table),
        ...table.charts.flatMap(({ column }) => ["", `![${table.title}](${table.id}-${column}.svg)`])
      ])
    ]),
    ""
  ].join("\n")

/** The same for a terminal; where a lock did not exclude, in red. */
export const text = (table: Table, colour: boolean): string => {
  const all = [headings(table), ...lines(table, ({ name }) => name)]
  const widths = headings(table).map((_, index) => Math.max(...all.map((line) => line[index]?.length ?? 0)))
  const shown = all.map((line) => {
    const joined = line.map((each, index) =>
      index === 0 ? each.padEnd(widths[index] ?? 0) : each.padStart(widths[index] ?? 0)
    ).join("  ")
    return colour && line.some((each) => each.startsWith("VIOLATED")) ? `\u001b[31m${joined}\u001b[0m` : joined
  })
  return [table.title, ...shown].join("\n")
}

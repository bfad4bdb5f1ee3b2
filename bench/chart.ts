/** Draws a column of a table as bars: an SVG that can be read on a light page and on a dark one. */
import type { Column, Row, Table } from "./harness/Table.ts"

const escape = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("\"", "&quot;")

export const format = (value: number, digits: number): string =>
  Number.isFinite(value)
    ? value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })
    : "–"

const width = 880
const nameWidth = 320
const valueWidth = 160
const rowHeight = 26
const top = 64
const barHeight = 14
const plot = width - nameWidth - valueWidth

/** Place of a value on the scale, from 0 to `plot`. */
const scaleOf = (scale: "linear" | "logarithmic", all: ReadonlyArray<number>): (value: number) => number => {
  const positive = all.filter((value) => value > 0)
  const high = Math.max(...positive, Number.MIN_VALUE)
  if (scale === "linear") return (value) => Math.max(0, value) / high * plot
  // The lowest value has a bar too.
  const low = Math.min(...positive) / 1.6
  const range = Math.log(high / low) || 1
  return (value) => value <= low ? 0 : Math.log(value / low) / range * plot
}

const styles = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .note { font-size: 12px; fill: #59636e }
  .value { font-variant-numeric: tabular-nums }
  .axis { stroke: #d1d9e0; stroke-width: 1 }
  .spread { stroke: #1f2328; stroke-width: 1.5 }
  .effect-lock { fill: #1a7f64 }
  .peer { fill: #8aa4c8 }
  .floor { fill: #c4c9d0 }
  .broken { fill: #cf222e }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .note { fill: #9198a1 }
    .axis { stroke: #3d444d }
    .spread { stroke: #e6edf3 }
    .effect-lock { fill: #3fb68b }
    .peer { fill: #5b7aa8 }
    .floor { fill: #59636e }
    .broken { fill: #f85149 }
  }
`

const byValue = ({ best, id }: Column) => (a: Row, b: Row): number => {
  const [left, right] = [a.values[id]?.median, b.values[id]?.median]
  if (left === undefined || right === undefined) return (left === undefined ? 1 : 0) - (right === undefined ? 1 : 0)
  return best === "highest" ? right - left : left - right
}

/** The chart of one column; best first, with the tenth and ninetieth percentile as a line over each bar. */
export const chart = (table: Table, columnId: string, scale: "linear" | "logarithmic"): string => {
  const column = table.columns.find(({ id }) => id === columnId)
  if (column === undefined) throw new Error(`${table.id} has no column ${columnId}`)
  const rows = [...table.rows].sort(byValue(column))
  const measures = rows.map((row) => row.values[columnId])
  const at = scaleOf(
    scale,
    measures.flatMap((found) => found === undefined ? [] : [found.median, found.p10, found.p90])
  )
  const height = top + rows.length * rowHeight + 12
  const unit = column.unit === "" ? "" : ` (${column.unit})`
  const note = `${column.title}${unit}; ${column.best === "highest" ? "more" : "less"} is better${
    scale === "logarithmic" ? "; logarithmic scale" : ""
  }`
  const bars = rows.map((row, index) => {
    const measured = measures[index]
    const middle = top + index * rowHeight + rowHeight / 2
    const name = `<text x="${nameWidth - 10}" y="${middle + 4}" text-anchor="end">${escape(row.name)}</text>`
    if (measured === undefined) {
      const why = row.status === "measured" ? "–" : row.status
      return `${name}<text class="note" x="${nameWidth + 6}" y="${middle + 4}">${escape(why)}</text>`
    }
    const broken = (row.violations ?? 0) > 0
    const bar = at(measured.median)
    const kind = broken ? "broken" : row.role
    const text = `${format(measured.median, column.digits)}${broken ? " – two held it" : ""}`
    const end = Math.max(bar, at(measured.p90))
    return [
      name,
      `<rect class="${kind}" x="${nameWidth}" y="${middle - barHeight / 2}" width="${
        bar.toFixed(1)
      }" height="${barHeight}" rx="2"/>`,
      measured.n > 1
        ? `<line class="spread" x1="${(nameWidth + at(measured.p10)).toFixed(1)}" x2="${
          (nameWidth + at(measured.p90)).toFixed(1)
        }" y1="${middle}" y2="${middle}"/>`
        : "",
      `<text class="value" x="${(nameWidth + end + 8).toFixed(1)}" y="${middle + 4}">${escape(text)}</text>`
    ].join("")
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${
      escape(table.title)
    }">`,
    `<style>${styles}</style>`,
    `<text class="title" x="12" y="26">${escape(table.title)}</text>`,
    `<text class="note" x="12" y="46">${escape(note)}</text>`,
    `<line class="axis" x1="${nameWidth}" x2="${nameWidth}" y1="${top - 4}" y2="${height - 8}"/>`,
    ...bars,
    "</svg>",
    ""
  ].join("\n")
}

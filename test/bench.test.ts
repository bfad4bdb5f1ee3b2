/**
 * The benchmarks run and write what they should, whether or not there is anything to compare with. What they measure is
 * nobody's claim here.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { chart } from "../bench/chart.ts"
import { ask, NoAnswer } from "../bench/harness/fork.ts"
import { measure, quantile } from "../bench/harness/statistics.ts"
import type { Results, Row, Table } from "../bench/harness/Table.ts"
import { judge, type Turn } from "../bench/harness/turns.ts"
import { charts, markdown, text } from "../bench/report.ts"
import { succeed } from "./command.ts"

const root = path.dirname(import.meta.dirname)

/** Every element that is opened is closed, in order, and nothing is left of an ampersand or a bracket. */
const assertWellFormed = (svg: string) => {
  const open: Array<string> = []
  for (const [, end, name, , empty] of svg.matchAll(/<(\/?)([a-z]+)((?:\s[^<>]*?)?)(\/?)>/g)) {
    if (end === "/") assert.strictEqual(open.pop(), name)
    else if (empty === "" && name !== undefined) open.push(name)
  }
  assert.deepStrictEqual(open, [])
  assert.match(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" /)
  const content = svg.replace(/<style>[^<]*<\/style>/, "").replaceAll(/<[^<>]*>/g, "")
  assert.notMatch(content, /[<>]|&(?!amp;|lt;|gt;|quot;)/)
  assert.notMatch(svg, /NaN|undefined|Infinity/)
}

describe("a run on memory and files", () => {
  let folder: string
  let results: ReadonlyArray<Results>

  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "effect-lock-bench-test-"))
    const wanted = ["effect-lock", "async-mutex", "proper-lockfile"].flatMap((name) => ["--contestant", name])
    await succeed(
      process.execPath,
      [
        ...["--conditions=effect-lock-source", "bench/main.ts", "--tiny", "--no-install"],
        ...["--only", "memory,file", "--results", folder, ...wanted]
      ],
      { cwd: root }
    )
    results = ["memory", "file"].map((suite) => JSON.parse(readFileSync(path.join(folder, `${suite}.json`), "utf8")))
  })

  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it("writes where and with what it was measured", () => {
    for (const { effort, machine, startedAt, versions } of results) {
      assert.strictEqual(effort, "tiny, from the sources")
      assert.includeMembers(Object.keys(machine), ["CPU", "CPUs", "load average at the start"])
      assert.strictEqual(versions["node"], process.versions.node)
      assert.match(versions["effect"] ?? "", /^4\./)
      assert.isFalse(Number.isNaN(Date.parse(startedAt)))
    }
  })

  it("measures effect-lock in every shape, and its locks exclude", () => {
    const tables = results.flatMap(({ tables }) => tables)
    assert.deepStrictEqual(tables.map(({ id }) => id), [
      ...["memory-sequential", "memory-keys", "memory-waiters", "file-sequential", "file-waiters"]
    ])
    for (const { columns, id, rows } of tables) {
      const ours = rows.find(({ name }) => name === "effect-lock")
      assert.strictEqual(ours?.status, "measured", id)
      assert.isNotEmpty(Object.keys(ours?.values ?? {}), id)
      assert.strictEqual(ours?.violations, 0, id)
      for (const row of rows) {
        assert.oneOf(row.status, ["measured", "not installed", "failed"])
        for (const [column, { median, n, p10, p90 }] of Object.entries(row.values)) {
          assert.include(columns.map(({ id }) => id), column)
          assert.isTrue([median, p10, p90].every(Number.isFinite) && n > 0 && p10 <= median && median <= p90, column)
        }
      }
    }
  })

  it("lists the peers, installed or not", () => {
    const names = (id: string) =>
      results.flatMap(({ tables }) => tables).find((table) => table.id === id)?.rows
        .map(({ name }) => name)
    assert.includeMembers(names("memory-sequential") ?? [], ["async-mutex"])
    assert.includeMembers(names("file-sequential") ?? [], ["proper-lockfile"])
  })

  it("draws every chart, and writes the page, from the files and nothing else", () => {
    const expected = results.flatMap(charts)
    assert.isNotEmpty(expected)
    for (const [file, svg] of expected) {
      assertWellFormed(svg)
      assert.strictEqual(readFileSync(path.join(folder, file), "utf8"), svg)
    }
    assert.strictEqual(readFileSync(path.join(folder, "README.md"), "utf8"), markdown(results))
    assert.deepStrictEqual(readdirSync(folder).sort(), [
      ...["README.md", "file.json", "memory.json", ...expected.map(([file]) => file)].sort()
    ])
  })
})

describe("a contestant that can't run", () => {
  const run = (module: string) =>
    ask({
      kind: "slices",
      contestant: { module, name: "nobody" },
      ...{ floors: [], place: {}, keys: 1, slices: 1, slice: 1, warmUp: 1 }
    }, 30_000).then(() => undefined, (error: unknown) => error)

  it("is not installed if a module is missing", async () => {
    const problem = await run("peers/nobody.ts")
    assert.instanceOf(problem, NoAnswer)
    assert.strictEqual(problem.status, "not installed")
  })

  it("has failed otherwise, with the reason", async () => {
    const problem = await run("floors/file.ts")
    assert.instanceOf(problem, NoAnswer)
    assert.strictEqual(problem.status, "failed")
    assert.match(problem.message, /has no contestant nobody/)
  })
})

describe("turns", () => {
  const turn = (waiter: number, asked: number, granted: number, ended: number): Turn => ({
    waiter,
    asked,
    granted,
    ended
  })

  it("two at once are a violation, one after the other are none", () => {
    assert.strictEqual(judge([turn(0, 0, 1, 5), turn(1, 0, 4, 8)], 0, 10).violations, 1)
    assert.strictEqual(judge([turn(0, 0, 1, 9), turn(1, 0, 2, 3), turn(2, 0, 4, 5)], 0, 10).violations, 2)
    assert.strictEqual(judge([turn(0, 0, 1, 5), turn(1, 0, 5, 8)], 0, 10).violations, 0)
  })

  it("a hand-over is from the end of a turn to the next grant, where somebody waited", () => {
    const { grants, handOver, waits } = judge([turn(0, 0, 0, 4), turn(1, 1, 6, 7), turn(2, 20, 21, 22)], 0, 30)
    assert.deepStrictEqual([...handOver], [2])
    assert.deepStrictEqual([...waits], [0, 1, 5])
    assert.strictEqual(grants, 3)
  })

  it("counts who was served before somebody who waited longer, and who never was", () => {
    const never = Number.POSITIVE_INFINITY
    const turns = [turn(0, 0, 0, 5), turn(1, 1, 9, 10), turn(2, 2, 6, 8), turn(3, 3, 11, 12)]
    assert.strictEqual(judge(turns, 0, 20).inversions, 1 / 3)
    assert.strictEqual(judge([turn(0, 0, 0, 5), turn(1, 1, 6, 8), turn(2, 2, 9, 10)], 0, 20).inversions, 0)
    assert.strictEqual(judge([turn(0, 0, 0, 5), turn(1, 1, never, never)], 0, 20).starved, 1)
  })
})

describe("statistics", () => {
  it("a quantile lies between its neighbours", () => {
    assert.strictEqual(quantile([1, 2, 3, 4], 0.5), 2.5)
    assert.strictEqual(quantile([1, 2, 3], 1), 3)
    assert.strictEqual(quantile([0, Infinity, Infinity], 0.75), Infinity)
    assert.isUndefined(measure([]))
  })
})

describe("charts", () => {
  const value = (median: number) => ({ median, p10: median * 0.9, p90: median * 1.1, n: 9 })
  const rows: ReadonlyArray<Row> = [
    { name: "slow & <plain>", role: "peer", status: "measured", violations: 0, values: { rate: value(10) } },
    { name: "fast", role: "effect-lock", status: "measured", violations: 0, values: { rate: value(900) } },
    { name: "none", role: "peer", status: "measured", violations: 0, values: { rate: value(0) } },
    { name: "careless", role: "peer", status: "measured", violations: 3, values: { rate: value(500) } },
    { name: "absent", role: "peer", status: "not installed", values: {} }
  ]
  const table: Table = {
    id: "made-up",
    title: "Made up",
    about: "",
    columns: [{ id: "rate", title: "locks per second", unit: "/s", digits: 0, best: "highest" }],
    rows,
    charts: [{ column: "rate", scale: "linear" }]
  }

  for (const scale of ["linear", "logarithmic"] as const) {
    it(`are well-formed, whatever the values (${scale})`, () => assertWellFormed(chart(table, "rate", scale)))
  }

  it("show the best first, and a lock that did not exclude as what it is", () => {
    const svg = chart(table, "rate", "linear")
    const names = [...svg.matchAll(/text-anchor="end">([^<]*)</g)].map(([, name]) => name)
    assert.deepStrictEqual(names, ["fast", "careless", "slow &amp; &lt;plain&gt;", "none", "absent"])
    assert.strictEqual(svg.match(/class="broken"/g)?.length, 1)
    assert.include(svg, "not installed")
  })

  it("a violation is red in the terminal too", () => {
    const red = text(table, true).split("\n").filter((line) => line.startsWith("\u001b[31m"))
    assert.strictEqual(red.length, 1)
    assert.match(red[0] ?? "", /careless .* VIOLATED 3 times/)
  })
})

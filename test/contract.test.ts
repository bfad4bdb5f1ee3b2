/**
 * The page that tells which backend keeps which law is made by a run, and is of the laws and backends that there are.
 */
import { assert, describe, it } from "@effect/vitest"
import { BackendLaws } from "effect-lock/testing"
import { readFileSync } from "node:fs"
import * as path from "node:path"
import { backends } from "./everyBackend.ts"

const page = readFileSync(path.join(import.meta.dirname, "../docs/contract.md"), "utf8")
const rows = page.split("\n").filter((line) => line.startsWith("| ")).map((line) =>
  line.split(" | ").map((cell) => cell.replace(/^\| | \|$/g, ""))
)

describe("docs/contract.md (npm run contract)", () => {
  it("has every backend", () => assert.deepStrictEqual(rows[0], ["law", "claim", ...backends.map(({ name }) => name)]))

  it("has every law, in its words", () =>
    assert.deepStrictEqual(
      rows.slice(1).map(([id, claim]) => [id, claim]),
      BackendLaws.all.map(({ claim, id }) => [`\`${id}\``, claim])
    ))

  it("shows no law that is broken, and says why one was not asked", () => {
    const reasons = page.split("\n").flatMap((line) => /^(\d+)\. ./.exec(line)?.[1] ?? [])
    for (const [id, , ...cells] of rows.slice(1)) {
      for (const cell of cells) {
        assert.isTrue(cell === "kept" || reasons.includes(/^– \((\d+)\)$/.exec(cell)?.[1] ?? ""), `${id}: ${cell}`)
      }
    }
  })
})

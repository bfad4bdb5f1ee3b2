/**
 * The examples run, print what they say, and the custom backend keeps the laws.
 */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { BackendLaws } from "effect-lock/testing"
import { testLaws } from "effect-lock/testing/vitest"
import { readFileSync } from "node:fs"
import * as path from "node:path"
import * as KeyValueLock from "../examples/custom-backend/KeyValueLock.ts"
import * as KeyValueStore from "../examples/custom-backend/KeyValueStore.ts"
import { blocksOf, complaintAboutRunning } from "./documentation/CodeBlock.ts"

const root = path.dirname(import.meta.dirname)
const read = (file: string) => readFileSync(path.join(root, file), "utf8")

describe("the examples", () => {
  for (const file of ["examples/custom-backend/main.ts", "examples/two-backends/main.ts"]) {
    it(`${file} prints what it says`, async () => {
      assert.include(read(file), "// prints: ")
      assert.isUndefined(await complaintAboutRunning(path.join(root, file)))
    })
  }
})

describe("the page about adding a backend", () => {
  const page = "docs/adding-a-backend.md"
  const source = read("examples/custom-backend/KeyValueLock.ts")

  it("shows the example that the laws are asked of", () =>
    assert.include(blocksOf(page, read(page)).map(({ code }) => code), source))

  it("names laws that there are", () => {
    const known = new Set(BackendLaws.all.map(({ id }) => id))
    const named = [...read(page).matchAll(/`([a-z]+\/[a-z-]+)`/g)].map(([, id = ""]) => id)
    assert.isAbove(named.length, 10)
    assert.deepStrictEqual(named.filter((id) => !known.has(id)), [])
  })

  it("shows less than 100 lines of code", () =>
    assert.isBelow(source.split("\n").filter((line) => !/^\s*(\/\/.*)?$/.test(line)).length, 100))
})

await testLaws(
  "a backend of one's own keeps the laws",
  Effect.gen(function*() {
    const store = KeyValueStore.make()
    return BackendLaws.LawEnvironment.make({
      first: yield* KeyValueLock.make(store),
      second: yield* KeyValueLock.make(store),
      withNamespace: (namespace) => KeyValueLock.make(store, namespace),
      ttl: Duration.millis(500),
      expirySlack: Duration.millis(500),
      contenders: 20,
      acquisitions: 100,
      positions: 60
    })
  }),
  { concurrent: true }
)

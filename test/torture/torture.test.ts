/** The short form of `npm run torture`: every backend under fire, all at the same time, and a mutant that is caught. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { isInstalled } from "../servers/ServerProcess.ts"
import { grounds } from "./arenas.ts"
import { mutant, mutantRun } from "./mutant.ts"
import { showReplay, showReport } from "./report.ts"
import { shortRun } from "./shortRun.ts"
import { torture } from "./torture.ts"

// Another one each day, and the same on the day that it failed.
const seed = new Date().toISOString().slice(0, 10)

describe.concurrent("torture", () => {
  for (const ground of grounds) {
    const isMissing = ground.program !== undefined && !isInstalled(ground.program)
    it.live.skipIf(isMissing)(`${ground.name} keeps its promises under fire`, () =>
      Effect.gen(function*() {
        const report = yield* torture({ ...shortRun, ground, seed })
        const { counts, violations } = report
        process.stdout.write(`${showReport(report)}\n`)
        const isWell = violations.length === 0 && counts.writes > 0
        assert.isTrue(isWell, isWell ? "" : `${showReport(report)}\n${showReplay(report, shortRun.millis / 1000)}`)
      }), 300_000)
  }

  it.live("a core that does not look whether its trust has run out is caught", () =>
    Effect.gen(function*() {
      const report = yield* torture({ ...mutantRun, seed, worker: yield* mutant })
      const caught = report.violations.filter(({ rule }) => rule === "R2")
      assert.isNotEmpty(caught, showReport(report))
      assert.match(caught[0]!.what, /the larger token/)
    }), 300_000)
})

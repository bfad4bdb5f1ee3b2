/**
 * The test of the simulation: code that is wrong on purpose, which it must notice.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Simulation } from "effect-lock/testing"
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import { type Mutant, mutants } from "./mutants.ts"

/** Each mutant is noticed within so many seeds of its mix; the real code passes twice as many in `schedules.test.ts`. */
const mostSeeds = 1000

const root = path.join(import.meta.dirname, "../..")
const src = path.join(root, "src")

/** A copy of the sources, changed; inside the repository, so that `effect` is found, and the same for all copies. */
const copyOf = ({ file, find, replace }: Mutant): string => {
  const folder = path.join(root, ".tmp")
  mkdirSync(folder, { recursive: true })
  const copy = mkdtempSync(path.join(folder, "mutant-"))
  cpSync(src, copy, {
    recursive: true,
    filter: (from) => !/^(layers|cli|fromUrl\.ts)/.test(path.relative(src, from))
  })
  const text = readFileSync(path.join(copy, file), "utf8")
  assert.lengthOf(text.split(find), 2, `${JSON.stringify(find)} must occur exactly once in src/${file}`)
  writeFileSync(path.join(copy, file), text.replace(find, () => replace))
  return copy
}

describe("simulation", () => {
  for (const mutant of mutants) {
    it(`notices, under ${mutant.mix}, that ${mutant.name}`, async () => {
      const copy = copyOf(mutant)
      try {
        const file = pathToFileURL(path.join(copy, "testing/simulation/Simulation.ts")).href
        const { mixes, simulate }: typeof Simulation = await import(/* @vite-ignore */ file)
        for (let seed = 0; seed < mostSeeds; seed++) {
          const violation = simulate(seed, mixes[mutant.mix], { processes: 2, rounds: 1 }).violations[0]
          if (violation === undefined) continue
          process.stdout.write(`${mutant.name}: seed ${seed}, ${violation.oracle}: ${violation.detail}\n`)
          return
        }
        assert.fail(`${mostSeeds} seeds of ${mutant.mix} passed although ${mutant.name}`)
      } finally {
        rmSync(copy, { recursive: true, force: true })
      }
    })
  }
})

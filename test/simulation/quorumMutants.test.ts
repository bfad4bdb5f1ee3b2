/**
 * The test of the simulation of Redlock: code that is wrong on purpose, which it must notice.
 */
import { assert, describe, it } from "@effect/vitest"
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import type * as History from "./quorumHistory.ts"
import { mixes } from "./quorumMixes.ts"
import { mutants, type QuorumMutant } from "./quorumMutants.ts"

/** Each mutant is noticed within so many seeds of its mix; the real code passes more of all mixes in `quorum.test.ts`. */
const mostSeeds = 120

const root = path.join(import.meta.dirname, "../..")

/** A copy of what a history needs, changed; inside the repository, so that `effect` is found. */
const copyOf = ({ file, find, replace }: QuorumMutant): string => {
  const folder = path.join(root, ".tmp")
  mkdirSync(folder, { recursive: true })
  const copy = mkdtempSync(path.join(folder, "mutant-"))
  cpSync(path.join(root, "src"), path.join(copy, "src"), {
    recursive: true,
    filter: (from) => {
      const [room, inside, name] = path.relative(path.join(root, "src"), from).split(path.sep)
      if (room === "layers") {
        return inside === undefined || (inside === "internal" && /^$|^quorum|^deadlines/.test(name ?? ""))
      }
      return room !== "cli"
    }
  })
  const tests = path.join(copy, "test/simulation")
  mkdirSync(tests, { recursive: true })
  for (const name of readdirSync(import.meta.dirname)) {
    if (/^quorum.*(?<!\.test)\.ts$/.test(name)) cpSync(path.join(import.meta.dirname, name), path.join(tests, name))
  }
  const changed = path.join(copy, "src/layers/internal", file)
  const text = readFileSync(changed, "utf8")
  assert.lengthOf(text.split(find), 2, `${JSON.stringify(find)} must occur exactly once in ${file}`)
  writeFileSync(changed, text.replace(find, () => replace))
  return copy
}

Error.stackTraceLimit = 3

describe("the simulation of a quorum", () => {
  for (const mutant of mutants) {
    it(`notices, under ${mutant.mix}, that ${mutant.name}`, async () => {
      const copy = copyOf(mutant)
      try {
        const file = pathToFileURL(path.join(copy, "test/simulation/quorumHistory.ts")).href
        const { simulate }: typeof History = await import(/* @vite-ignore */ file)
        for (let seed = 0; seed < mostSeeds; seed++) {
          const violation = simulate(seed, mixes[mutant.mix]).violations[0]
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

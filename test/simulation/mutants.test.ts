/**
 * The test of the simulation: code that is wrong on purpose, which it must notice.
 */
import { assert, describe, it } from "@effect/vitest"
import type * as File from "effect-lock/layers/File"
import type { Simulation } from "effect-lock/testing"
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import { fileModel } from "./fileModel.ts"
import { type Mutant, mutants } from "./mutants.ts"
import { worlds } from "./worlds.ts"

/** Each mutant is noticed within so many seeds of its mix; the real code passes ten times as many, or for files as many. */
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
    filter: (from) => !/^(cli|fromUrl\.ts)/.test(path.relative(src, from))
  })
  const text = readFileSync(path.join(copy, file), "utf8")
  assert.lengthOf(text.split(find), 2, `${JSON.stringify(find)} must occur exactly once in src/${file}`)
  writeFileSync(path.join(copy, file), text.replace(find, () => replace))
  return copy
}

Error.stackTraceLimit = 3

describe("simulation", () => {
  for (const mutant of mutants) {
    it(`notices, under ${mutant.mix}, that ${mutant.name}`, async () => {
      const copy = copyOf(mutant)
      try {
        const load = (file: string) => import(/* @vite-ignore */ pathToFileURL(path.join(copy, file)).href)
        const { simulate }: typeof Simulation = await load("testing/simulation/Simulation.ts")
        const { mix, model } = worlds[mutant.mix]!
        const { make }: typeof File | { readonly make: undefined } = model === undefined
          ? { make: undefined }
          : await load("layers/File.ts")
        const options = { processes: 2, rounds: 1, model: make === undefined ? undefined : fileModel(make) }
        for (let seed = 0; seed < mostSeeds; seed++) {
          const violation = simulate(seed, mix, options).violations[0]
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

/**
 * The package, wrong on purpose: nobody looks whether trust has run out. A torture that does not notice proves nothing.
 */
import { Effect, type Scope } from "effect"
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { type Ground, grounds } from "./arenas.ts"
import type { Options } from "./torture.ts"

export const mutation = {
  file: "src/Lease.ts",
  find: "=> trust.trusted - elapsedForTrust(trust.sentAt, now)",
  replace: "=> trust.trusted"
}

const root = path.join(import.meta.dirname, "../..")

/** A copy of the package and its worker, changed; inside the repository, so that `effect` is found. The worker's file. */
export const mutant: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => {
    const { file, find, replace } = mutation
    const folder = path.join(root, ".tmp")
    mkdirSync(folder, { recursive: true })
    const copy = mkdtempSync(path.join(folder, "torture-mutant-"))
    // The worker imports the package by its name, which the nearest package.json gives to the copy.
    for (const part of ["package.json", "src", "test/torture"]) {
      cpSync(path.join(root, part), path.join(copy, part), { recursive: true })
    }
    const text = readFileSync(path.join(copy, file), "utf8")
    if (text.split(find).length !== 2) throw new Error(`${JSON.stringify(find)} must occur exactly once in ${file}`)
    writeFileSync(path.join(copy, file), text.replace(find, () => replace))
    return copy
  }),
  (copy) => Effect.sync(() => rmSync(copy, { recursive: true, force: true }))
).pipe(Effect.map((copy) => path.join(copy, "test/torture/worker.ts")))

const [file] = grounds

/** Holders that are stopped for longer than their lease lives: each wakes up and writes. */
export const ground: Ground = {
  ...file!,
  name: "mutant",
  ttl: 400,
  choices: [{ fault: "pause", weight: 1, target: "worker", lasts: [1000, 1500] }]
}

export const mutantRun: Pick<Options, "ground" | "millis" | "workers" | "keys" | "every" | "untilCaught"> = {
  ground,
  millis: 120_000,
  workers: 3,
  keys: 2,
  every: [400, 700],
  untilCaught: true
}

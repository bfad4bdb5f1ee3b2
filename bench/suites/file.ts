import { Effect } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { roundsTable } from "./rounds.ts"
import { entries, sliced, type Suite } from "./Suite.ts"

export const file: Suite = {
  name: "file",
  programs: [],
  run: (effort, log) =>
    Effect.gen(function*() {
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(path.join(tmpdir(), "effect-lock-bench-"))),
        (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
      )
      return yield* Effect.promise(async () => {
        const all = await entries("floors/file.ts", "contestants/file.ts", "peers/file.ts")
        const place = { directory }
        return [
          await sliced({
            id: "file-sequential",
            title: "File: one caller after another",
            about: "Acquire and release one lock, again and again, in the system's folder for temporary files.",
            ...{ all, effort, keys: 1, log, place }
          }),
          await roundsTable({
            id: "file-waiters",
            title: `File: ${effort.waiters} waiters in one process`,
            ...{ all, effort, log, place, work: 1 }
          })
        ]
      })
    })
}

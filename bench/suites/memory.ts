import { Effect } from "effect"
import { roundsTable } from "./rounds.ts"
import { entries, sliced, type Suite } from "./Suite.ts"

export const memory: Suite = {
  name: "memory",
  programs: [],
  run: (effort, log) =>
    Effect.promise(async () => {
      const all = await entries("contestants/memory.ts", "peers/memory.ts")
      const place = {}
      return [
        await sliced({
          id: "memory-sequential",
          title: "Memory: one caller after another",
          about: "Acquire and release one lock, again and again.",
          ...{ all, effort, keys: 1, log, place }
        }),
        await sliced({
          id: "memory-keys",
          title: "Memory: 100 keys at once",
          about: "100 callers, each with a lock of its own.",
          ...{ all, effort, keys: 100, log, place }
        }),
        await roundsTable({
          id: "memory-waiters",
          title: `Memory: ${effort.waiters} waiters in one process`,
          ...{ all, effort, log, place, work: 0 }
        })
      ]
    })
}

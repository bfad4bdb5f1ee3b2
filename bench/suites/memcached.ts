import { Effect } from "effect"
import { memcachedServer } from "../../test/servers/MemcachedServer.ts"
import { roundsTable } from "./rounds.ts"
import { entries, sliced, type Suite } from "./Suite.ts"

export const memcached: Suite = {
  name: "memcached",
  programs: ["memcached"],
  run: (effort, log) =>
    Effect.gen(function*() {
      const { port } = yield* memcachedServer()
      return yield* Effect.promise(async () => {
        const all = await entries("floors/memcached.ts", "contestants/memcached.ts", "peers/memcached.ts")
        const place = { port }
        return [
          await sliced({
            id: "memcached-sequential",
            title: "Memcached: one caller after another",
            about: "Acquire and release one lock, again and again. The peers' delete does not look whose lock it is.",
            ...{ all, effort, keys: 1, log, place }
          }),
          await roundsTable({
            id: "memcached-waiters",
            title: `Memcached: ${effort.waiters} waiters in one process`,
            ...{ all, effort, log, place, work: 1 }
          })
        ]
      })
    })
}

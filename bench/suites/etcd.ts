import { Effect } from "effect"
import { etcdServer } from "../../test/servers/EtcdServer.ts"
import { roundsTable } from "./rounds.ts"
import { entries, sliced, type Suite } from "./Suite.ts"

export const etcd: Suite = {
  name: "etcd",
  programs: ["etcd"],
  run: (effort, log) =>
    Effect.gen(function*() {
      const { url } = yield* etcdServer()
      return yield* Effect.promise(async () => {
        const all = await entries("floors/etcd.ts", "contestants/etcd.ts", "peers/etcd.ts")
        const place = { url }
        return [
          await sliced({
            id: "etcd-sequential",
            title: "etcd: one caller after another",
            about: "Acquire and release one lock, again and again, on one member. The floor is one put.",
            ...{ all, effort, keys: 1, log, place }
          }),
          await roundsTable({
            id: "etcd-waiters",
            title: `etcd: ${effort.waiters} waiters in one process`,
            ...{ all, effort, log, place, work: 1 }
          })
        ]
      })
    })
}

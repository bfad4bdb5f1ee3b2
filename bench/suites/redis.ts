import { Effect } from "effect"
import { Redis } from "ioredis"
import { redisServer } from "../../test/servers/RedisServer.ts"
import { crowdTable } from "./crowd.ts"
import type { Counter } from "./rounds.ts"
import { roundsTable } from "./rounds.ts"
import { entries, type Entry, sliced, type Suite } from "./Suite.ts"

/** Commands that a script can't call, or that nobody calls from one. */
const asked = new Set(
  "eval evalsha fcall subscribe unsubscribe psubscribe ssubscribe sunsubscribe hello auth client|setinfo client|setname"
    .split(" ").concat(["select", "ping", "script|load", "script|exists", "client|id", "info"])
)

/** The commands since the last reset, as the server itself counts them, without those of this client. */
const counter = (client: Redis): Counter => ({
  reset: async () => void await client.config("RESETSTAT"),
  read: async (sends) => {
    const [stats, connections] = [await client.info("commandstats"), await client.info("stats")]
    let requests = 0
    let commands = 0
    for (const [, command = "", calls] of stats.matchAll(/^cmdstat_(\S+?):calls=(\d+)/gm)) {
      if (command === "config|resetstat") continue
      commands += Number(calls)
      if (asked.has(command) || sends.includes(command)) requests += Number(calls)
    }
    const opened = /total_connections_received:(\d+)/.exec(connections)?.[1] ?? 0
    return { requests, commands, connections: Number(opened) }
  }
})

/** Those that differ in how they wait are the same where nobody waits. */
const uncontended = (all: ReadonlyArray<Entry>) => all.filter(({ name }) => !/retry 10/.test(name))

/** With callers who wait, `Lock.guard` waits as `withLock` does; and of the floors the usual pair is enough. */
const contended = (all: ReadonlyArray<Entry>) =>
  all.filter(({ name }) => !/Lock\.guard|with a fencing token/.test(name))

export const redis: Suite = {
  name: "redis",
  programs: ["redis-server"],
  run: (effort, log) =>
    Effect.gen(function*() {
      const { url } = yield* redisServer()
      const client = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis(url)),
        (made) => Effect.sync(() => made.disconnect())
      )
      return yield* Effect.promise(async () => {
        const all = await entries("floors/redis.ts", "contestants/redis.ts", "peers/redis.ts", "effect3/redis.ts")
        const clear = () => client.flushall()
        const place = { url }
        const tables = [
          await sliced({
            id: "redis-sequential",
            title: "Redis: one caller after another",
            about: "Acquire and release one lock, again and again, over one connection.",
            ...{ all: uncontended(all), effort, keys: 1, log, place, reset: clear, chart: 1 }
          }),
          await sliced({
            id: "redis-keys",
            title: "Redis: 100 keys at once",
            about: "100 callers of one process over one connection, each with a lock of its own.",
            ...{ all: uncontended(all), effort, keys: 100, log, place, reset: clear, chart: 1 }
          }),
          await roundsTable({
            id: "redis-waiters",
            title: `Redis: ${effort.waiters} waiters in one process`,
            ...{ all: contended(all), effort, log, place, work: 1, counter: counter(client), clear }
          })
        ]
        for (const [processes, waiters] of effort.crowds) {
          tables.push(
            await crowdTable({
              id: `redis-crowd-${processes}x${waiters}`,
              title: `Redis: ${processes} processes × ${waiters} waiters`,
              ...{ all: contended(all), effort, log, place, processes, waiters, counter: counter(client), clear }
            })
          )
        }
        return tables
      })
    })
}

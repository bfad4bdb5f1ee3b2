import { Effect } from "effect"
import { redisServer } from "../../test/servers/RedisServer.ts"
import type { ServerProcess as RunningServer } from "../../test/servers/ServerProcess.ts"
import { start } from "../harness/fork.ts"
import { exactly } from "../harness/statistics.ts"
import { type Column, type Row, type Table, values } from "../harness/Table.ts"
import type { Phase } from "../harness/tasks.ts"
import { attempt, entries, reference, sliced, type Suite } from "./Suite.ts"

const states = ["all five up", "two killed", "two stopped"] as const

const columns: ReadonlyArray<Column> = states.flatMap((state, index) => [
  { id: `perSecond${index}`, title: `${state}: locks per second`, unit: "/s", digits: 0, best: "highest" },
  { id: `longest${index}`, title: `${state}: longest`, unit: "ms", digits: 0 }
])

export const redlock: Suite = {
  name: "redlock",
  programs: ["redis-server"],
  run: (effort, log) =>
    Effect.gen(function*() {
      const servers = yield* Effect.forEach(Array.from({ length: 5 }), () => redisServer(), {
        concurrency: "unbounded"
      })
      const [first, second] = servers
      if (first === undefined || second === undefined) return []
      const each = (change: (server: RunningServer) => Effect.Effect<void>) =>
        Effect.runPromise(Effect.forEach([first, second], change, { concurrency: 2, discard: true }))
      // As they are from then on, until the next state.
      const bringAbout = [
        async () => {},
        () => each((server) => server.kill),
        async () => {
          await each((server) => server.start)
          // Clients come back by themselves; the pause between their tries grows to some seconds.
          await new Promise((resolve) => setTimeout(resolve, Math.min(5000, effort.phase)))
          await each((server) => server.signal("SIGSTOP"))
        }
      ]
      return yield* Effect.promise(async () => {
        const all = await entries("floors/redlock.ts", "contestants/redlock.ts", "peers/redlock.ts")
        const place = { urls: servers.map(({ url }) => url) }
        const up = await sliced({
          id: "redlock-sequential",
          title: "Redlock: five masters, one caller after another",
          about: "Acquire and release one lock on five masters, again and again.",
          ...{ all, effort, keys: 1, log, place }
        })
        const title = "Redlock: two of five masters lost while it runs"
        log(title)
        const rows: Array<Row> = []
        for (const entry of all.filter(({ wanted }) => wanted)) {
          rows.push(
            await attempt(entry, log, async () => {
              const milliseconds = effort.phase
              const child = start({
                kind: "phases",
                contestant: reference(entry),
                place,
                phases: states.length,
                milliseconds
              })
              const phases: Array<Phase> = []
              try {
                for (const change of bringAbout) {
                  await child.next("ready", 60_000)
                  await change()
                  child.send({ kind: "go" })
                  phases.push(await child.next<Phase>("phase", milliseconds + 30_000))
                }
              } finally {
                await child.end()
                await each((server) => server.kill)
                await each((server) => server.start)
              }
              return {
                violations: phases.reduce((sum, phase) => sum + phase.violations, 0),
                values: values(Object.fromEntries(phases.flatMap((phase, index) => [
                  [`perSecond${index}`, exactly(phase.done / phase.milliseconds * 1000)],
                  [`longest${index}`, exactly(phase.longest)]
                ])))
              }
            })
          )
        }
        const lost: Table = {
          id: "redlock-lost",
          title,
          about:
            "One caller acquires and releases one lock, again and again, with clients that are connected to all five: "
            + `${effort.phase / 1000} s with all up, as long with two killed, and (restarted) as long with two stopped `
            + "(SIGSTOP: connected, but silent). The clients of peers have ioredis' own defaults. The longest is also of "
            + "what had not ended by then.",
          columns,
          rows,
          charts: [{ column: "longest2", scale: "logarithmic" }]
        }
        return [up, lost]
      })
    })
}

import { Effect } from "effect"
import { Redis } from "ioredis"
import { redisServer } from "../../test/servers/RedisServer.ts"
import { isInstalled } from "../../test/servers/ServerProcess.ts"
import { NoAnswer, start } from "../harness/fork.ts"
import { exactly, measure, quantile, sorted } from "../harness/statistics.ts"
import { type Row, type Table, values } from "../harness/Table.ts"
import type { RenewalAnswer } from "../harness/tasks.ts"
import type { Suite } from "./Suite.ts"

export const renewal: Suite = {
  name: "renewal",
  programs: [],
  run: (effort, log) =>
    Effect.gen(function*() {
      const url = isInstalled("redis-server") ? (yield* redisServer()).url : undefined
      const backends = url === undefined ? ["memory"] as const : ["memory", "redis"] as const
      const ttl = effort.renewals * 1.5
      log("Renewal of many leases by one process")
      const rows: Array<Row> = []
      for (const backend of backends) {
        for (const leases of effort.leases) {
          rows.push(yield* Effect.promise(() => renewed(backend, url, leases, ttl, effort.renewals, log)))
        }
      }
      const table: Table = {
        id: "renewal",
        title: "Renewal: many leases in one process",
        about:
          `Leases with a ttl of ${ttl / 1000} s, renewed every third of it, watched for ${effort.renewals / 1000} s. `
          + "Lateness is how long after its due time a lease was renewed (negative: before it), seen in steps of 50 ms; its "
          + "spread is that of single renewals. What the server saw is the renewals of each tenth of a second: even, "
          + "if they are spread well.",
        columns: [
          { id: "cpu", title: "CPU, of one core", unit: "%", digits: 1 },
          { id: "perSecond", title: "renewals", unit: "/s", digits: 0, best: "highest" },
          { id: "server", title: "in 0.1 s, at the server", unit: "", digits: 0 },
          { id: "lateness", title: "lateness", unit: "ms", digits: 0 },
          { id: "latest", title: "latest", unit: "ms", digits: 0 },
          { id: "kilobytes", title: "heap per lease", unit: "kB", digits: 2 },
          { id: "stalled", title: "longest stall of the event loop", unit: "ms", digits: 0 },
          { id: "acquired", title: "acquired, 200 at once", unit: "/s", digits: 0, best: "highest" },
          { id: "lost", title: "leases lost", unit: "", digits: 0 }
        ],
        rows,
        charts: [{ column: "cpu", scale: "logarithmic" }]
      }
      return [table]
    })
}

const pause = (milliseconds: number) => new Promise<void>((resolve) => void setTimeout(resolve, milliseconds))

const renewed = async (
  backend: "memory" | "redis",
  url: string | undefined,
  leases: number,
  ttl: number,
  milliseconds: number,
  log: (line: string) => void
): Promise<Row> => {
  const name = `${backend === "memory" ? "memory" : "Redis"}, ${leases.toLocaleString("en")} leases`
  const place = url === undefined ? {} : { url }
  const child = start({ kind: "renewal", backend, place, leases, ttl, milliseconds })
  const client = backend === "redis" && url !== undefined ? new Redis(url) : undefined
  try {
    await client?.flushall()
    await child.next("ready", 120_000 + ttl)
    const seen = client === undefined ? Promise.resolve([]) : rates(client, milliseconds)
    child.send({ kind: "go" })
    const answer = await child.next<RenewalAnswer>("answer", milliseconds + 60_000)
    const lateness = sorted(answer.lateness)
    log(`  ${name}`)
    return {
      name,
      role: "effect-lock",
      status: "measured",
      values: values({
        cpu: exactly(answer.cpu * 100),
        perSecond: exactly(answer.renewalsPerSecond),
        server: measure(await seen),
        lateness: measure(lateness),
        latest: lateness.length === 0 ? undefined : exactly(quantile(lateness, 1)),
        kilobytes: exactly(answer.megabytes * 1000 / leases),
        stalled: exactly(answer.stalled),
        acquired: exactly(answer.acquiredPerSecond),
        lost: exactly(answer.lost)
      })
    }
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error
    log(`  ${name}: failed, ${error.message}`)
    return { name, role: "effect-lock", status: "failed", detail: error.message, values: {} }
  } finally {
    client?.disconnect()
    await child.end()
  }
}

/** Scripts that were called in each tenth of a second. */
const rates = async (client: Redis, milliseconds: number): Promise<ReadonlyArray<number>> => {
  const calls = async () => {
    const stats = await client.info("commandstats")
    return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1] ?? 0)
  }
  const found: Array<number> = []
  let [last, lastAt] = [await calls(), performance.now()]
  const end = lastAt + milliseconds
  while (performance.now() < end) {
    await pause(100)
    const [now, at] = [await calls(), performance.now()]
    found.push((now - last) * 100 / (at - lastAt))
    ;[last, lastAt] = [now, at]
  }
  return found
}

/** What a run leaves on the servers, and what of that should not be there: in words. */
import { Effect } from "effect"
import { Redis } from "ioredis"
import { readdirSync } from "node:fs"
import * as path from "node:path"

const limits: ReadonlyArray<readonly [ending: RegExp, name: string, millis: number]> = [
  [/\}:f$/, "last fencing token", 48 * 60 * 60 * 1000],
  [/\}:q$/, "queue", 24 * 60 * 60 * 1000],
  [/\}:d:[^:]*$/, "tombstone", 120_000],
  [/^effect-lock:redlock:[^:]*:t:/, "tombstone", 60_000],
  [/^effect-lock:redlock:[^:]*:f:/, "last fencing token", 48 * 60 * 60 * 1000]
]

/** Every key ends by itself, within the time that the backend's page says. */
export const ofRedis = (port: number, ttl: number): Effect.Effect<ReadonlyArray<string>> =>
  Effect.promise(async () => {
    const client = new Redis({ port, host: "127.0.0.1" })
    try {
      const wrong: Array<string> = []
      for (const key of await client.keys("*")) {
        const left = await client.pttl(key)
        // Gone meanwhile.
        if (left === -2) continue
        const [, name, most] = limits.find(([ending]) => ending.test(key)) ?? [key, "record", 2 * ttl]
        if (left < 0) wrong.push(`${name} ${key} never ends`)
        else if (left > most) wrong.push(`${name} ${key} ends in ${left} ms, at most ${most} are allowed`)
      }
      return wrong
    } finally {
      client.disconnect()
    }
  })

const tombstoneSeconds = 75

/** No lock is left, and no lease but those of tombstones. */
export const ofEtcd = (urls: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string>> =>
  Effect.promise(async () => {
    const [url = ""] = urls
    const ask = async (call: string, body: unknown): Promise<Record<string, unknown>> => {
      const response = await fetch(`${url}/v3/${call}`, { method: "POST", body: JSON.stringify(body) })
      return await response.json() as Record<string, unknown>
    }
    const wrong: Array<string> = []
    const everything = Buffer.from([0]).toString("base64")
    const { kvs = [] } = await ask("kv/range", { key: everything, range_end: everything, keys_only: true })
    for (const { key, lease } of kvs as ReadonlyArray<{ readonly key: string; readonly lease?: string }>) {
      const name = Buffer.from(key, "base64").toString()
      if (name.includes("/locks/")) wrong.push(`${name} is still there`)
      else if (lease === undefined) wrong.push(`${name} never ends`)
    }
    const { leases = [] } = await ask("lease/leases", {})
    for (const { ID } of leases as ReadonlyArray<{ readonly ID: string }>) {
      const { grantedTTL } = await ask("lease/timetolive", { ID })
      if (Number(grantedTTL ?? 0) > tombstoneSeconds) wrong.push(`lease ${ID} lives ${String(grantedTTL)} s`)
    }
    return wrong
  })

/** A lock is a directory of few files, however often it was taken. */
export const ofDirectory = (directory: string): ReadonlyArray<string> =>
  readdirSync(directory).flatMap((namespace) =>
    readdirSync(path.join(directory, namespace), { withFileTypes: true }).flatMap((entry) => {
      if (!entry.isDirectory()) return []
      const files = readdirSync(path.join(directory, namespace, entry.name)).length
      return files > 4 ? [`${entry.name} has ${files} files`] : []
    })
  )

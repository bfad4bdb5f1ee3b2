/** Backends on their servers, and what is open or stored on them at a moment: what a leak would make grow. */
import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { Effect, Layer, type Scope } from "effect"
import type { LockBackend, LockBackendError } from "effect-lock"
import * as Etcd from "effect-lock/layers/Etcd"
import * as File from "effect-lock/layers/File"
import * as Memcached from "effect-lock/layers/Memcached"
import * as Memory from "effect-lock/layers/Memory"
import * as Redis from "effect-lock/layers/Redis"
import * as Redlock from "effect-lock/layers/Redlock"
import { Redis as Driver } from "ioredis"
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { etcdServer } from "../servers/EtcdServer.ts"
import { memcachedServer } from "../servers/MemcachedServer.ts"
import { redisServer } from "../servers/RedisServer.ts"
import type { ServerProcess } from "../servers/ServerProcess.ts"
import { tcpAnswer } from "../servers/tcpAnswer.ts"

export type Service = LockBackend["Service"]

/** Numbers that must come back to where they were, by what they count. */
export type Traces = Readonly<Record<string, number>>

export interface Place {
  readonly make: Effect.Effect<Service, LockBackendError, Scope.Scope>
  /** What is on the servers, and open at them. */
  readonly traces: Effect.Effect<Traces>
  readonly servers: ReadonlyArray<ServerProcess>
}

export interface Ground {
  readonly name: string
  /** The program that has to be installed. */
  readonly program: string | undefined
  /** How many cycles cost about as much as one of the memory backend's. */
  readonly weight: number
  readonly open: Effect.Effect<Place, never, Scope.Scope>
}

/** Connections that a server has, by its file descriptors; Linux only. */
const connectionsOf = (servers: ReadonlyArray<ServerProcess>): number =>
  process.platform !== "linux" ? 0 : servers.reduce((sum, server) => sum + sockets(`/proc/${server.pid()}/fd`), 0)

const sockets = (folder: string): number =>
  readdirSync(folder).filter((fd) => {
    try {
      return readlinkSync(path.join(folder, fd)).startsWith("socket:")
    } catch {
      return false
    }
  }).length

const number = (text: string, pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? Number.NaN)

// A busy machine leaves calls without an answer, and those leave tombstones, which end by themselves.
const tombstone = /\}:d:|^effect-lock:redlock:[^:]*:t:|\/dead\//

const redisKeys = (server: ServerProcess): Effect.Effect<number> =>
  Effect.promise(async () => {
    const client = new Driver({ port: server.port, host: "127.0.0.1" })
    try {
      return (await client.keys("*")).filter((key) => !tombstone.test(key)).length
    } finally {
      await client.quit()
    }
  })

const etcdTraces = (url: string): Effect.Effect<Traces> =>
  Effect.promise(async () => {
    const ask = async (call: string, body: unknown): Promise<Record<string, unknown>> => {
      // No connection stays: they are what is counted.
      const headers = { connection: "close" }
      const response = await fetch(`${url}/v3/${call}`, { method: "POST", headers, body: JSON.stringify(body) })
      return await response.json() as Record<string, unknown>
    }
    const everything = Buffer.from([0]).toString("base64")
    const { kvs = [] } = await ask("kv/range", { key: everything, range_end: everything, keys_only: true })
    const { leases = [] } = await ask("lease/leases", {})
    const keys = (kvs as ReadonlyArray<{ readonly key: string }>).map(({ key }) =>
      Buffer.from(key, "base64").toString()
    )
    const dead = keys.filter((key) => tombstone.test(key)).length
    return { keys: keys.length - dead, leases: (leases as ReadonlyArray<unknown>).length - dead }
  })

/** Of a lock there is at most its present generation and the one before; of a file under way, nothing. */
const filesTooMany = (folder: string): number => {
  const perFolder = new Map<string, number>()
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) perFolder.set(entry.parentPath, (perFolder.get(entry.parentPath) ?? 0) + 1)
  }
  return [...perFolder].reduce(
    (sum, [parent, count]) => sum + (parent.endsWith("tmp") ? count : Math.max(count - 2, 0)),
    0
  )
}

export const grounds: ReadonlyArray<Ground> = [
  {
    name: "memory",
    program: undefined,
    weight: 1,
    open: Effect.sync(() => {
      const store = Memory.makeStoreUnsafe()
      return { make: Memory.make({ store }), traces: Effect.succeed({}), servers: [] }
    })
  },
  {
    name: "file",
    program: undefined,
    weight: 10,
    open: Effect.gen(function*() {
      const platform = yield* Layer.build(NodeServices.layer)
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(path.join(tmpdir(), "effect-lock-leaks-"))),
        (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
      )
      return {
        make: Effect.provideContext(File.make({ directory: path.join(folder, "locks") }), platform),
        traces: Effect.sync(() => ({ "files too many": filesTooMany(folder) })),
        servers: []
      }
    })
  },
  {
    name: "redis",
    program: "redis-server",
    weight: 10,
    open: Effect.map(redisServer(), (server) => ({
      make: Redis.make({ url: server.url }),
      traces: Effect.map(redisKeys(server), (keys) => ({ keys, connections: connectionsOf([server]) })),
      servers: [server]
    }))
  },
  {
    name: "redlock",
    program: "redis-server",
    weight: 10,
    open: Effect.map(
      Effect.all([redisServer(), redisServer(), redisServer()], { concurrency: "unbounded" }),
      (servers) => ({
        make: Redlock.make({ nodes: servers.map(({ url }) => ({ url })), restartGuard: false }),
        traces: Effect.map(Effect.forEach(servers, redisKeys), (keys) => ({
          keys: keys.reduce((sum, each) => sum + each, 0),
          connections: connectionsOf(servers)
        })),
        servers
      })
    )
  },
  {
    name: "etcd",
    program: "etcd",
    weight: 10,
    open: Effect.gen(function*() {
      const client = yield* Layer.build(NodeHttpClient.layerUndici)
      const server = yield* etcdServer()
      return {
        make: Effect.provideContext(Etcd.make({ endpoints: [server.url] }), client),
        traces: etcdTraces(server.url),
        servers: [server]
      }
    })
  },
  {
    name: "memcached",
    program: "memcached",
    weight: 10,
    open: Effect.map(memcachedServer(), (server) => ({
      make: Memcached.make({ host: "127.0.0.1", port: server.port }),
      traces: Effect.map(tcpAnswer(server.port, "stats\r\n"), (said) => ({
        items: number(said, /curr_items (\d+)/),
        connections: number(said, /curr_connections (\d+)/)
      })),
      servers: [server]
    }))
  }
]

/** Where it happens: each backend on its servers, with the faults that it has to bear. */
import { NodeServices } from "@effect/platform-node"
import { Duration, Effect, type Scope, Stream } from "effect"
import { execFileSync } from "node:child_process"
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { etcdCluster } from "../servers/EtcdServer.ts"
import { memcachedServer } from "../servers/MemcachedServer.ts"
import { redisServer, redisServerIn } from "../servers/RedisServer.ts"
import type { ServerProcess } from "../servers/ServerProcess.ts"
import { tcpAnswer } from "../servers/tcpAnswer.ts"
import type { Rule } from "./checker.ts"
import { hostTime } from "./history.ts"
import { type Link, link } from "./link.ts"
import type { BackendSetup } from "./messages.ts"
import type { Choice } from "./plan.ts"
import * as Residue from "./residue.ts"
import { backendOf } from "./workerBackend.ts"

/** What a fault does, and what undoes it. */
export interface ServerFault {
  readonly begin: Effect.Effect<void>
  readonly end: Effect.Effect<void>
}

export interface Arena {
  /** A worker's way to the servers. */
  readonly setupFor: (worker: number) => BackendSetup
  /** The harness's own way, which is always good. */
  readonly direct: BackendSetup
  readonly links: ReadonlyArray<ReadonlyArray<Link>>
  readonly servers: number
  readonly fault: (name: string, server: number, size: number) => ServerFault
  /** When the backend was made to forget. */
  readonly amnesias: ReadonlyArray<number>
  /** What is left on the servers that should not be, in words. */
  readonly residue: Effect.Effect<ReadonlyArray<string>>
}

export interface Ground {
  readonly name: string
  /** The program that has to be installed. */
  readonly program: string | undefined
  readonly ttl: number
  readonly choices: ReadonlyArray<Choice>
  readonly rules: ReadonlyArray<Rule>
  /** What is judged, in words, where it is not everything. */
  readonly remark?: string
  readonly open: (workers: number) => Effect.Effect<Arena, never, Scope.Scope>
}

const everyRule: ReadonlyArray<Rule> = ["R1", "R2", "R3", "R4", "R5", "R6", "R7"]

const ofWorkers = (ttl: number): ReadonlyArray<Choice> => [
  { fault: "kill", weight: 2, target: "worker", lasts: [50, 400] },
  { fault: "pause", weight: 5, target: "worker", lasts: [300, Math.min(2.3 * ttl, 8000)] }
]

const clock: Choice = { fault: "clock", weight: 2, target: "worker", lasts: [1, 1] }

const ofLinks = (ttl: number): ReadonlyArray<Choice> => [
  { fault: "latency", weight: 3, target: "link", lasts: [100, 2 * ttl] },
  { fault: "drip", weight: 2, target: "link", lasts: [100, ttl] },
  { fault: "black hole", weight: 3, target: "link", lasts: [100, 2 * ttl] },
  { fault: "lost replies", weight: 3, target: "link", lasts: [50, 1.5 * ttl] },
  { fault: "lost requests", weight: 3, target: "link", lasts: [50, 1.5 * ttl] },
  { fault: "reset", weight: 3, target: "link", lasts: [1, 1] },
  { fault: "half-close", weight: 1, target: "link", lasts: [1, 1] },
  { fault: "refuse", weight: 2, target: "link", lasts: [50, ttl] }
]

const none: ServerFault = { begin: Effect.void, end: Effect.void }

const restart = (server: ServerProcess): ServerFault => ({ begin: server.kill, end: server.start })

const stop = (server: ServerProcess): ServerFault => ({
  begin: server.signal("SIGSTOP"),
  end: server.signal("SIGCONT")
})

const say = (server: ServerProcess, command: string): ServerFault => ({
  begin: Effect.asVoid(tcpAnswer(server.port, `${command}\r\n`)),
  end: Effect.void
})

const linksTo = (workers: number, ports: ReadonlyArray<number>) =>
  Effect.forEach(
    Array.from({ length: workers }),
    () => Effect.forEach(ports, link)
  )

const durable = ["--appendonly", "yes", "--appendfsync", "always"] as const

const redisFault = (server: ServerProcess, name: string): ServerFault => {
  switch (name) {
    case "restart":
      return restart(server)
    case "server stops":
      return stop(server)
    case "CLIENT KILL":
      return say(server, "CLIENT KILL TYPE normal SKIPME yes")
    case "CLIENT KILL pubsub":
      return say(server, "CLIENT KILL TYPE pubsub")
    case "SCRIPT FLUSH":
      return say(server, "SCRIPT FLUSH")
    case "FLUSHALL":
      return say(server, "FLUSHALL")
    case "crowd":
      return say(server, `EVAL "${crowd}" 0`)
    default:
      return none
  }
}

// More than fits beside the locks: the server drops what was used least of late.
const crowd = "for i = 1, 20000 do redis.call('SET', 'crowd:' .. i, string.rep('x', 100)) end"

const ofRedis = (ttl: number): ReadonlyArray<Choice> => [
  { fault: "restart", weight: 2, target: "server", lasts: [50, ttl] },
  { fault: "server stops", weight: 2, target: "server", lasts: [100, 1.5 * ttl] },
  { fault: "CLIENT KILL", weight: 2, target: "server", lasts: [1, 1] },
  { fault: "CLIENT KILL pubsub", weight: 1, target: "server", lasts: [1, 1] },
  { fault: "SCRIPT FLUSH", weight: 2, target: "server", lasts: [1, 1] }
]

const redisOn =
  (args: ReadonlyArray<string>, evicts = false) => (workers: number): Effect.Effect<Arena, never, Scope.Scope> =>
    Effect.gen(function*() {
      const server = yield* redisServer(...args)
      const links = yield* linksTo(workers, [server.port])
      const direct: BackendSetup = { name: "redis", url: server.url, evicts }
      return {
        setupFor: (worker) => ({ name: "redis", url: `redis://127.0.0.1:${links[worker]![0]!.port}`, evicts }),
        direct,
        links,
        servers: 1,
        fault: (name) => name === "break now" ? breakNow(direct) : redisFault(server, name),
        amnesias: [],
        residue: evicts ? Effect.succeed([]) : Residue.ofRedis(server.port, redisTtl)
      }
    })

/** An operator who frees every lock that is held, while its holders work. */
const breakNow = (setup: BackendSetup): ServerFault => ({
  begin: Effect.gen(function*() {
    const backend = yield* backendOf(setup)
    const budget = Duration.seconds(1)
    for (const { holders, key } of yield* Stream.runCollect(backend.list!(""))) {
      for (const { ownerId } of holders) yield* backend.break!({ key, ownerId, now: true, budget })
    }
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer), Effect.ignore),
  end: Effect.void
})

const redisTtl = 1000

const redis: Ground = {
  name: "redis",
  program: "redis-server",
  ttl: redisTtl,
  choices: [...ofWorkers(redisTtl), clock, ...ofLinks(redisTtl), ...ofRedis(redisTtl)],
  rules: everyRule,
  open: redisOn(durable)
}

/** What no lock can bear, and a fencing token can: a server that forgets. */
const forgetfulRedis: Ground = {
  name: "redis-forgetful",
  program: "redis-server",
  ttl: redisTtl,
  choices: [
    ...ofWorkers(redisTtl),
    clock,
    ...ofLinks(redisTtl),
    ...ofRedis(redisTtl),
    { fault: "FLUSHALL", weight: 4, target: "server", lasts: [1, 1] }
  ],
  rules: ["R1", "R3", "R5", "R6", "R7"],
  remark: "it forgets at every restart and is flushed, so only its tokens are judged, not who trusted what",
  open: redisOn([])
}

/** A server that makes room for other data by dropping locks that are held. */
const evictingRedis: Ground = {
  name: "redis-evicting",
  program: "redis-server",
  ttl: redisTtl,
  choices: [
    ...ofWorkers(redisTtl),
    ...ofLinks(redisTtl),
    { fault: "crowd", weight: 12, target: "server", lasts: [1, 1] }
  ],
  rules: ["R1", "R3", "R5", "R7"],
  remark: "it evicts locks, so only their tokens are judged, not who trusted what",
  open: redisOn(["--maxmemory", "3mb", "--maxmemory-policy", "allkeys-random"], true)
}

/** A server whose wall clock is set, forth and back, while leases live by it. */
const skewedRedis: Ground = {
  name: "redis-clock",
  program: "cc",
  ttl: redisTtl,
  choices: [
    ...ofWorkers(redisTtl),
    ...ofLinks(redisTtl),
    { fault: "server clock", weight: 12, target: "server", lasts: [1, 1] }
  ],
  rules: ["R1", "R3", "R5", "R6", "R7"],
  remark: "its clock is set by up to ten ttls at a time, so only its tokens are judged, not who trusted what",
  open: (workers) =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const library = path.join(folder, "skew.so")
      const file = path.join(folder, "skew")
      execFileSync("cc", ["-shared", "-fPIC", "-O1", "-o", library, path.join(import.meta.dirname, "skew.c"), "-ldl"])
      let skew = 0
      const set = (millis: number) => {
        skew += millis
        const bytes = Buffer.alloc(8)
        bytes.writeBigInt64LE(BigInt(skew))
        // In place: the server has the file mapped.
        const opened = openSync(file, existsSync(file) ? "r+" : "w")
        writeSync(opened, bytes, 0, 8, 0)
        closeSync(opened)
      }
      set(0)
      const server = yield* redisServerIn({ LD_PRELOAD: library, SKEW_FILE: file }, ...durable)
      const links = yield* linksTo(workers, [server.port])
      return {
        setupFor: (worker) => ({
          name: "redis",
          url: `redis://127.0.0.1:${links[worker]![0]!.port}`,
          evicts: false
        }),
        direct: { name: "redis", url: server.url, evicts: false },
        links,
        servers: 1,
        fault: (name, _, size) =>
          name !== "server clock" ? redisFault(server, name) : {
            begin: Effect.sync(() => set(Math.round((size - 0.5) * 20 * redisTtl))),
            end: Effect.void
          },
        amnesias: [],
        // A clock that was set back makes what expires last longer.
        residue: Effect.succeed([])
      }
    })
}

/** An operator who breaks locks without letting them drain. */
const brokenRedis: Ground = {
  name: "redis-broken",
  program: "redis-server",
  ttl: redisTtl,
  choices: [
    ...ofWorkers(redisTtl),
    ...ofLinks(redisTtl),
    { fault: "break now", weight: 12, target: "server", lasts: [1, 1] }
  ],
  rules: ["R1", "R3", "R5", "R6", "R7"],
  remark: "an operator frees held locks at once, so only their tokens are judged, not who trusted what",
  open: redisOn(durable)
}

const redlockTtl = 2000

const redlock: Ground = {
  name: "redlock",
  program: "redis-server",
  ttl: redlockTtl,
  choices: [...ofWorkers(redlockTtl), clock, ...ofLinks(redlockTtl), ...ofRedis(redlockTtl)],
  rules: everyRule,
  open: (workers) =>
    Effect.gen(function*() {
      const servers = yield* Effect.all([redisServer(...durable), redisServer(...durable), redisServer(...durable)], {
        concurrency: "unbounded"
      })
      const links = yield* linksTo(workers, servers.map(({ port }) => port))
      return {
        setupFor: (worker) => ({
          name: "redlock",
          urls: links[worker]!.map(({ port }) => `redis://127.0.0.1:${port}`)
        }),
        direct: { name: "redlock", urls: servers.map(({ url }) => url) },
        links,
        servers: servers.length,
        fault: (name, server) => redisFault(servers[server]!, name),
        amnesias: [],
        residue: Effect.map(
          Effect.forEach(servers, ({ port }) => Residue.ofRedis(port, redlockTtl)),
          (each) => each.flat()
        )
      }
    })
}

const etcdTtl = 5000

const etcd: Ground = {
  name: "etcd",
  program: "etcd",
  ttl: etcdTtl,
  // No member is stopped and let go on: etcd before 3.4.30 may then end live leases, which is told on the backend's page.
  choices: [
    ...ofWorkers(etcdTtl),
    clock,
    ...ofLinks(etcdTtl),
    { fault: "restart", weight: 3, target: "server", lasts: [100, etcdTtl] }
  ],
  rules: everyRule,
  open: (workers) =>
    Effect.gen(function*() {
      // A machine that is too busy to let the leader send its heartbeats is not what is tortured here.
      const members = yield* etcdCluster("--heartbeat-interval", "250", "--election-timeout", "2500")
      const links = yield* linksTo(workers, members.map(({ port }) => port))
      return {
        setupFor: (worker) => ({ name: "etcd", urls: links[worker]!.map(({ port }) => `http://127.0.0.1:${port}`) }),
        direct: { name: "etcd", urls: members.map(({ url }) => url) },
        links,
        servers: members.length,
        fault: (name, server) => name === "restart" ? restart(members[server]!) : none,
        amnesias: [],
        residue: Residue.ofEtcd(members.map(({ url }) => url))
      }
    })
}

// With a shorter one, a memcached that a busy machine does not let run for half a second grants too little: see below.
const memcachedTtl = 5000

const memcached: Ground = {
  name: "memcached",
  program: "memcached",
  ttl: memcachedTtl,
  // It is not stopped and let go on: what it grants before its next tick is then over too early.
  choices: [
    ...ofWorkers(memcachedTtl),
    clock,
    ...ofLinks(memcachedTtl),
    { fault: "restart", weight: 1, target: "server", lasts: [50, 2000] }
  ],
  rules: ["R2", "R4", "R5", "R6", "R7"],
  remark: "it has no fencing tokens: judged by overlaps of trusted holds, but for those that a restart made it forget",
  open: (workers) =>
    Effect.gen(function*() {
      const server = yield* memcachedServer()
      const links = yield* linksTo(workers, [server.port])
      const amnesias: Array<number> = []
      const forget: ServerFault = {
        begin: Effect.andThen(Effect.sync(() => amnesias.push(hostTime())), server.kill),
        end: server.start
      }
      return {
        setupFor: (worker) => ({ name: "memcached", port: links[worker]![0]!.port }),
        direct: { name: "memcached", port: server.port },
        links,
        servers: 1,
        fault: (name) => name === "restart" ? forget : none,
        amnesias,
        residue: Effect.succeed([])
      }
    })
}

const fileTtl = 1000

const file: Ground = {
  name: "file",
  program: undefined,
  ttl: fileTtl,
  // No clock of a single process is set: files are for one machine, which has one wall clock.
  choices: [
    ...ofWorkers(fileTtl),
    { fault: "disk errors", weight: 3, target: "worker", lasts: [100, 1.5 * fileTtl] },
    { fault: "disk full", weight: 2, target: "server", lasts: [100, 1.5 * fileTtl] }
  ],
  rules: everyRule,
  open: () =>
    Effect.gen(function*() {
      const disk = yield* smallDisk
      const directory = path.join(disk.path, "locks")
      mkdirSync(directory, { mode: 0o700 })
      const filler = path.join(disk.path, "filler")
      return {
        setupFor: () => ({ name: "file", directory }),
        direct: { name: "file", directory },
        links: [],
        servers: 1,
        fault: (name) =>
          name !== "disk full" || !disk.isSmall ? none : {
            begin: Effect.sync(() => fill(filler)),
            end: Effect.sync(() => rmSync(filler, { force: true }))
          },
        amnesias: [],
        residue: Effect.sync(() => Residue.ofDirectory(directory))
      }
    })
}

/** A file system of its own where this process may make one, so that it can be filled; else a plain directory. */
const smallDisk: Effect.Effect<{ readonly path: string; readonly isSmall: boolean }, never, Scope.Scope> = Effect
  .acquireRelease(
    Effect.sync(() => {
      const folder = mkdtempSync(path.join(tmpdir(), "effect-lock-torture-disk-"))
      try {
        execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", folder], { stdio: "ignore" })
        return { path: folder, isSmall: true }
      } catch {
        return { path: folder, isSmall: false }
      }
    }),
    ({ isSmall, path }) =>
      Effect.sync(() => {
        if (isSmall) execFileSync("umount", ["-l", path], { stdio: "ignore" })
        rmSync(path, { recursive: true, force: true })
      })
  )

const temporaryFolder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(path.join(tmpdir(), "effect-lock-torture-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

const fill = (file: string): void => {
  const piece = Buffer.alloc(4096)
  try {
    for (;;) writeFileSync(file, piece, { flag: "a" })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error
  }
}

export const grounds: ReadonlyArray<Ground> = [file, redis, redlock, etcd, memcached, forgetfulRedis]

/** Fought for only when they are named (`--backend`): what happens there no lock can bear, only its tokens. */
export const separateGrounds: ReadonlyArray<Ground> = [evictingRedis, skewedRedis, brokenRedis]

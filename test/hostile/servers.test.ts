/**
 * Hostile keys, namespaces and metadata through every backend to its server: kept as they are, told from one another,
 * and nothing else on the server is touched.
 */
import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Option, type Scope, Stream } from "effect"
import type { LockBackendError } from "effect-lock"
import * as Etcd from "effect-lock/layers/Etcd"
import * as File from "effect-lock/layers/File"
import * as Gcs from "effect-lock/layers/Gcs"
import * as Kubernetes from "effect-lock/layers/Kubernetes"
import * as Memcached from "effect-lock/layers/Memcached"
import * as Memory from "effect-lock/layers/Memory"
import * as Redis from "effect-lock/layers/Redis"
import * as Redlock from "effect-lock/layers/Redlock"
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import type { Make, Service } from "../everyBackend.ts"
import { etcdServer } from "../servers/EtcdServer.ts"
import { GcsServer } from "../servers/GcsServer.ts"
import { kubernetesServer } from "../servers/KubernetesServer.ts"
import { memcachedServer } from "../servers/MemcachedServer.ts"
import { redisServer } from "../servers/RedisServer.ts"
import { isInstalled } from "../servers/ServerProcess.ts"
import { tcpAnswer } from "../servers/tcpAnswer.ts"
import { Draw, hostileKeys, isPolluted, key, metadata, nearPairs, type Pair } from "./corpus.ts"

/** A server with something on it that is no lock. */
interface World {
  readonly make: Make
  /** What is there besides locks, as text: the same before and after. */
  readonly others: Effect.Effect<string>
}

interface Case {
  readonly name: string
  readonly program: string | undefined
  readonly start: Effect.Effect<World, unknown, Scope.Scope>
  /** How many locks; slow servers get fewer. */
  readonly locks: number
  readonly ttl: number
}

// Keys that are no lock's, and keys that stay for ever.
const strangers = "local n = 0 for _, k in ipairs(redis.call('KEYS', '*')) do if not string.find(k, '^lock:') and "
  + "not string.find(k, '^effect%-lock:') then n = n + 1 end if redis.call('PTTL', k) == -1 then n = n + 1000 end end return n"

const redisWorld = (make: (urls: ReadonlyArray<string>) => Make) =>
  Effect.gen(function*() {
    const servers = yield* Effect.all([redisServer(), redisServer(), redisServer()], { concurrency: "unbounded" })
    for (const { port } of servers) yield* tcpAnswer(port, "SET bystander intact\r\n")
    return {
      make: make(servers.map(({ url }) => url)),
      others: Effect.map(
        Effect.forEach(servers, ({ port }) =>
          Effect.all([tcpAnswer(port, "GET bystander\r\n"), tcpAnswer(port, `EVAL "${strangers}" 0\r\n`)])),
        (said) =>
          JSON.stringify(said)
      )
    }
  })

const everyFile = (directory: string): ReadonlyArray<string> =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort()

const cases: ReadonlyArray<Case> = [
  {
    name: "memory",
    program: undefined,
    locks: 400,
    ttl: 60,
    start: Effect.sync(() => {
      const store = Memory.makeStoreUnsafe()
      return { make: (namespace) => Memory.make({ namespace, store }), others: Effect.succeed("") }
    })
  },
  {
    name: "file",
    program: undefined,
    locks: 250,
    ttl: 60,
    start: Effect.gen(function*() {
      const platform = yield* Layer.build(NodeServices.layer)
      const root = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(path.join(tmpdir(), "effect-lock-hostile-"))),
        (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
      )
      const directory = path.join(root, "a", "b", "locks")
      writeFileSync(path.join(root, "bystander"), "intact")
      return {
        make: (namespace) => Effect.provideContext(File.make({ directory, namespace }), platform),
        others: Effect.sync(() =>
          everyFile(root).filter((file) => !file.startsWith(directory + path.sep))
            .map((file) => `${file}: ${readFileSync(file, "utf8")}`).join("\n")
        )
      }
    })
  },
  {
    name: "redis",
    program: "redis-server",
    locks: 300,
    ttl: 60,
    start: redisWorld(([url = ""]) => (namespace) => Redis.make({ url, namespace }))
  },
  {
    name: "redlock",
    program: "redis-server",
    locks: 200,
    ttl: 60,
    start: redisWorld((nodes) => (namespace) =>
      Redlock.make({ nodes, namespace, restartGuard: false, perNodeTimeout: "3 seconds" })
    )
  },
  {
    name: "etcd",
    program: "etcd",
    locks: 150,
    ttl: 120,
    start: Effect.gen(function*() {
      const client = yield* Layer.build(NodeHttpClient.layerUndici)
      const { url } = yield* etcdServer()
      const ask = (what: string, body: object) =>
        Effect.promise(() =>
          fetch(`${url}/v3/kv/${what}`, { method: "POST", body: JSON.stringify(body) }).then((answer) => answer.json())
        )
      const base64 = (text: string) => Buffer.from(text).toString("base64")
      yield* ask("put", { key: base64("bystander"), value: base64("intact") })
      yield* ask("put", { key: base64("effect-lock"), value: base64("intact") })
      return {
        make: (namespace) => Effect.provideContext(Etcd.make({ endpoints: [url], namespace }), client),
        // Everything before and after the keys of locks.
        others: Effect.map(
          Effect.all([
            ask("range", { key: base64("\0"), range_end: base64("effect-lock/") }),
            ask("range", { key: base64("effect-lock0"), range_end: base64("\0") })
          ]),
          (found) => JSON.stringify(found.map((answer) => (answer as { readonly kvs?: unknown }).kvs ?? []))
        )
      }
    })
  },
  {
    name: "memcached",
    program: "memcached",
    locks: 300,
    ttl: 60,
    start: Effect.gen(function*() {
      const { port } = yield* memcachedServer()
      yield* tcpAnswer(port, "set bystander 0 0 6\r\nintact\r\n")
      return {
        make: (namespace) => Memcached.make({ host: "127.0.0.1", port, namespace }),
        others: Effect.gen(function*() {
          const stats = yield* tcpAnswer(port, "stats\r\n")
          const items = /^STAT (cmd_flush|curr_items|cas_badval|auth_errors) (\d+)/gm
          return `${yield* tcpAnswer(port, "get bystander\r\n")} ${
            [...stats.matchAll(items)].map(([line]) => line).join()
          }`
        })
      }
    })
  },
  {
    name: "kubernetes",
    program: undefined,
    locks: 200,
    ttl: 60,
    start: Effect.gen(function*() {
      const client = yield* Layer.build(NodeHttpClient.layerUndici)
      const { url } = yield* kubernetesServer()
      return {
        make: (namespace) =>
          Effect.provideContext(Kubernetes.make({ endpoint: url, kubernetesNamespace: "default", namespace }), client),
        others: Effect.succeed("")
      }
    })
  },
  {
    name: "gcs",
    program: undefined,
    locks: 200,
    ttl: 60,
    start: Effect.gen(function*() {
      const client = yield* Layer.build(NodeHttpClient.layerUndici)
      const server = new GcsServer()
      const endpoint = yield* server.listen
      return {
        make: (namespace) =>
          Effect.provideContext(
            Gcs.make({ bucket: "locks", objectPrefix: "of/", endpoint, namespace, expiry: "serverDate" }),
            client
          ),
        others: Effect.sync(() => [...server.data.objects.keys()].filter((name) => !name.startsWith("of/")).join("\n"))
      }
    })
  }
]

/** Different locks that a careless server or encoding would take for one another. */
const pairsOf = (draw: Draw, most: number): ReadonlyArray<Pair> => {
  const found = new Map<string, Pair>()
  const add = (pair: Pair) => void found.set(JSON.stringify(pair), pair)
  // Namespaces cost a backend each, so few of them have many keys.
  const spaces = ["", "a:b", "a", "A", "a/b", "{a}", "%", "*", "../x", "e\u0301", "é", "__proto__"]
  for (const near of nearPairs(draw)) add(near)
  for (let index = 0; found.size < most / 2; index++) add([draw.of(spaces), hostileKeys[index % hostileKeys.length]!])
  while (found.size < most) {
    for (const [, name] of nearPairs(draw)) add([draw.of(spaces), name])
    add([draw.of(spaces), key(draw)])
  }
  return [...found.values()].slice(0, most)
}

const budget = Duration.seconds(15)

for (const { locks, name, program, start, ttl } of cases) {
  const missing = program !== undefined && !isInstalled(program)
  describe.skipIf(missing).concurrent(`${name}${missing ? ` (${program} is not installed)` : ""}`, () => {
    it.live(`${locks} hostile locks are kept, told apart, listed and given back, and nothing else is touched`, () =>
      Effect.gen(function*() {
        const { make, others } = yield* start
        const draw = new Draw(name.length)
        const pairs = pairsOf(draw, locks)
        const services = new Map<string, Service>()
        for (const [space] of pairs) if (!services.has(space)) services.set(space, yield* make(space))
        const serviceOf = ([space]: Pair): Service => services.get(space)!
        const before = yield* others
        const all = <A>(see: (pair: Pair, index: number) => Effect.Effect<A, LockBackendError>) =>
          Effect.forEach(pairs, see, { concurrency: 8 })

        const grants = yield* all((pair, index) =>
          Effect.gen(function*() {
            const asked = {
              key: pair[1],
              ownerId: `owner-${index}`,
              ttl: Duration.seconds(ttl),
              metadata: metadata(new Draw(index)),
              willWait: false,
              budget
            }
            const reply = yield* serviceOf(pair).tryAcquire(asked)
            assert.strictEqual(reply._tag, "Acquired", `${JSON.stringify(pair)} met another lock`)
            return { asked, handle: reply._tag === "Acquired" ? reply.handle : "" }
          })
        )
        yield* all((pair, index) =>
          Effect.gen(function*() {
            const service = serviceOf(pair)
            const { asked, handle } = grants[index]!
            const holders = yield* service.inspect({ key: pair[1], budget })
            assert.deepStrictEqual(holders.map(({ ownerId }) => ownerId), [asked.ownerId], JSON.stringify(pair))
            assert.deepStrictEqual(
              Object.entries(holders[0]?.metadata ?? {}).sort(),
              Object.entries(asked.metadata).sort(),
              JSON.stringify(pair)
            )
            const renewed = yield* service.renew({ ...asked, handle })
            assert.strictEqual(renewed._tag, "Renewed", JSON.stringify(pair))
          })
        )
        for (const [space, service] of services) {
          if (service.list === undefined) continue
          const listed = (yield* Stream.runCollect(service.list(""))).map(({ key }) => key)
          const expected = pairs.filter(([each]) => each === space).map(([, key]) => key)
          assert.deepStrictEqual([...listed].sort(), [...expected].sort(), `listed of ${JSON.stringify(space)}`)
        }
        // One is given back: the others, however near, are not.
        const given = new Set<number>()
        yield* all((pair, index) => {
          if (index % 2 === 1) return Effect.void
          given.add(index)
          const { asked: { key, ownerId }, handle } = grants[index]!
          return Effect.map(
            serviceOf(pair).release({
              key,
              ownerId,
              handle: Option.some(handle),
              unanswered: false,
              budget
            }),
            (reply) => assert.strictEqual(reply, "Released", JSON.stringify(pair))
          )
        })
        yield* all((pair, index) =>
          Effect.gen(function*() {
            const holders = yield* serviceOf(pair).inspect({ key: pair[1], budget })
            const expected = given.has(index) ? [] : [`owner-${index}`]
            assert.deepStrictEqual(holders.map(({ ownerId }) => ownerId), expected, JSON.stringify(pair))
            if (given.has(index)) return
            const reply = yield* serviceOf(pair).release({
              key: pair[1],
              ownerId: `owner-${index}`,
              handle: Option.none(),
              unanswered: false,
              budget
            })
            assert.strictEqual(reply, "Released", JSON.stringify(pair))
          })
        )
        assert.strictEqual(yield* others, before)
        assert.isFalse(isPolluted())
      }))
  })
}

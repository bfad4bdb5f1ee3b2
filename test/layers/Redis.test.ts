import { assert, describe, it } from "@effect/vitest"
import {
  Config,
  ConfigProvider,
  Duration,
  Effect,
  Layer,
  Logger,
  Option,
  Redacted,
  Schedule,
  Stream,
  Tracer
} from "effect"
import { Lock, LockBackend, withLock } from "effect-lock"
import * as Redis from "effect-lock/layers/Redis"
import { Cluster, Redis as Driver, type RedisOptions } from "ioredis"
import { inspect } from "node:util"
import type { LockBackendError } from "../../src/LockError.ts"
import { isBlind } from "../../src/LockOptions.ts"
import { redisServer } from "../servers/RedisServer.ts"
import { budget, failureOf, isInstalled, start, tokenOf, ttl, until, visitor as visitorOf } from "./redis/redisLocks.ts"

const reasonOf = (error: LockBackendError) => `${error.reason._tag}: ${error.reason.detail}`
const misconfigured = (error: LockBackendError, about: RegExp) => {
  assert.strictEqual(error.reason._tag, "Misconfigured", error.message)
  assert.match(error.reason.detail, about)
}

describe.skipIf(!isInstalled("redis-server"))("one round trip", () => {
  it.live("each verb is one request", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const locks = yield* open()
      yield* locks.release("first", { handle: Option.some((yield* locks.acquire("first")).handle) })
      const requests = <E>(self: Effect.Effect<unknown, E>) =>
        Effect.gen(function*() {
          const before = yield* visitor.scripts
          yield* self
          return (yield* visitor.scripts) - before
        })
      const counts: Array<number> = []
      counts.push(yield* requests(locks.acquire("a")))
      const { handle } = yield* locks.acquire("a")
      counts.push(yield* requests(locks.tryAcquire("b")))
      // A script that the server does not know yet is sent twice: by its hash, and in full.
      yield* locks.renew("a", handle)
      counts.push(yield* requests(locks.renew("a", handle)))
      yield* locks.holder
      counts.push(yield* requests(locks.holder))
      yield* locks.break("b", true)
      counts.push(yield* requests(locks.break("a", true)))
      counts.push(yield* requests(locks.release("a", { handle: Option.some(handle) })))
      assert.deepStrictEqual(counts, [1, 1, 1, 1, 1, 1])
    }))

  it.live("what is left of a lock that was released is its token's counter, and that expires", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const locks = yield* open()
      const { handle } = yield* locks.acquire("a")
      assert.strictEqual(yield* locks.release("a", { handle: Option.some(handle) }), "Released")
      assert.deepStrictEqual(yield* visitor.keys, ["lock::{k}:f"])
      const left = Number(yield* visitor.call("PTTL", "lock::{k}:f"))
      assert.isAbove(left, 24 * 3_600_000)
    }))
})

describe.skipIf(!isInstalled("redis-server"))("fencing tokens", () => {
  it.live("grow over the loss of all data", () =>
    Effect.gen(function*() {
      const { open, server } = yield* start()
      const locks = yield* open()
      const first = tokenOf(yield* locks.acquire("a"))
      yield* server.kill
      yield* server.start
      const second = tokenOf(yield* locks.acquire("b"))
      assert.isTrue(second > first, `${second} after ${first}`)
    }))

  it.live("grow by one where the server's clock is behind the counter, digit by digit", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const locks = yield* open()
      // Sixteen digits: a number printed as Lua does would lose the last two.
      const ahead = 8_999_999_999_999_990n
      yield* visitor.call("SET", "lock::{k}:f", String(ahead))
      for (let round = 1n; round <= 3n; round++) {
        const grant = yield* locks.acquire(`owner-${round}`)
        assert.strictEqual(tokenOf(grant), ahead + round)
        yield* locks.release(`owner-${round}`, { handle: Option.some(grant.handle) })
      }
    }))

  it.live("are the same for a replay", () =>
    Effect.gen(function*() {
      const locks = yield* (yield* start()).open()
      const first = yield* locks.acquire("a")
      assert.strictEqual(tokenOf(yield* locks.acquire("a")), tokenOf(first))
    }))
})

describe.skipIf(!isInstalled("redis-server"))("a draining lock", () => {
  it.live("is not kept longer by its own holder's replay, nor by its waiting", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const locks = yield* open()
      yield* locks.acquire("a", { ttl: Duration.seconds(5) })
      assert.strictEqual(yield* locks.break("a", false), "Draining")
      assert.strictEqual((yield* locks.tryAcquire("a", { willWait: true }))._tag, "Held")
      assert.isAtMost(Number(yield* visitor.call("PTTL", "lock::{k}")), 5000)
      yield* locks.release("a")
      assert.deepStrictEqual(yield* visitor.keys, ["lock::{k}:f"])
    }))
})

describe.skipIf(!isInstalled("redis-server"))("what else is in the database", () => {
  it.live("other data at a lock's key is reported, and kept", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const locks = yield* open()
      yield* visitor.call("LPUSH", "lock::{k}", "x")
      misconfigured(yield* failureOf(locks.tryAcquire("a")), /other data.*namespace/)
      misconfigured(yield* failureOf(locks.release("a")), /other data.*namespace/)
      yield* visitor.call("DEL", "lock::{k}")
      for (const text of ["some text", "2|a|1|1|h|{}", "1|a|b|c|h|{}"]) {
        yield* visitor.call("SET", "lock::{k}", text)
        const calls: ReadonlyArray<Effect.Effect<unknown, LockBackendError>> = [
          locks.tryAcquire("a"),
          locks.renew("a", "1"),
          locks.release("a"),
          locks.break("a", true),
          locks.holder
        ]
        for (const call of calls) misconfigured(yield* failureOf(call), /other data/)
        assert.strictEqual(yield* visitor.call("GET", "lock::{k}"), text)
      }
    }))

  it.live("keys that are not locks are not listed, and the wildcards of a prefix stand for themselves", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const locks = yield* open({ namespace: "n*" })
      const others = yield* open({ namespace: "nx" })
      yield* visitor.call("SET", "lock:n*:x", "1")
      yield* visitor.call("SET", "lock:n*:{y}", "1")
      for (const key of ["a*b", "a*c", "axb", "a?b", "[a]b", "{a}*"]) yield* locks.acquire("o", { key })
      yield* others.acquire("o", { key: "a*d" })
      const list = (prefix: string) => {
        assert(locks.backend.list !== undefined)
        return Effect.map(Stream.runCollect(locks.backend.list(prefix)), (held) => held.map(({ key }) => key).sort())
      }
      assert.deepStrictEqual(yield* list("a*"), ["a*b", "a*c"])
      assert.deepStrictEqual(yield* list("[a]"), ["[a]b"])
      assert.deepStrictEqual(yield* list("{a}"), ["{a}*"])
      assert.lengthOf(yield* list(""), 6)
    }))

  it.live("more locks than a page are listed, each once", () =>
    Effect.gen(function*() {
      const locks = yield* (yield* start()).open()
      const keys = Array.from({ length: 1300 }, (_, index) => `key-${index}`).sort()
      yield* Effect.forEach(keys, (key) => locks.acquire("o", { key }), { concurrency: 100, discard: true })
      assert(locks.backend.list !== undefined)
      const held = yield* Stream.runCollect(locks.backend.list("key-"))
      assert.deepStrictEqual(held.map(({ key }) => key).sort(), keys)
    }))
})

describe.skipIf(!isInstalled("redis-server"))("a server that evicts keys", () => {
  const evicting = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]

  it.live("is refused, with the way to mend it", () =>
    Effect.gen(function*() {
      const locks = yield* (yield* start(...evicting)).open()
      const error = yield* failureOf(locks.tryAcquire("a"))
      misconfigured(error, /allkeys-lru.*noeviction.*acceptEviction/)
      assert.isFalse(error.isRetryable)
    }))

  it.live("is accepted with acceptEviction", () =>
    Effect.gen(function*() {
      const locks = yield* (yield* start(...evicting)).open({ acceptEviction: true })
      yield* locks.acquire("a")
    }))

  it.live("is found when it comes to stand behind a new connection", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const locks = yield* open()
      const { handle } = yield* locks.acquire("a")
      yield* locks.release("a", { handle: Option.some(handle) })
      yield* visitor.call("CONFIG", "SET", "maxmemory", "100mb")
      yield* visitor.call("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
      yield* locks.acquire("b")
      yield* visitor.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
      const refused = Effect.matchEffect(locks.tryAcquire("b"), {
        onSuccess: () => Effect.succeed(false),
        onFailure: (error) => Effect.succeed(error.reason.detail.includes("volatile-ttl"))
      })
      yield* until("the new connection is checked", refused)
    }))

  it.live("without a limit of memory evicts nothing, whatever its policy", () =>
    Effect.gen(function*() {
      const locks = yield* (yield* start("--maxmemory-policy", "allkeys-lru")).open()
      yield* locks.acquire("a")
    }))

  // Redis lets a script go on that has written, and the first write of these takes nothing.
  it.live("a server whose memory is full grants, renews and releases locks", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start("--maxmemory-policy", "noeviction")
      const locks = yield* open()
      const { handle } = yield* locks.acquire("a")
      yield* visitor.call("CONFIG", "SET", "maxmemory", "1")
      yield* locks.acquire("b", { key: "other" })
      assert.strictEqual((yield* locks.renew("a", handle))._tag, "Renewed")
      assert.strictEqual(yield* locks.release("a", { handle: Option.some(handle) }), "Released")
    }))
})

describe("options", () => {
  it.effect("the default schedule looks at no refusal", () =>
    Effect.gen(function*() {
      const { defaults } = yield* Redis.make({ url: "redis://127.0.0.1:1" })
      assert(defaults?.schedule !== undefined)
      assert.isTrue(isBlind(defaults.schedule))
      const step = yield* Schedule.toStep(defaults.schedule)
      for (const least of [800, 1280, 1280]) {
        const [, delay] = yield* Effect.orDie(step(0, undefined as never))
        assert.isAtLeast(Duration.toMillis(delay), least)
        assert.isBelow(Duration.toMillis(delay), 2000)
      }
    }))

  const build = (options: unknown) => failureOf(Effect.scoped(Redis.make(options as Redis.Options)))

  const refused: ReadonlyArray<readonly [what: string, options: unknown, about: RegExp]> = [
    ["no server", {}, /one of url, options and client; there are 0/],
    ["two servers", { url: "redis://localhost", options: {} }, /there are 2/],
    ["a url that is none", { url: "localhost" }, /url must be redis:/],
    ["a url of something else", { url: "http://localhost" }, /url must be redis:/],
    ["a database that is no number", { url: "redis://localhost/x" }, /url must be redis:/],
    ["options in a url", { url: "redis://localhost?enableOfflineQueue=true" }, /query/],
    ["a password that is not encoded", { url: "redis://:100%@localhost" }, /percent-encoded/],
    ["a client that is none", { client: {} }, /Redis or Cluster of ioredis/],
    ["a bad namespace", { url: "redis://localhost", namespace: "\n" }, /namespace/],
    ["bad defaults", { url: "redis://localhost", defaults: { ttl: 0 } }, /the layer's defaults: ttl/]
  ]
  for (const [what, options, about] of refused) {
    it.live(`${what}: Misconfigured before anything is sent`, () =>
      Effect.map(build(options), (error) => {
        assert.strictEqual(error.operation, "build")
        misconfigured(error, about)
      }))
  }

  it.live("a url is read as it should be", () =>
    Effect.gen(function*() {
      const { port } = yield* redisServer("--requirepass", "p@ss/word")
      const visitor = yield* visitorOf(port, "p@ss/word")
      const url = `redis://:p%40ss%2Fword@127.0.0.1:${port}/3?family=4`
      const backend = yield* Redis.make({ url: Redacted.make(url) })
      yield* backend.tryAcquire({ key: "k", ownerId: "a", ttl, metadata: {}, willWait: false, budget })
      yield* visitor.call("SELECT", "3")
      assert.include(yield* visitor.keys, "lock::{k}")
    }))

  it.live("layerConfig reads its options from configuration", () =>
    Effect.gen(function*() {
      const { server, visitor } = yield* start()
      const locks = Redis.layerConfig({
        url: Config.Redacted("REDIS_URL"),
        namespace: Config.String("LOCK_NAMESPACE"),
        defaults: { ttl: Config.Duration("LOCK_TTL") }
      })
      const provider = ConfigProvider.fromUnknown({
        REDIS_URL: server.url,
        LOCK_NAMESPACE: "app",
        LOCK_TTL: "5 seconds"
      })
      yield* Effect.scoped(Effect.gen(function*() {
        yield* withLock("k")
        const left = Number(yield* visitor.call("PTTL", "lock:app:{k}"))
        assert.isAtMost(left, 5000)
        assert.isAbove(left, 0)
      })).pipe(Effect.provide(locks), Effect.provideService(ConfigProvider.ConfigProvider, provider))
    }))

  it.live("a layer is built although its server is down", () =>
    Effect.gen(function*() {
      const { server } = yield* start()
      yield* server.kill
      const backend = yield* Redis.make({ url: server.url })
      const ask = backend.tryAcquire({ key: "k", ownerId: "a", ttl, metadata: {}, willWait: false, budget })
      const error = yield* failureOf(ask)
      assert.match(reasonOf(error), /^Unreachable: no answer from 127\.0\.0\.1:\d+: ECONNREFUSED/)
      yield* server.start
      yield* ask
    }))
})

describe.skipIf(!isInstalled("redis-server"))("a client of the user's", () => {
  const withClient = (options: RedisOptions) =>
    Effect.gen(function*() {
      const { server, visitor } = yield* start()
      const client = yield* Effect.acquireRelease(
        Effect.sync((): Driver =>
          new Driver({
            port: server.port,
            host: "127.0.0.1",
            ...(options as RedisOptions & { replyMapping: "legacy" })
          })
        ),
        (client) => Effect.sync(() => client.disconnect())
      )
      client.on("error", () => {})
      return { client, visitor, server }
    })

  const hostile: ReadonlyArray<readonly [what: string, options: RedisOptions]> = [
    ["with ioredis' own defaults", {}],
    ["that speaks RESP2", { protocol: 2 }],
    ["that waits for ever for a server", { maxRetriesPerRequest: null }],
    ["that sends nothing again", { autoResendUnfulfilledCommands: false, enableOfflineQueue: false }],
    ["that connects late", { lazyConnect: true }],
    ["that pipelines by itself", { enableAutoPipelining: true }],
    ["with a key prefix", { keyPrefix: "pre*{x}:" }],
    ["with numbers as strings", { stringNumbers: true }],
    ["with the shapes of RESP3", { replyMapping: "resp3" } as RedisOptions],
    ["of another database", { db: 5 }],
    ["with a timeout of its own", { commandTimeout: 2000 }]
  ]
  for (const [what, options] of hostile) {
    it.live(`${what}: grants, refuses, queues, renews, lists, releases`, () =>
      Effect.gen(function*() {
        const { client } = yield* withClient(options)
        const backend = yield* Redis.make({ client })
        yield* Effect.gen(function*() {
          yield* Lock.guard(
            Effect.gen(function*() {
              assert.strictEqual((yield* Lock.inspect("k")).length, 1)
              assert.deepStrictEqual((yield* Stream.runCollect(Lock.list(""))).map((key) => String(key)).length, 1)
              assert.isTrue(Option.isNone(yield* Lock.detached(Effect.scoped(Lock.withLockIfAvailable("k")))))
            }),
            "k"
          )
        }).pipe(Effect.provideService(LockBackend, backend))
        const other = yield* Redis.make({ client })
        const ask = { key: "k", ttl, metadata: {}, willWait: true, budget }
        const first = yield* backend.tryAcquire({ ...ask, ownerId: "a" })
        assert(first._tag === "Acquired")
        assert.strictEqual((yield* backend.renew({ ...ask, ownerId: "a", handle: first.handle }))._tag, "Renewed")
        assert.strictEqual((yield* other.tryAcquire({ ...ask, ownerId: "b" }))._tag, "Held")
        const handle = Option.some(first.handle)
        yield* backend.release({ key: "k", ownerId: "a", handle, unanswered: false, budget })
        assert(other.awaitTurn !== undefined)
        yield* Effect.timeout(other.awaitTurn({ key: "k", ownerId: "b" }), "10 seconds")
        assert.strictEqual((yield* other.tryAcquire({ ...ask, ownerId: "b" }))._tag, "Acquired")
      }))
  }

  it.live("is neither closed nor changed, and its subscription connection is", () =>
    Effect.gen(function*() {
      const { client, visitor } = yield* withClient({})
      yield* Effect.promise(() => client.ping())
      const options = { ...client.options }
      const commands = Object.keys(client)
      yield* Effect.scoped(Effect.gen(function*() {
        const backend = yield* Redis.make({ client })
        const ask = { key: "k", ttl, metadata: {}, willWait: true, budget }
        yield* backend.tryAcquire({ ...ask, ownerId: "a" })
        yield* backend.tryAcquire({ ...ask, ownerId: "b" })
        assert.match(String(yield* visitor.call("CLIENT", "LIST", "TYPE", "pubsub")), /sub=1/)
      }))
      assert.strictEqual(client.status, "ready")
      assert.deepStrictEqual({ ...client.options }, options)
      assert.deepStrictEqual(Object.keys(client), commands)
      assert.strictEqual(client.listenerCount("ready") + client.listenerCount("close") + client.listenerCount("end"), 0)
      yield* Effect.eventually(
        Effect.flatMap(visitor.call("CLIENT", "LIST", "TYPE", "pubsub"), (list) =>
          list === "" ? Effect.void : Effect.fail(0))
      ).pipe(Effect.timeout("10 seconds"))
    }))

  const refused: ReadonlyArray<readonly [what: string, options: RedisOptions, about: RegExp]> = [
    [
      "sends again what was given up, with no way to take it back",
      { enableOfflineQueue: false },
      /autoResendUnfulfilledCommands.*maxRetriesPerRequest: 0/
    ],
    ["is for replicas", { role: "slave" }, /replicas.*role: "master"/],
    ["monitors", { monitor: true }, /monitors.*monitor: false/],
    ["does not reconnect", { retryStrategy: null }, /stays closed.*retryStrategy/]
  ]
  for (const [what, options, about] of refused) {
    it.live(`that ${what} is refused, with the option to change`, () =>
      Effect.gen(function*() {
        const client = new Driver({ ...options, lazyConnect: true, replyMapping: "legacy" })
        misconfigured(yield* failureOf(Redis.make({ client })), about)
      }))
  }

  it.live("that is subscribed, and that was closed, fail as such", () =>
    Effect.gen(function*() {
      const { client } = yield* withClient({ protocol: 2 })
      yield* Effect.promise(() => client.subscribe("x"))
      const backend = yield* Redis.make({ client })
      const ask = backend.tryAcquire({ key: "k", ownerId: "a", ttl, metadata: {}, willWait: false, budget })
      misconfigured(yield* failureOf(ask), /subscribed/)
      client.disconnect()
      yield* Effect.promise(() => new Promise((resolve) => client.once("end", resolve)))
      assert.match(reasonOf(yield* failureOf(ask)), /^Unreachable: .*closed/)
    }))

  it.live("that is a Cluster has no fair queue", () =>
    Effect.gen(function*() {
      const client = new Cluster([{ port: 1, host: "127.0.0.1" }], { lazyConnect: true })
      const backend = yield* Redis.make({ client })
      assert.isFalse(backend.capabilities.fair)
      assert.isUndefined(backend.awaitTurn)
    }))
})

describe.skipIf(!isInstalled("redis-server"))("secrets", () => {
  const canary = "canary-5f1c"

  it.live("a password reaches no error, in no state of the server", () =>
    Effect.gen(function*() {
      const { server } = yield* start("--requirepass", "right")
      const tell = (url: string) =>
        Effect.gen(function*() {
          const backend = yield* Redis.make({ url })
          const ask = backend.tryAcquire({
            key: "k",
            ownerId: `${canary}-owner`,
            ttl,
            metadata: { job: canary },
            willWait: true,
            budget: Duration.seconds(1)
          })
          return yield* failureOf(ask)
        }).pipe(Effect.scoped)
      const wrong = `redis://user-${canary}:pass-${canary}@127.0.0.1:${server.port}`
      const errors = [
        yield* tell(wrong),
        yield* tell(`redis://127.0.0.1:${server.port}`),
        yield* failureOf(Effect.scoped(Redis.make({ url: `redis://:${canary}%@x` }))),
        yield* failureOf(Effect.scoped(Redis.make({ url: `${canary}://${canary}@x` })))
      ]
      yield* server.kill
      errors.push(yield* tell(wrong))
      assert.deepStrictEqual(errors.map(({ reason }) => reason._tag), [
        "Unauthorized",
        "Unauthorized",
        "Misconfigured",
        "Misconfigured",
        "Unreachable"
      ])
      for (const error of errors) {
        const told = [
          String(error),
          JSON.stringify(error),
          error.stack,
          Redacted.isRedacted(error.cause) ? "" : error.cause
        ]
        assert.notInclude(told.join("\n"), canary)
      }
    }))
})

describe.skipIf(!isInstalled("redis-server"))("what is logged and traced", () => {
  it.live("of a lease that is lost with its server carries no password", () =>
    Effect.gen(function*() {
      const canary = "canary-93bd"
      const server = yield* redisServer("--requirepass", canary)
      const told: Array<string> = []
      const logger = Logger.make<unknown, void>((entry) => {
        told.push(inspect({ message: entry.message, cause: entry.cause }, { depth: 20, showHidden: true }))
      })
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const spans: Array<Tracer.NativeSpan> = []
      const backend = yield* Redis.make({ url: `redis://:${canary}@127.0.0.1:${server.port}` })
      yield* Effect.scoped(Effect.gen(function*() {
        const lease = yield* withLock("k", { ttl: "1 second" })
        yield* server.kill
        yield* Effect.timeout(Effect.flip(lease.lost), "20 seconds")
      })).pipe(
        Effect.provideService(LockBackend, backend),
        Effect.provideService(Tracer.Tracer, tracer),
        Effect.provide(Logger.layer([logger]))
      )
      assert.isNotEmpty(told)
      assert.isNotEmpty(spans)
      assert.match(told.join("\n"), /of lock "k" was lost/)
      for (const span of spans) {
        told.push(inspect([span.name, span.attributes, span.events, span.status], { depth: 20 }))
      }
      assert.notInclude(told.join("\n"), canary)
    }))
})

describe.skipIf(!isInstalled("redis-server"))("the layer", () => {
  it.live("closes its connections", () =>
    Effect.gen(function*() {
      const { server, visitor } = yield* start()
      const program = Effect.scoped(Effect.andThen(withLock("k"), Effect.void))
      yield* Effect.provide(program, Redis.layer({ url: server.url }))
      yield* Effect.eventually(
        Effect.flatMap(visitor.call("CLIENT", "LIST"), (list) =>
          /name=effect-lock/.test(String(list)) ? Effect.fail(0) : Effect.void)
      ).pipe(Effect.timeout("10 seconds"))
      assert.notInclude(yield* visitor.keys, "lock::{k}")
    }))

  it.live("is a layer", () =>
    Effect.sync(() => assert.isTrue(Layer.isLayer(Redis.layer({ url: "redis://localhost" })))))
})

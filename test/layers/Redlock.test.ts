/** Redlock on real masters: its options, what it promises and what it refuses, and what users of others miss. */
import { assert, describe, it } from "@effect/vitest"
import {
  Config,
  ConfigProvider,
  Duration,
  Effect,
  Exit,
  Layer,
  Option,
  Redacted,
  Schedule,
  Schema,
  Scope,
  Stream
} from "effect"
import { Lock, LockBackend, withLock } from "effect-lock"
import * as Redlock from "effect-lock/layers/Redlock"
import { Redis } from "ioredis"
import { readFileSync } from "node:fs"
import * as path from "node:path"
import { inspect } from "node:util"
import { freePort, isInstalled } from "../servers/ServerProcess.ts"
import {
  allFree,
  backendOn,
  grant,
  grantOf,
  holderOf,
  master,
  masters,
  reasonOf,
  release,
  renew,
  tryAcquire,
  ttl,
  until
} from "./redlock/masters.ts"

const refusal = (options: Redlock.Options) =>
  Effect.map(Effect.flip(Effect.scoped(Redlock.make(options))), (error) => {
    assert.strictEqual(error.operation, "build")
    assert(error.reason._tag === "Misconfigured", error.reason._tag)
    return error.reason.detail
  })

const nodes = ["redis://one", "redis://two", "redis://three"]

describe("the options of Redlock", () => {
  const wrong: ReadonlyArray<readonly [what: string, options: Redlock.Options, says: RegExp]> = [
    ["no nodes", { nodes: [] }, /nodes must name the masters/],
    ["a node that is none", { nodes: [...nodes, 4 as never] }, /nodes\[3\] must be a url/],
    ["a url that is none", { nodes: [...nodes, "http://four"] }, /nodes\[3\]: url must be redis:\/\//],
    ["a node that is named twice", { nodes: [...nodes, "redis://two:6379"] }, /nodes\[1\] and nodes\[3\] are the same/],
    [
      "a node that is named twice, once by another user",
      { nodes: ["redis://a:b@ONE/1", "redis://c:d@one:6379"] },
      /nodes\[0\] and nodes\[1\] are the same server, .*Name each server once/
    ],
    ["this machine twice", { nodes: ["redis://localhost", "redis://127.0.0.1"] }, /are the same server/],
    [
      "a node behind Sentinel",
      { nodes: [{ options: { sentinels: [{ host: "s" }], name: "m" } }] },
      /nodes\[0\] is behind Sentinel, .*failing over/
    ],
    ["a bad namespace", { nodes, namespace: "\n" }, /namespace/],
    ["a maxTtl below the least ttl", { nodes, maxTtl: 10 }, /maxTtl must be at least 1s/],
    ["a maxTtl that is none", { nodes, maxTtl: NaN }, /maxTtl/],
    ["a maxTtl of more than a day", { nodes, maxTtl: "2 days" }, /maxTtl/],
    ["no time for a node", { nodes, perNodeTimeout: 0 }, /perNodeTimeout must be at least/],
    ["a negative drift", { nodes, drift: -0.1 }, /drift/],
    ["a drift that is no number", { nodes, drift: NaN }, /drift/],
    [
      "a default ttl above maxTtl",
      { nodes, maxTtl: "10 seconds", defaults: { ttl: "11 seconds" } },
      /not be more than maxTtl/
    ],
    ["defaults that can't be", { nodes, defaults: { renewEvery: "1 hour" } }, /the layer's defaults: renewEvery/]
  ]
  for (const [what, options, says] of wrong) {
    it.effect(`refuse ${what}, before anything is sent`, () =>
      Effect.map(refusal(options), (detail) => assert.match(detail, says)))
  }

  it.effect("never show a password when they are refused", () =>
    Effect.gen(function*() {
      const secret = "canary-in-the-url"
      const url = `redis://user:${secret}@one`
      for (const wrong of [[url, url], [url, "http://x"], [`${url}/notanumber`], [Redacted.make(`${url}?db=1`)]]) {
        const error = yield* Effect.flip(Effect.scoped(Redlock.make({ nodes: wrong })))
        assert.notInclude(`${JSON.stringify(error)}${inspect(error, { depth: 20 })}${error.stack}`, secret)
      }
    }))

  it.effect("lower the usual ttl where maxTtl is less", () =>
    Effect.gen(function*() {
      const { defaults } = yield* Redlock.make({ nodes, maxTtl: "10 seconds" })
      assert.strictEqual(defaults?.ttl, 10_000)
      const left = yield* Redlock.make({ nodes, maxTtl: "10 seconds", defaults: { ttl: undefined } })
      assert.strictEqual(left.defaults?.ttl, 10_000)
    }))

  it.effect("can come from configuration", () =>
    Effect.gen(function*() {
      const layer = Redlock.layerConfig({
        nodes: Config.Array(Schema.Redacted(Schema.String), "MASTERS"),
        namespace: Config.String("NAMESPACE")
      })
      const config = ConfigProvider.fromUnknown({ MASTERS: nodes, NAMESPACE: "n" })
      const context = yield* Effect.provideService(Layer.build(layer), ConfigProvider.ConfigProvider, config)
      assert.strictEqual(context.mapUnsafe.has(LockBackend.key), true)
    }))
})

describe.skipIf(!isInstalled("redis-server")).concurrent("Redlock", () => {
  it.live("one master that fails does not fail an acquire that has its majority, and nothing is left behind", () =>
    Effect.gen(function*() {
      const all = yield* masters(3)
      const backend = yield* backendOn(all)
      yield* grant(backend, "before", "a")
      yield* release(backend, "before", "a")
      yield* all[1]!.kill
      yield* until("the connection is closed", Effect.sync(() => all[1]!.proxy.connections() === 0))
      const { degraded, fencingToken, handle } = yield* grant(backend, "k", "a")
      assert.match(degraded ?? "", /^1 of 3 nodes took no part: 127\.0\.0\.1:\d+ is not connected$/)
      assert.isTrue(Option.isSome(fencingToken))
      assert.strictEqual(yield* release(backend, "k", "a", handle), "Released")
      yield* allFree([all[0]!, all[2]!])
    }))

  it.live("a grant says for how long it is valid, of which key, and by which token", () =>
    Effect.gen(function*() {
      const all = yield* masters(3)
      const backend = yield* backendOn(all)
      const lease = yield* withLock("the key", { ttl: "10 seconds" }).pipe(
        Effect.provideService(LockBackend, backend)
      )
      assert.strictEqual(lease.key, "the key")
      const remaining = Duration.toMillis(yield* lease.remaining)
      assert.isAtMost(remaining, 9500)
      assert.isAtLeast(remaining, 5000)
      // A majority has granted it; the others are about to.
      yield* until(
        "all have it",
        Effect.map(Effect.forEach(all, ({ locks }) => locks), (locks) => locks.every(({ length }) => length === 1))
      )
      // The masters keep it for longer than the client trusts it.
      for (const { client } of all) {
        const [key] = yield* Effect.promise(() => client.keys("*:l:*"))
        const left = yield* Effect.promise(() => client.pttl(key!))
        assert.isAbove(left, Duration.toMillis(yield* lease.remaining))
        assert.isAtMost(left, 10_102)
      }
    }))

  it.live("the number of tries and the delay between them are the caller's schedule", () =>
    Effect.gen(function*() {
      const all = yield* masters(3)
      const backend = yield* backendOn(all)
      yield* grant(backend, "k", "a")
      const schedule = Schedule.spaced("20 millis").pipe(Schedule.upTo({ times: 3 }))
      const error = yield* Effect.flip(
        withLock("k", { schedule }).pipe(Effect.provideService(LockBackend, backend))
      )
      assert(error._tag === "LockContended", error._tag)
      assert.strictEqual(error.reason, "ScheduleOver")
      assert.strictEqual(error.attempts, 4)
      assert.strictEqual(error.holders[0]?.ownerId, "a")
    }))

  it.live("who did not get the lock does not free it, and who had it does not free the next one's", () =>
    Effect.gen(function*() {
      const all = yield* masters(3)
      const backend = yield* backendOn(all)
      yield* grant(backend, "k", "a")
      assert.strictEqual(yield* release(backend, "k", "b"), "NotHeld")
      assert.strictEqual(yield* holderOf(backend, "k"), "a")
      const budget = Duration.seconds(6)
      assert.strictEqual(yield* backend.break!({ key: "k", ownerId: "a", now: true, budget }), "Broken")
      yield* grant(backend, "k", "c")
      assert.strictEqual(yield* release(backend, "k", "a"), "NotHeld")
      assert.strictEqual(yield* holderOf(backend, "k"), "c")
    }))

  it.live("a tie of two or of four masters is settled at once, for nobody, and leaves nothing", () =>
    Effect.gen(function*() {
      const all = yield* masters(4)
      const [one, two] = all
      const half = yield* backendOn([one!])
      const otherHalf = yield* backendOn([two!])
      yield* grant(half, "k", "left")
      yield* grant(otherHalf, "other", "right")
      const pair = yield* backendOn([one!, two!])
      const tied = yield* tryAcquire(pair, "k", "late")
      assert(tied._tag === "Held")
      assert.deepStrictEqual(yield* two!.locks, ["right"])
      yield* grant(otherHalf, "k", "left")
      const four = yield* backendOn(all)
      const reply = yield* tryAcquire(four, "k", "late")
      assert(reply._tag === "Held")
      assert.strictEqual(reply.holders[0]?.ownerId, "left")
      yield* allFree(all.slice(2))
      yield* release(half, "k", "left")
      yield* until(
        "three of four are a majority",
        Effect.map(tryAcquire(four, "k", "late"), ({ _tag }) => _tag === "Acquired")
      )
    }))

  it.live("one master alone works, and two work while both do", () =>
    Effect.gen(function*() {
      const [one, two] = yield* masters(2)
      const alone = yield* backendOn([one!], { namespace: "alone" })
      const { handle } = yield* grant(alone, "k", "a")
      assert.strictEqual(yield* renew(alone, "k", "a", handle), "Renewed")
      assert.strictEqual(yield* release(alone, "k", "a", handle), "Released")
      const both = yield* backendOn([one!, two!], { namespace: "both" })
      const pair = yield* grant(both, "k", "a")
      assert.strictEqual(yield* release(both, "k", "a", pair.handle), "Released")
      yield* two!.kill
      assert.isTrue((yield* reasonOf(tryAcquire(both, "k", "b"))).isRetryable)
      yield* allFree([one!])
    }))

  it.live("one server under two names is found out before it votes twice", () =>
    Effect.gen(function*() {
      const all = yield* masters(2)
      const [one, two] = all
      const backend = yield* Redlock.make({ nodes: [one!.url, one!.proxied, two!.url], restartGuard: false })
      const twice = yield* Redlock.make({ nodes: [one!.url, one!.proxied], restartGuard: false })
      const reason = yield* reasonOf(tryAcquire(twice, "k", "a"))
      assert(reason._tag === "Misconfigured")
      assert.match(reason.detail, /are one server: each node must be a master of its own/)
      // Two of three are still a majority, of servers too.
      grantOf(yield* tryAcquire(backend, "k", "a"))
    }))

  it.live("a ttl above maxTtl is refused", () =>
    Effect.gen(function*() {
      const all = yield* masters(1)
      const backend = yield* backendOn(all, { maxTtl: "20 seconds" })
      const reason = yield* reasonOf(tryAcquire(backend, "k", "a"))
      assert(reason._tag === "Misconfigured")
      assert.match(reason.detail, /^a ttl of 30s is more than maxTtl \(20s\)/)
      yield* grant(backend, "k", "a", Duration.seconds(20))
    }))

  it.live("a master that may evict locks does not vote", () =>
    Effect.gen(function*() {
      const evicting = yield* master("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
      const others = yield* masters(2)
      const backend = yield* backendOn([evicting, ...others])
      const { degraded } = yield* grant(backend, "k", "a")
      yield* grant(backend, "k2", "a2")
      const reason = yield* reasonOf(tryAcquire(yield* backendOn([evicting]), "k3", "b"))
      assert(reason._tag === "Misconfigured", reason._tag)
      assert.match(reason.detail, /maxmemory-policy allkeys-lru/)
      assert.isTrue(degraded === undefined || degraded.includes("maxmemory"))
    }))

  it.live("a wrong password, and a server that is not there, are told without any secret", () =>
    Effect.gen(function*() {
      const secret = "canary-in-the-password"
      const locked = yield* master("--requirepass", "something else")
      const nobody = yield* freePort
      const backend = yield* Redlock.make({
        nodes: [locked.port, nobody].map((port) => `redis://canary-user:${secret}@127.0.0.1:${port}`),
        restartGuard: false
      })
      const outcomes = yield* Effect.all([
        Effect.flip(tryAcquire(backend, "k", "a")),
        Effect.flip(release(backend, "k", "a")),
        Effect.flip(Stream.runCollect(backend.list!("")))
      ])
      for (const error of outcomes) {
        const told = `${JSON.stringify(error)}${inspect(error, { depth: 20 })}${error.stack}${error.message}`
        assert.notInclude(told, "canary")
        assert.include(error.message, `127.0.0.1:${nobody}: Unreachable`)
      }
    }))

  it.live("masters that all refuse the password are no outage: nothing is tried again", () =>
    Effect.gen(function*() {
      const all = yield* masters(3, "--requirepass", "something else")
      const backend = yield* Redlock.make({ nodes: all.map(({ url }) => url), restartGuard: false })
      const error = yield* Effect.flip(withLock("k").pipe(Effect.provideService(LockBackend, backend)))
      assert(error._tag === "LockBackendError", error._tag)
      assert.strictEqual(error.reason._tag, "Unauthorized")
    }))

  it.live("the rights that the documentation names suffice", () =>
    Effect.gen(function*() {
      const page = readFileSync(path.join(import.meta.dirname, "../../docs/backends/redlock.md"), "utf8")
      const rule = /^ACL SETUSER (.*)$/m.exec(page)?.[1] ?? ""
      const all = yield* masters(3)
      yield* Effect.forEach(
        all,
        ({ client }) => Effect.promise(() => client.call("ACL", "SETUSER", ...rule.split(" ")))
      )
      const backend = yield* Redlock.make({
        nodes: all.map(({ port }) => `redis://locks:secret@127.0.0.1:${port}`),
        namespace: "app",
        restartGuard: false
      })
      const { handle } = yield* grant(backend, "k", "a")
      assert.strictEqual((yield* tryAcquire(backend, "k", "b"))._tag, "Held")
      assert.strictEqual(yield* renew(backend, "k", "a", handle), "Renewed")
      assert.strictEqual(yield* holderOf(backend, "k"), "a")
      assert.lengthOf(yield* Stream.runCollect(backend.list!("")), 1)
      const budget = Duration.seconds(5)
      assert.strictEqual(yield* backend.break!({ key: "k", ownerId: "a", now: false, budget }), "Draining")
      assert.strictEqual(yield* renew(backend, "k", "a", handle), "Gone")
      assert.strictEqual(yield* release(backend, "k", "a"), "Released")
      const other = yield* Redlock.make({
        nodes: all.map(({ port }) => `redis://locks:secret@127.0.0.1:${port}`),
        namespace: "other",
        restartGuard: false
      })
      assert.strictEqual((yield* reasonOf(tryAcquire(other, "k", "a")))._tag, "Unauthorized")
    }))

  it.live("clients of the user's are used as they are, and left open", () =>
    Effect.gen(function*() {
      const all = yield* masters(3)
      const clients = all.map(({ port }) => new Redis(port, { keyPrefix: "mine:" }))
      const scope = yield* Scope.make()
      const backend = yield* Scope.provide(
        Redlock.make({ nodes: clients.map((client) => ({ client })), restartGuard: false }),
        scope
      )
      yield* grant(backend, "k", "a")
      const listed = yield* Stream.runCollect(backend.list!("k"))
      assert.deepStrictEqual(listed.map(({ holders, key }) => [key, holders[0]?.ownerId]), [["k", "a"]])
      yield* until(
        "each has it under the prefix",
        Effect.map(
          Effect.forEach(all, ({ client }) => Effect.promise(() => client.keys("mine:effect-lock:redlock:*:l:*"))),
          (found) => found.flat().length === 3
        )
      )
      yield* Scope.close(scope, Exit.void)
      for (const client of clients) {
        assert.strictEqual(yield* Effect.promise(() => client.ping()), "PONG")
        client.disconnect()
      }
    }))

  it.live("closing the layer closes its connections", () =>
    Effect.gen(function*() {
      const all = yield* masters(3)
      const locks = Redlock.layer({ nodes: all.map(({ proxied }) => proxied), restartGuard: false })
      const used = yield* Effect.succeed("used").pipe(Lock.guard("k"), Effect.provide(locks))
      assert.strictEqual(used, "used")
      yield* until("nothing is connected", Effect.sync(() => all.every(({ proxy }) => proxy.connections() === 0)))
      yield* allFree(all)
    }))

  it.live("tokens grow although masters restarted empty, one after the other", () =>
    Effect.gen(function*() {
      const all = yield* masters(3)
      const backend = yield* backendOn(all)
      let last = 0n
      for (const [round, { kill, start }] of all.entries()) {
        const reply = yield* Effect.retry(tryAcquire(backend, "k", `round-${round}`), Schedule.spaced("50 millis"))
        const token = Option.getOrThrow(grantOf(reply).fencingToken)
        assert.isTrue(token > last, `${token} after ${last}`)
        last = token
        yield* release(backend, "k", `round-${round}`)
        yield* Effect.andThen(kill, start)
      }
    }))

  it.live("a token from the future does not poison a key for clients whose masters' clocks are right", () =>
    Effect.gen(function*() {
      const all = yield* masters(3)
      const backend = yield* backendOn(all)
      const first = yield* grant(backend, "k", "a")
      yield* release(backend, "k", "a", first.handle)
      const far = Number(first.handle) + 3_600_000_000
      for (const { client } of all) yield* Effect.promise(() => client.set("effect-lock:redlock::f:{k}", far))
      const reply = yield* tryAcquire(backend, "k", "b")
      assert.strictEqual(Number(grantOf(reply).handle), far + 1)
      assert.strictEqual(Duration.toMillis(ttl), Duration.toMillis(grantOf(reply).grantedTtl))
    }))
})

import { assert, describe, it } from "@effect/vitest"
import {
  Config,
  ConfigProvider,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Option,
  Redacted,
  Schema,
  Scope,
  Stream
} from "effect"
import { Lock, LockBackend, type LockBackendError, withLock } from "effect-lock"
import * as Etcd from "effect-lock/layers/Etcd"
import { FetchHttpClient } from "effect/http"
import { createServer } from "node:http"
import { afterAll } from "vitest"
import { leaseId, namesOf } from "../../src/layers/internal/etcdRecord.ts"
import { etcdServer } from "../servers/EtcdServer.ts"
import { faultProxy } from "../servers/FaultProxy.ts"
import { freePort, isInstalled } from "../servers/ServerProcess.ts"
import {
  answer,
  answeredFirst,
  ask,
  backend,
  base64,
  eventually,
  grantOf,
  holderOf,
  type Intercept,
  keysUnder,
  leases
} from "./internal/etcdLocks.ts"

const installed = isInstalled("etcd")
const scope = Scope.makeUnsafe()
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
const server = installed ? await Effect.runPromise(Scope.provide(etcdServer(), scope)) : undefined
const url = server?.url ?? ""
const endpoints = [url]

let names = 0
const fresh = () => `t${++names}`
const now = { startImmediately: true } as const

const reasonOf = (error: LockBackendError) => error.reason._tag

/** An HTTP server that answers everything alike. */
const stranger = (status: number, text: string) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly url: string; readonly close: () => void }>((resume) => {
      const http = createServer((_, response) => response.writeHead(status).end(text)).listen(0, "127.0.0.1", () => {
        const address = http.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        const close = () => {
          http.closeAllConnections()
          http.close()
        }
        resume(Effect.succeed({ url: `http://127.0.0.1:${port}`, close }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )

describe("options of etcd", () => {
  const auth = { user: "u", password: Redacted.make("p") }
  const wrong: ReadonlyArray<readonly [string, object, RegExp]> = [
    ["no endpoints", { endpoints: [] }, /endpoints must be client URLs/],
    ["no URL", { endpoints: ["http://a:2379", "b:2379"] }, /endpoints\[1\] must be a URL with http or https/],
    ["another scheme", { endpoints: ["etcd://a"] }, /endpoints\[0\] must be a URL/],
    ["a query", { endpoints: ["http://a:2379/?x=1"] }, /endpoints\[0\] must be a URL/],
    ["credentials in a URL", { endpoints: ["http://root:canary@a:2379"] }, /carries credentials: pass auth/],
    ["no user", { endpoints, auth: { ...auth, user: "" } }, /auth must be/],
    ["a bare password", { endpoints, auth: { user: "u", password: "canary" } }, /auth must be/],
    ["a bad namespace", { endpoints, namespace: "a\nb" }, /namespace/],
    ["a bad default", { endpoints, defaults: { ttl: -1 } }, /defaults: ttl/]
  ].map(([name, options, message]) => [
    String(name),
    { endpoints: ["http://127.0.0.1:1"], ...(options as object) },
    message as RegExp
  ])
  for (const [name, options, message] of wrong) {
    it.effect(`${name} is Misconfigured before anything is sent`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(backend(options as Etcd.Options))
        assert.strictEqual(reasonOf(error), "Misconfigured")
        assert.match(error.message, message)
        assert.notMatch(error.message, /canary/)
      }))
  }

  it.effect("a client certificate without its key is Misconfigured", () =>
    Effect.gen(function*() {
      const layer = Etcd.layerNode({ endpoints: ["https://127.0.0.1:1"], tls: { cert: "x" } })
      const error = yield* Effect.flip(Layer.build(layer))
      assert.match(error.message, /tls\.cert and tls\.key belong together/)
    }))
})

describe.skipIf(!installed)("etcd", () => {
  it.live("is taken from configuration, through any HttpClient", () =>
    Effect.gen(function*() {
      const layer = Etcd.layerConfig({
        endpoints: Config.Array(Schema.String, "ETCD_ENDPOINTS"),
        namespace: Config.String("NAMESPACE")
      }).pipe(Layer.provide(FetchHttpClient.layer))
      const provider = ConfigProvider.fromUnknown({ ETCD_ENDPOINTS: endpoints, NAMESPACE: "from-config" })
      const held = yield* keysUnder(url, "effect-lock/from-config/").pipe(
        Lock.guard("k"),
        Effect.provide(layer),
        Effect.provideService(ConfigProvider.ConfigProvider, provider)
      )
      assert.deepStrictEqual(held.map(({ key }) => key), ["effect-lock/from-config/locks/k"])
    }))

  it.live("needs these requests: two to acquire, two to renew, one to release, one to be refused again", () =>
    Effect.gen(function*() {
      const namespace = fresh()
      const a = yield* backend({ endpoints, namespace }, answeredFirst("lease/grant"))
      const b = yield* backend({ endpoints, namespace }, answeredFirst("lease/grant"))
      const { handle } = grantOf(yield* a.tryAcquire("a"))
      assert.deepStrictEqual(a.sent(), ["lease/grant", "kv/txn"])
      yield* a.renew("a", handle)
      assert.deepStrictEqual(a.sent(), ["lease/keepalive", "kv/range"])
      assert.strictEqual(holderOf(yield* b.tryAcquire("b", { willWait: true })), "a")
      assert.deepStrictEqual(b.sent(), ["lease/grant", "kv/txn"])
      assert.strictEqual(holderOf(yield* b.tryAcquire("b", { willWait: true })), "a")
      assert.deepStrictEqual(b.sent(), ["kv/range"])
      assert.strictEqual(holderOf(yield* b.tryAcquire("c")), "a")
      assert.deepStrictEqual(b.sent(), ["kv/range"])
      assert.strictEqual((yield* b.inspect())[0]?.ownerId, "a")
      assert.deepStrictEqual(b.sent(), ["kv/range", "lease/timetolive"])
      assert.strictEqual(yield* a.release("a", handle), "Released")
      assert.deepStrictEqual(a.sent(), ["lease/revoke"])
      const second = grantOf(yield* b.tryAcquire("b", { willWait: true }))
      assert.deepStrictEqual(b.sent(), ["kv/range", "lease/keepalive", "kv/txn"])
      yield* b.release("b", second.handle)
    }))

  it.live("a transaction that overtakes its lease is sent again, and takes the lock as any other", () =>
    Effect.gen(function*() {
      const namespace = fresh()
      const a = yield* backend({ endpoints, namespace }, answeredFirst("kv/txn"))
      const { fencingToken, handle } = grantOf(yield* a.tryAcquire("a", { ttl: 20_000 }))
      assert.deepStrictEqual(a.sent(), ["lease/grant", "kv/txn", "kv/txn"])
      const [key] = yield* keysUnder(url, `effect-lock/${namespace}/locks/`)
      assert.strictEqual(key?.revision, handle)
      assert.deepStrictEqual(fencingToken, Option.some(BigInt(handle)))
      assert.strictEqual((yield* ask(url, "lease/timetolive", { ID: key?.lease })).grantedTTL, "20")
      assert.strictEqual(yield* a.release("a", handle), "Released")
      assert.deepStrictEqual(a.sent(), ["lease/revoke"])
      assert.deepStrictEqual(yield* keysUnder(url, `effect-lock/${namespace}/`), [])
    }))

  it.live("a lease that was there before is no proof of its ttl: what is granted has at least what was asked for", () =>
    Effect.gen(function*() {
      const namespace = fresh()
      const lease = leaseId(namesOf(namespace), "k", "a")
      yield* ask(url, "lease/grant", { ID: lease, TTL: "5" })
      const a = yield* backend({ endpoints, namespace })
      const { grantedTtl, handle } = grantOf(yield* a.tryAcquire("a", { ttl: 60_000 }))
      assert.deepStrictEqual(grantedTtl, Duration.minutes(1))
      const [key] = yield* keysUnder(url, `effect-lock/${namespace}/locks/`)
      assert.isAbove(Number((yield* ask(url, "lease/timetolive", { ID: key?.lease })).TTL), 50)
      assert.strictEqual(yield* a.release("a", handle), "Released")
    }))

  it.live("if its lease is refused an acquisition fails, and its release frees what its transaction took all the same", () =>
    Effect.gen(function*() {
      const namespace = fresh()
      yield* ask(url, "lease/grant", { ID: leaseId(namesOf(namespace), "k", "a"), TTL: "60" })
      const busy = JSON.stringify({ code: 8, message: "etcdserver: too many requests" })
      const ordered = answeredFirst("lease/grant")
      const a = yield* backend(
        { endpoints, namespace },
        (path, body, send) => ordered(path, body, path === "lease/grant" ? Effect.sync(() => answer(busy, 429)) : send)
      )
      assert.strictEqual(reasonOf(yield* Effect.flip(a.tryAcquire("a"))), "Throttled")
      // The transaction was not given up: whether it has come or may still come is known when the acquisition ends.
      assert.lengthOf(yield* keysUnder(url, `effect-lock/${namespace}/locks/`), 1)
      const other = yield* backend({ endpoints, namespace })
      assert.strictEqual(yield* other.release("a", undefined, { unanswered: true }), "Released")
      assert.deepStrictEqual(yield* keysUnder(url, `effect-lock/${namespace}/locks/`), [])
    }))

  it.live("a refused caller that won't wait leaves no lease; one that will has its own until it gives up", () =>
    Effect.gen(function*() {
      const namespace = fresh()
      const a = yield* backend({ endpoints, namespace })
      const b = yield* backend({ endpoints, namespace }, answeredFirst("lease/grant"))
      const c = yield* backend({ endpoints, namespace })
      const { handle } = grantOf(yield* a.tryAcquire("a"))
      const before = new Set(yield* leases(url))
      const added = Effect.map(leases(url), (all) => all.filter((id) => !before.has(id)).length)
      yield* b.tryAcquire("b")
      assert.deepStrictEqual(b.sent(), ["lease/grant", "kv/txn", "lease/revoke"])
      assert.strictEqual(yield* added, 0)
      yield* c.tryAcquire("c", { willWait: true })
      assert.strictEqual(yield* added, 1)
      assert.strictEqual(yield* c.release("c"), "NotHeld")
      assert.strictEqual(yield* added, 0)
      yield* a.release("a", handle)
    }))

  it.live("the fencing token is the revision that created the key, and the key hangs on the holder's lease", () =>
    Effect.gen(function*() {
      const namespace = fresh()
      const a = yield* backend({ endpoints, namespace })
      const grant = grantOf(yield* a.tryAcquire("a", { ttl: 61_234.5 }))
      const [key] = yield* keysUnder(url, `effect-lock/${namespace}/`)
      assert.deepStrictEqual(grant.fencingToken, Option.some(BigInt(key?.revision ?? 0)))
      assert.deepStrictEqual(grant.grantedTtl, Duration.seconds(62))
      const { grantedTTL, keys } = yield* ask(url, "lease/timetolive", { ID: key?.lease, keys: true })
      assert.strictEqual(grantedTTL, "62")
      assert.deepStrictEqual(keys, [base64(`effect-lock/${namespace}/locks/k`)])
      yield* a.release("a", grant.handle)
    }))

  it.live("a renewal for a longer ttl moves the lock to a longer lease, which its release finds", () =>
    Effect.gen(function*() {
      const namespace = fresh()
      const a = yield* backend({ endpoints, namespace })
      const { fencingToken, handle } = grantOf(yield* a.tryAcquire("a", { ttl: 5000 }))
      const renewal = yield* a.renew("a", handle, { ttl: 90_000 })
      assert(renewal._tag === "Renewed")
      assert.deepStrictEqual(renewal.grantedTtl, Duration.seconds(90))
      assert.isAbove(Duration.toSeconds(Option.getOrThrow((yield* a.inspect())[0]!.remaining)), 80)
      assert.deepStrictEqual((yield* a.inspect())[0]?.fencingToken, fencingToken)
      assert.strictEqual((yield* a.renew("a", handle, { ttl: 5000 }))._tag, "Renewed")
      assert.strictEqual(yield* a.release("a", handle), "Released")
      assert.deepStrictEqual(yield* keysUnder(url, `effect-lock/${namespace}/`), [])
    }))

  it.live("break ends the lease of the holder, whose work is interrupted with Gone", () =>
    Effect.gen(function*() {
      const { service } = yield* backend({ endpoints, namespace: fresh() })
      const other = yield* backend({ endpoints, namespace: `t${names}` })
      const lease = yield* withLock("k", { ttl: "6 seconds" }).pipe(Effect.provideService(LockBackend, service))
      const work = yield* Effect.forkChild(Effect.flip(lease.guard(Effect.never)), now)
      const broken = yield* Lock.break("k", lease.ownerId, { now: true }).pipe(
        Effect.provideService(LockBackend, other.service)
      )
      assert.strictEqual(broken, "Broken")
      grantOf(yield* other.tryAcquire("next", { key: "other" }))
      assert.strictEqual((yield* Fiber.join(work)).reason, "Gone")
      const draining = yield* Effect.flip(
        other.service.break!({ key: "k", ownerId: "x", now: false, budget: Duration.seconds(5) })
      )
      assert.strictEqual(reasonOf(draining), "Misconfigured")
    }))

  it.live("more locks than fit on a page are listed once each", () =>
    Effect.gen(function*() {
      const { service, tryAcquire } = yield* backend({ endpoints, namespace: fresh() })
      // A page ends between a key and one that goes on where it ends.
      const keys = ["job/"]
      for (let index = 100; index < 400; index++) keys.push(`job/${index}`, `job/${index}!`)
      yield* Effect.forEach(keys, (key) => tryAcquire(`owner-${key}`, { key }), { concurrency: 16, discard: true })
      const listed = yield* Stream.runCollect(service.list!("job/"))
      assert.deepStrictEqual(listed.map(({ key }) => key), keys)
      assert.lengthOf(yield* Stream.runCollect(service.list!("job/10")), 20)
    }))
})

describe.skipIf(!installed)("what is at a lock's key, in etcd,", () => {
  const put = (namespace: string, value: string, lease?: string) =>
    ask(url, "kv/put", {
      key: base64(`effect-lock/${namespace}/locks/k`),
      value: base64(value),
      ...(lease === undefined ? {} : { lease })
    })
  const grant = Effect.suspend(() => Effect.map(ask(url, "lease/grant", { TTL: "60" }), ({ ID }) => ID))

  for (
    const [name, value, leased] of [
      ["no JSON", "hello", true],
      ["no record", "{\"a\":1}", true],
      ["a record without a lease", "{\"v\":1,\"ownerId\":\"x\",\"since\":1,\"metadata\":{}}", false],
      ["nothing at all", "", true]
    ] as const
  ) {
    it.live(`if it is ${name}, is Misconfigured to whoever wants the lock, and stays`, () =>
      Effect.gen(function*() {
        const namespace = fresh()
        const { inspect, tryAcquire } = yield* backend({ endpoints, namespace })
        yield* put(namespace, value, leased ? yield* grant : undefined)
        for (const verb of [tryAcquire("a"), inspect()]) {
          const error = yield* Effect.flip(verb as Effect.Effect<unknown, LockBackendError>)
          assert.strictEqual(reasonOf(error), "Misconfigured")
          assert.match(error.message, /delete the key/)
        }
        assert.strictEqual((yield* keysUnder(url, `effect-lock/${namespace}/`))[0]?.value, value)
      }))
  }

  it.live("if it is of another version, is held until its lease ends, and an operator can break it", () =>
    Effect.gen(function*() {
      const namespace = fresh()
      const { inspect, service, tryAcquire } = yield* backend({ endpoints, namespace })
      yield* put(namespace, "{\"v\":2,\"holder\":\"x\"}", yield* grant)
      const ownerId = holderOf(yield* tryAcquire("a")) ?? ""
      assert.match(ownerId, /^other-version:\d+$/)
      assert.isAbove(Duration.toSeconds(Option.getOrThrow((yield* inspect())[0]!.remaining)), 50)
      const request = { key: "k", now: true, budget: Duration.seconds(5) }
      assert.strictEqual(yield* service.break!({ ...request, ownerId: "x" }), "NotHeld")
      assert.strictEqual(yield* service.break!({ ...request, ownerId }), "Broken")
      grantOf(yield* tryAcquire("b"))
    }))
})

describe.skipIf(!installed)("a request to etcd without an answer", () => {
  it.live("is bounded; the same owner id is recognised when the network is whole again", () =>
    Effect.gen(function*() {
      const proxy = yield* faultProxy(server!.port)
      const namespace = fresh()
      const a = yield* backend({ endpoints: [`http://127.0.0.1:${proxy.port}`], namespace })
      yield* a.inspect()
      yield* proxy.set({ loseReplies: true })
      const error = yield* Effect.flip(a.tryAcquire("a", { budget: 600 }))
      assert.strictEqual(reasonOf(error), "TimedOut")
      yield* proxy.heal
      const grant = grantOf(yield* a.tryAcquire("a"))
      const [key, ...more] = yield* keysUnder(url, `effect-lock/${namespace}/locks/`)
      assert.deepStrictEqual([key?.revision, more.length], [grant.handle, 0])
    }))

  it.live("moves on to the next endpoint within the call, and stays there", () =>
    Effect.gen(function*() {
      const proxy = yield* faultProxy(server!.port)
      const members = [`http://127.0.0.1:${proxy.port}`, url]
      const a = yield* backend({ endpoints: members, namespace: fresh() })
      yield* proxy.blackHole
      const { handle } = grantOf(yield* a.tryAcquire("a", { budget: 1200 }))
      assert.deepStrictEqual(a.sent().slice(0, 4).sort(), ["kv/txn", "kv/txn", "lease/grant", "lease/grant"])
      const sent = proxy.sent()
      assert.strictEqual((yield* a.renew("a", handle))._tag, "Renewed")
      assert.strictEqual(proxy.sent(), sent)
    }))

  it.live("on a connection that broke is sent again; refused everywhere, it fails at once", () =>
    Effect.gen(function*() {
      const proxy = yield* faultProxy(server!.port)
      const a = yield* backend({ endpoints: [`http://127.0.0.1:${proxy.port}`], namespace: fresh() })
      const { handle } = grantOf(yield* a.tryAcquire("a"))
      yield* proxy.reset
      assert.strictEqual((yield* a.renew("a", handle))._tag, "Renewed")
      yield* proxy.refuse
      a.sent()
      const error = yield* Effect.flip(a.renew("a", handle))
      assert.strictEqual(reasonOf(error), "Unreachable")
      assert.match(error.message, /ECONNREFUSED/)
      assert.lengthOf(a.sent(), 2)
    }))

  it.live("that another attempt has made up for leaves a tombstone at the release, so it can't arrive later", () =>
    Effect.gen(function*() {
      const namespace = fresh()
      let lost: Effect.Effect<unknown> = Effect.void
      // The first grant and the first transaction are held back, and sent after the release.
      const holdBack: Intercept = (path, body, send) => {
        if (path !== "lease/grant" && path !== "kv/txn") return send
        if (seen.has(path)) return send
        seen.add(path)
        lost = Effect.andThen(lost, ask(url, path, body))
        return Effect.never
      }
      const seen = new Set<string>()
      const a = yield* backend({ endpoints, namespace }, holdBack)
      const { handle } = grantOf(yield* a.tryAcquire("a", { budget: 1500 }))
      assert.strictEqual(yield* a.release("a", handle), "Released")
      yield* lost
      const left = yield* keysUnder(url, `effect-lock/${namespace}/`)
      assert.deepStrictEqual(left.map(({ key }) => key.replace(/\d+$/, "")), [`effect-lock/${namespace}/dead/`])
      const { TTL } = yield* ask(url, "lease/timetolive", { ID: left[0]?.lease })
      assert.isAbove(Number(TTL), 60)
    }))

  it.live("leaves no tombstone where every attempt was answered", () =>
    Effect.gen(function*() {
      const namespace = fresh()
      const a = yield* backend({ endpoints, namespace })
      const { handle } = grantOf(yield* a.tryAcquire("a"))
      yield* a.release("a", handle)
      assert.deepStrictEqual(yield* keysUnder(url, `effect-lock/${namespace}/`), [])
    }))

  it.live("leaves a tombstone also where the caller is refused and won't come again", () =>
    Effect.gen(function*() {
      const namespace = fresh()
      const a = yield* backend({ endpoints, namespace })
      let lost = 0
      const b = yield* backend({ endpoints, namespace }, (path, _body, send) =>
        path === "kv/txn" && lost++ === 0 ? Effect.never : send)
      const { handle } = grantOf(yield* a.tryAcquire("a"))
      assert.strictEqual(holderOf(yield* b.tryAcquire("b", { budget: 1500 })), "a")
      yield* a.release("a", handle)
      const left = yield* keysUnder(url, `effect-lock/${namespace}/`)
      assert.deepStrictEqual(
        left.map(({ key }) =>
          key.replace(/\d+$/, "")
        ),
        [`effect-lock/${namespace}/dead/`]
      )
    }))

  it.live("does not turn a refusal into a failure, if it is the clean-up that stays without an answer", () =>
    Effect.gen(function*() {
      const namespace = fresh()
      const a = yield* backend({ endpoints, namespace })
      const b = yield* backend(
        { endpoints, namespace },
        (path, _body, send) => path === "lease/revoke" ? Effect.never : send
      )
      grantOf(yield* a.tryAcquire("a"))
      assert.strictEqual(holderOf(yield* b.tryAcquire("b", { budget: 900 })), "a")
    }))
})

describe.skipIf(!installed)("a renewal in etcd", () => {
  it.live("is asked again if the leader that kept the lease alive is not the one that proves the lock", () =>
    Effect.gen(function*() {
      let stale = 1
      const a = yield* backend(
        { endpoints, namespace: fresh() },
        (path, _body, send) =>
          path === "lease/keepalive" && stale-- > 0
            ? Effect.flatMap(send, (response) =>
              Effect.map(response.text, (text) =>
                answer(text.replace(/"raft_term":"\d+"/, "\"raft_term\":\"1\""))))
            : send
      )
      const { handle } = grantOf(yield* a.tryAcquire("a"))
      a.sent()
      assert.strictEqual((yield* a.renew("a", handle))._tag, "Renewed")
      assert.deepStrictEqual(a.sent(), ["lease/keepalive", "kv/range", "lease/keepalive", "kv/range"])
      stale = Infinity
      assert.strictEqual(reasonOf(yield* Effect.flip(a.renew("a", handle))), "Unreachable")
    }))

  it.live("is not believed without the proof: a lock whose key is gone is Gone, though its lease lives", () =>
    Effect.gen(function*() {
      const namespace = fresh()
      const a = yield* backend({ endpoints, namespace })
      const { handle } = grantOf(yield* a.tryAcquire("a"))
      yield* ask(url, "kv/deleterange", { key: base64(`effect-lock/${namespace}/locks/k`) })
      assert.deepStrictEqual(yield* a.renew("a", handle), { _tag: "Lost", reason: "Gone" })
      const b = yield* backend({ endpoints, namespace })
      grantOf(yield* b.tryAcquire("b"))
      assert.deepStrictEqual(yield* a.renew("a", handle), { _tag: "Lost", reason: "Taken" })
    }))
})

describe.skipIf(!installed)("whoever waits for a lock in etcd", () => {
  const watching = (intercept: (watches: number) => Effect.Effect<unknown>) =>
    Effect.gen(function*() {
      const namespace = fresh()
      let watches = 0
      const a = yield* backend({ endpoints, namespace })
      const b = yield* backend({ endpoints, namespace }, (path, _body, send) =>
        path === "watch" ? Effect.andThen(Effect.suspend(() => intercept(++watches)), send) : send)
      const { handle } = grantOf(yield* a.tryAcquire("a"))
      yield* b.tryAcquire("b", { willWait: true })
      const turn = yield* Effect.forkChild(b.service.awaitTurn!({ key: "k", ownerId: "b" }), now)
      return {
        a,
        b,
        turn,
        handle,
        watches: Effect.sync(() =>
          watches
        )
      }
    })

  it.live("is woken though the revisions it watches from were compacted away", () =>
    Effect.gen(function*() {
      const compact = Effect.gen(function*() {
        for (let round = 0; round < 3; round++) yield* ask(url, "kv/put", { key: base64("noise"), value: "" })
        const { header } = yield* ask(url, "kv/range", { key: base64("noise") })
        yield* ask(url, "kv/compaction", { revision: header.revision, physical: true })
      })
      const { a, handle, turn, watches } = yield* watching((watch) => watch === 1 ? compact : Effect.void)
      yield* eventually("a second watch", watches, (count) => count === 2)
      yield* a.release("a", handle)
      yield* Fiber.join(turn)
    }))

  it.live("is woken by a release between its look and its watch", () =>
    Effect.gen(function*() {
      let release: Effect.Effect<unknown> = Effect.void
      const ready = Effect.suspend(() => release)
      const namespace = fresh()
      const a = yield* backend({ endpoints, namespace })
      const b = yield* backend({ endpoints, namespace }, (path, _body, send) =>
        path === "watch" ? Effect.andThen(ready, send) : send)
      const { handle } = grantOf(yield* a.tryAcquire("a"))
      release = Effect.orDie(a.release("a", handle))
      yield* b.service.awaitTurn!({ key: "k", ownerId: "b" })
    }))

  it.live("is told when its watch breaks, and leaves no connection when it is interrupted or woken", () =>
    Effect.gen(function*() {
      const proxy = yield* faultProxy(server!.port)
      const namespace = fresh()
      const a = yield* backend({ endpoints, namespace })
      const b = yield* backend({ endpoints: [`http://127.0.0.1:${proxy.port}`], namespace })
      const { handle } = grantOf(yield* a.tryAcquire("a"))
      const wait = b.service.awaitTurn!({ key: "k", ownerId: "b" })
      const open = Effect.sync(proxy.connections)

      const broken = yield* Effect.forkChild(Effect.flip(wait), now)
      // One connection is kept for requests, one carries the watch.
      yield* eventually("a watch", Effect.sync(() => b.paths.includes("watch")), (is) => is)
      yield* eventually("a connection", open, (count) => count >= 1)
      yield* proxy.reset
      assert.strictEqual(reasonOf(yield* Fiber.join(broken)), "Unreachable")

      const quitting = yield* Effect.forkChild(Effect.forEach([1, 2, 3, 4], () => wait, { concurrency: 4 }), now)
      yield* eventually("four watches", open, (count) => count >= 4)
      b.sent()
      yield* Fiber.interrupt(quitting)
      yield* eventually(
        "at most idle connections",
        Effect.orDie(Effect.andThen(b.inspect(), open)),
        (count) => count <= 4
      )
      const before = yield* open
      const turn = yield* Effect.forkChild(wait, now)
      yield* eventually("another watch", Effect.sync(() => b.paths.includes("watch")), (is) => is)
      yield* a.release("a", handle)
      yield* Fiber.join(turn)
      yield* eventually("no more connections than before", open, (count) => count <= before)
    }))
})

describe.skipIf(!installed)("callers of etcd that are interrupted", () => {
  it.live("anywhere in an acquisition leave no lock, and no lease but tombstones'", () =>
    Effect.gen(function*() {
      const namespace = fresh()
      const { service } = yield* backend({ endpoints, namespace })
      const before = new Set(yield* leases(url))
      const positions = Array.from({ length: 60 }, (_, index) => index)
      yield* Effect.forEach(positions, (position) =>
        Effect.gen(function*() {
          const caller = yield* Effect.forkChild(
            Effect.scoped(withLock(`k${position % 20}`, { ttl: "60 seconds" })).pipe(
              Effect.provideService(LockBackend, service)
            ),
            now
          )
          yield* Effect.sleep(position / 10)
          yield* Fiber.interrupt(caller)
        }), { concurrency: 6, discard: true })
      yield* eventually("no locks", keysUnder(url, `effect-lock/${namespace}/locks/`), (keys) => keys.length === 0)
      const tombstones = Effect.map(keysUnder(url, `effect-lock/${namespace}/dead/`), (keys) =>
        keys.map(({ lease }) => lease))
      yield* eventually(
        "no leases",
        Effect.gen(function*() {
          const dead = new Set(yield* tombstones)
          return (yield* leases(url)).filter((id) =>
            !before.has(id) && !dead.has(id)
          )
        }),
        (left) => left.length === 0
      )
    }))
})

describe("what is no etcd, or another one,", () => {
  it.live("is Misconfigured if it has no gateway, Unreachable if it is down, Protocol if it talks differently", () =>
    Effect.gen(function*() {
      const cases = [
        [404, "404 page not found", "Misconfigured"],
        [502, "<html>bad gateway</html>", "Unreachable"],
        [429, "slow down", "Throttled"],
        [403, "<html>forbidden</html>", "Unauthorized"],
        [200, "hello", "Protocol"],
        [200, "{}", "Protocol"],
        [
          500,
          "{\"error\":\"x\",\"message\":\"etcdserver: mvcc: database space exceeded\",\"code\":8}",
          "Misconfigured"
        ],
        [503, "{\"code\":14,\"message\":\"etcdserver: no leader\",\"details\":[]}", "Unreachable"],
        [429, "{\"code\":8,\"message\":\"etcdserver: too many requests\"}", "Throttled"],
        [500, "{\"code\":15,\"message\":\"etcdserver: corrupt cluster\"}", "Protocol"],
        [501, "{\"code\":12,\"message\":\"unknown service\"}", "Misconfigured"]
      ] as const
      for (const [status, text, reason] of cases) {
        const { url } = yield* stranger(status, text)
        const { tryAcquire } = yield* backend({ endpoints: [url] })
        const error = yield* Effect.flip(tryAcquire("a"))
        assert.strictEqual(reasonOf(error), reason, `${status} ${text}: ${error.message}`)
      }
      const { tryAcquire } = yield* backend({ endpoints: [`http://127.0.0.1:${yield* freePort}`] })
      assert.strictEqual(reasonOf(yield* Effect.flip(tryAcquire("a"))), "Unreachable")
    }))

  it.live.skipIf(!installed)(
    "is Misconfigured if it answers in the place of the cluster asked before",
    () =>
      Effect.gen(function*() {
        const other = yield* etcdServer()
        const proxy = yield* faultProxy(server!.port)
        const a = yield* backend({ endpoints: [`http://127.0.0.1:${proxy.port}`, other.url], namespace: fresh() })
        const { handle } = grantOf(yield* a.tryAcquire("a"))
        yield* proxy.refuse
        const error = yield* Effect.flip(a.renew("a", handle))
        assert.strictEqual(reasonOf(error), "Misconfigured")
        assert.match(error.message, /endpoints of one cluster/)
      })
  )
})

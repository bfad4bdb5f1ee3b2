import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Option, Stream } from "effect"
import { Lock, LockBackend, withLock } from "effect-lock"
import { HttpClient } from "effect/http"
import * as Gcs from "../../src/layers/Gcs.ts"
import { GcsServer } from "../servers/GcsServer.ts"
import { budget, grantOf, holderOf, open, pass, tokenOf, ttl, verbs } from "./internal/gcsLocks.ts"

const grace = 2000
const hour = 3_600_000

/** An expired lock of "a", seen by nobody yet. */
const expired = (options: Partial<Gcs.Options> = {}) =>
  Effect.gen(function*() {
    const server = new GcsServer()
    const a = yield* open(server, options)
    const first = grantOf(yield* a.tryAcquire("a"))
    yield* pass(ttl + grace + 1000)
    server.methods()
    return { server, a, first }
  })

describe("requests", () => {
  const acquisitions = (onRelease: "delete" | "keep") =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const a = yield* open(server, { onRelease })
      const b = yield* open(server, { onRelease })
      const count: Record<string, ReadonlyArray<string>> = {}
      const { handle } = grantOf(yield* a.tryAcquire("a"))
      count["free"] = server.methods()
      yield* b.tryAcquire("b")
      count["held"] = server.methods()
      yield* b.tryAcquire("b")
      count["polled"] = server.methods()
      const renewed = yield* a.renew("a", handle)
      assert(renewed._tag === "Renewed")
      count["renewed"] = server.methods()
      yield* a.release("a", renewed.handle)
      count["released"] = server.methods()
      yield* b.tryAcquire("b")
      count["polled and free"] = server.methods()
      yield* pass(ttl + grace + 1000)
      yield* a.tryAcquire("c")
      count["expired"] = server.methods()
      yield* pass(ttl + grace - 1000)
      assert.strictEqual(holderOf(yield* b.tryAcquire("d")), "c")
      server.methods()
      yield* pass(2000)
      yield* b.tryAcquire("d")
      count["polled and expired"] = server.methods()
      return count
    })

  it.effect("are few: one to take a free lock, one to poll, to renew, to give back", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* acquisitions("delete"), {
        free: ["insert"],
        held: ["insert", "get"],
        polled: ["get"],
        renewed: ["patch"],
        released: ["delete"],
        "polled and free": ["get", "insert"],
        expired: ["insert", "get", "insert"],
        "polled and expired": ["get", "insert"]
      })
    }))

  it.effect("are one more to take a lock whose object is kept, and one less to be refused", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* acquisitions("keep"), {
        free: ["get", "insert"],
        held: ["get"],
        polled: ["get"],
        renewed: ["patch"],
        released: ["patch"],
        "polled and free": ["get", "insert"],
        expired: ["get", "insert"],
        "polled and expired": ["get", "insert"]
      })
    }))

  it.effect("of a program that waits change nothing but the lock that it gets", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const holder = yield* open(server)
      const { service } = yield* open(server)
      const { handle } = grantOf(yield* holder.tryAcquire("holder", { ttl: hour }))
      const waiting = yield* withLock("k").pipe(
        Effect.scoped,
        Effect.provideService(LockBackend, service),
        Effect.forkChild({ startImmediately: true })
      )
      yield* pass("1 minute")
      const polls = server.methods()
      assert.deepStrictEqual(polls.slice(0, 3), ["insert", "insert", "get"])
      assert.isAbove(polls.length, 10)
      assert.isTrue(polls.slice(3).every((method) => method === "get"), polls.join())
      yield* holder.release("holder", handle)
      server.methods()
      yield* pass("10 seconds")
      yield* Fiber.join(waiting)
      assert.deepStrictEqual(server.methods(), ["get", "insert", "delete"])
    }))

  it.effect("carry what they must: conditions, the fields that are read, no access lists, the project that pays", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      server.settings.requesterPays = true
      const a = yield* open(server, { userProject: "payer", objectPrefix: "app/", namespace: "N s" })
      const { handle } = grantOf(yield* a.tryAcquire("a"))
      const renewed = yield* a.renew("a", handle)
      assert(renewed._tag === "Renewed")
      yield* a.inspect()
      yield* Stream.runCollect(a.service.list!(""))
      const { generation, name } = server.object
      assert.strictEqual(name, "app/n-%4E%20s/l-k")
      yield* a.release("a", renewed.handle)
      const asked = server.asked.map(({ method, request }) =>
        [method, new URL(request.path, "http://s").searchParams] as const
      )
      for (const [method, query] of asked) {
        assert.strictEqual(query.get("userProject"), "payer", method)
        if (method === "delete") continue
        assert.strictEqual(query.get("projection"), "noAcl", method)
        assert.include(query.get("fields"), "metageneration", method)
      }
      const conditions = asked.map(([method, query]) => [
        method,
        query.get("ifGenerationMatch")
      ])
      assert.deepStrictEqual(conditions, [
        ["insert", "0"],
        ["patch", generation],
        ["get", null],
        ["list", null],
        ["list", null],
        ["delete", generation]
      ])
      const tokens = server.asked.flatMap(({ request }) => request.headers["x-goog-gcs-idempotency-token"] ?? [])
      assert.strictEqual(new Set(tokens).size, 3, "a fresh idempotency token for each change")
    }))
})

describe("a lease ends by the server's clock", () => {
  for (const skew of [-hour, 0, hour]) {
    it.effect(`its ttl and two seconds after the last renewal, if that clock is ${skew / hour} hours off`, () =>
      Effect.gen(function*() {
        const server = new GcsServer({ skew: skew + 2 * hour })
        const a = yield* open(server)
        const b = yield* open(server)
        const { handle } = grantOf(yield* a.tryAcquire("a"))
        yield* pass(6000)
        assert.strictEqual((yield* a.renew("a", handle))._tag, "Renewed")
        yield* pass(ttl + grace - 1)
        const refusal = yield* b.tryAcquire("b")
        assert.strictEqual(holderOf(refusal), "a")
        assert(refusal._tag === "Held")
        // `Date` is behind by up to a second, never ahead.
        const left = Duration.toMillis(Option.getOrThrow(refusal.retryAfter))
        assert.isTrue(left > 0 && left <= 1000, `${left} ms`)
        yield* pass(1000)
        grantOf(yield* b.tryAcquire("b"))
        assert.deepStrictEqual(yield* a.renew("a", handle), { _tag: "Lost", reason: "Taken" })
      }))
  }

  it.effect("only as long as that clock tells: without a Date it is watched for its ttl", () =>
    Effect.gen(function*() {
      const { server } = yield* expired()
      const b = yield* open(server)
      server.settings.dates = false
      assert.strictEqual(holderOf(yield* b.tryAcquire("b")), "a")
      yield* pass(ttl + grace - 1)
      assert.strictEqual(holderOf(yield* b.tryAcquire("b")), "a")
      yield* pass(1)
      grantOf(yield* b.tryAcquire("b"))
    }))
})

describe("a lease ends by observation, on an endpoint that is not Google's,", () => {
  it.effect("when it was seen unchanged for its ttl and two seconds, whatever the server's clock says", () =>
    Effect.gen(function*() {
      const { server } = yield* expired({ expiry: undefined })
      const b = yield* open(server, { expiry: undefined })
      yield* pass(hour)
      assert.strictEqual(holderOf(yield* b.tryAcquire("b")), "a")
      yield* pass(ttl + grace - 1)
      const refusal = yield* b.tryAcquire("another")
      assert(refusal._tag === "Held")
      assert.deepStrictEqual(refusal.retryAfter, Option.some(Duration.millis(1)))
      // Who looks for the first time has to be patient too.
      const c = yield* open(server, { expiry: undefined })
      yield* pass(1)
      assert.strictEqual(holderOf(yield* c.tryAcquire("c")), "a")
      grantOf(yield* b.tryAcquire("b"))
    }))

  it.effect("and never while it is renewed", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const a = yield* open(server, { expiry: undefined })
      const b = yield* open(server, { expiry: undefined })
      let { handle } = grantOf(yield* a.tryAcquire("a"))
      for (let round = 0; round < 6; round++) {
        assert.strictEqual(holderOf(yield* b.tryAcquire("b")), "a")
        yield* pass(9000)
        const renewed = yield* a.renew("a", handle)
        assert(renewed._tag === "Renewed")
        handle = renewed.handle
      }
    }))
})

describe("two at once", () => {
  it.effect("take a stale lock at metageneration 1: the second does not remove what the first has made", () =>
    Effect.gen(function*() {
      const { server } = yield* expired()
      const b = yield* open(server)
      const c = yield* open(server)
      assert.strictEqual(server.object.metageneration, "1")
      // c sees the stale lock, and before its write arrives, b sees it and takes it: metageneration 1 again.
      let inserts = 0
      server.fault = ({ method, request }) =>
        method === "insert" && request.body.includes("\"owner\":\"c\"") && ++inserts === 2
          ? { _tag: "Meanwhile", effect: Effect.map(b.tryAcquire("b"), grantOf) }
          : undefined
      assert.strictEqual(holderOf(yield* c.tryAcquire("c")), "b")
      assert.strictEqual(inserts, 2)
      assert.strictEqual((yield* c.inspect())[0]?.ownerId, "b")
    }))

  it.effect("renew and take over: a renewal that arrives before the takeover wins", () =>
    Effect.gen(function*() {
      const { a, first, server } = yield* expired()
      const b = yield* open(server)
      let renewed = false
      let inserts = 0
      const renewal = Effect.map(a.renew("a", first.handle), ({ _tag }) => {
        renewed = _tag === "Renewed"
      })
      server.fault = ({ method }) =>
        method === "insert" && ++inserts === 2 ? { _tag: "Meanwhile", effect: renewal } : undefined
      assert.strictEqual(holderOf(yield* b.tryAcquire("b")), "a")
      assert.isTrue(renewed)
    }))

  it.effect("renew and take over: a renewal that arrives after it is lost, and does not touch the successor", () =>
    Effect.gen(function*() {
      const { a, first, server } = yield* expired()
      const b = yield* open(server)
      server.failNext("patch", { _tag: "Meanwhile", effect: Effect.map(b.tryAcquire("b"), grantOf) })
      assert.deepStrictEqual(yield* a.renew("a", first.handle), { _tag: "Lost", reason: "Taken" })
      assert.strictEqual(server.object.metageneration, "1")
    }))

  it.effect("look and delete: who saw a lease that was refreshed since does not delete it", () =>
    Effect.gen(function*() {
      const { a, first, server } = yield* expired()
      const b = yield* open(server)
      // Between b's look and its write the owner refreshes: only the metageneration shows it.
      let looks = 0
      const { generation } = server.object
      server.fault = ({ method }) =>
        method === "insert" && ++looks === 2
          ? { _tag: "Meanwhile", effect: a.renew("a", first.handle) }
          : undefined
      assert.strictEqual(holderOf(yield* b.tryAcquire("b")), "a")
      assert.strictEqual(server.object.generation, generation)
      assert.strictEqual(server.object.metageneration, "2")
    }))

  it.effect("give back and take over: a late release does not free the successor", () =>
    Effect.gen(function*() {
      const { a, first, server } = yield* expired()
      const b = yield* open(server)
      server.failNext("delete", { _tag: "Meanwhile", effect: Effect.map(b.tryAcquire("b"), grantOf) })
      assert.strictEqual(yield* a.release("a", first.handle), "NotHeld")
      assert.strictEqual((yield* b.inspect())[0]?.ownerId, "b")
    }))

  it.effect("create and give back: a lock that is free when it is looked at is created anew", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const a = yield* open(server)
      const b = yield* open(server)
      const { handle } = grantOf(yield* a.tryAcquire("a"))
      server.methods()
      server.failNext("get", { _tag: "Meanwhile", effect: a.release("a", handle) })
      grantOf(yield* b.tryAcquire("b"))
      assert.deepStrictEqual(server.methods(), ["insert", "get", "delete", "insert"])
    }))

  it.effect("give back and renew, of a kept object: a late renewal does not bring the lock back", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const a = yield* open(server, { onRelease: "keep" })
      const b = yield* open(server, { onRelease: "keep" })
      const { handle } = grantOf(yield* a.tryAcquire("a"))
      yield* a.release("a", handle)
      assert.deepStrictEqual(yield* a.renew("a", handle), { _tag: "Lost", reason: "Gone" })
      assert.deepStrictEqual(yield* b.inspect(), [])
      grantOf(yield* b.tryAcquire("b"))
    }))
})

describe("fencing tokens", () => {
  it.effect("of a kept object grow though generations go back", () =>
    Effect.gen(function*() {
      const server = new GcsServer({ skew: hour })
      const a = yield* open(server, { onRelease: "keep" })
      let last = 0n
      for (const generation of ["7000", "9", "8000", "1", "2"]) {
        const grant = grantOf(yield* a.tryAcquire(generation))
        // As if the service had chosen this one: it only promises that they differ.
        server.object.generation = generation
        const seen = Option.getOrThrow((yield* a.inspect())[0]!.fencingToken)
        assert.isTrue(seen > last, `${seen} after ${last}`)
        last = seen
        assert.strictEqual(yield* a.release(generation), "Released")
        assert.isDefined(grant.handle)
      }
    }))

  it.effect("grow over takeovers though generations go back", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const a = yield* open(server)
      grantOf(yield* a.tryAcquire("a"))
      server.object.generation = "999999999999999999"
      yield* pass(hour)
      const next = yield* a.tryAcquire("b")
      assert.strictEqual(tokenOf(next), 1_000_000_000_000_000_000n)
      assert.deepStrictEqual((yield* a.inspect())[0]?.fencingToken, Option.some(tokenOf(next)))
    }))

  it.effect("are said to be conditional, and strict where objects are kept", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      assert.strictEqual((yield* open(server)).service.capabilities.fencing.grade, "conditional")
      assert.strictEqual((yield* open(server, { onRelease: "keep" })).service.capabilities.fencing.grade, "strict")
    }))
})

describe("an operator", () => {
  it.effect("drains a lock: its end is the present one, also if its holder renews at the same moment", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const a = yield* open(server)
      const b = yield* open(server)
      const first = grantOf(yield* a.tryAcquire("a"))
      yield* pass(4000)
      server.failNext("insert", { _tag: "Meanwhile", effect: a.renew("a", first.handle) })
      assert.strictEqual(yield* b.breakLock("a", false), "Draining")
      assert.deepStrictEqual(server.methods().slice(1), ["get", "insert", "patch", "get", "insert"])
      assert.strictEqual(yield* b.breakLock("a", false), "Draining")
      const [holder] = yield* b.inspect()
      assert.deepStrictEqual(holder?.fencingToken, first.fencingToken)
      assert.deepStrictEqual(yield* a.renew("a", first.handle), { _tag: "Lost", reason: "Gone" })
      assert.strictEqual(holderOf(yield* a.tryAcquire("a")), "a")
      yield* pass(ttl + grace - 1)
      assert.strictEqual(holderOf(yield* b.tryAcquire("b")), "a")
      yield* pass(1001)
      assert.isTrue(tokenOf(yield* b.tryAcquire("b")) > tokenOf(first))
    }))

  it.effect("drains a lock: its end is the present one, though the object is written anew", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const a = yield* open(server)
      const b = yield* open(server)
      grantOf(yield* a.tryAcquire("a"))
      yield* pass(6000)
      assert.strictEqual(yield* b.breakLock("a", false), "Draining")
      yield* pass(ttl + grace - 6000 - 1)
      assert.strictEqual(holderOf(yield* b.tryAcquire("b")), "a")
      yield* pass(1001)
      grantOf(yield* b.tryAcquire("b"))
    }))

  it.effect("drains a lock whose end nobody can tell: it lasts for its ttl from then on", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const a = yield* open(server, { expiry: "observation" })
      const b = yield* open(server, { expiry: "observation" })
      grantOf(yield* a.tryAcquire("a"))
      yield* pass(6000)
      // Its clock may be anything.
      const { now } = server.settings
      server.settings.now = () => now() + hour
      assert.strictEqual(yield* b.breakLock("a", false), "Draining")
      assert.strictEqual(server.object.metadata["ttl"], String(ttl))
      assert.strictEqual(holderOf(yield* b.tryAcquire("b")), "a")
      yield* pass(ttl + grace)
      grantOf(yield* b.tryAcquire("b"))
    }))

  it.effect("finds what to break, and does not break what is held by another owner id by now", () =>
    Effect.gen(function*() {
      const { a, server } = yield* expired()
      assert.strictEqual(yield* a.breakLock("a", true), "NotHeld")
      grantOf(yield* a.tryAcquire("b"))
      assert.strictEqual(yield* a.breakLock("a", true), "NotHeld")
      server.failNext("delete", {
        _tag: "Meanwhile",
        effect: Effect.andThen(a.release("b"), Effect.map(a.tryAcquire("c"), grantOf))
      })
      assert.strictEqual(yield* a.breakLock("b", true), "NotHeld")
      assert.strictEqual((yield* a.inspect())[0]?.ownerId, "c")
    }))

  it.effect("lists locks over many pages", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const a = yield* open(server, { objectPrefix: "p/" })
      const keys = Array.from({ length: 450 }, (_, index) => `key-${String(index).padStart(3, "0")}`)
      keys.push("é".repeat(200))
      yield* Effect.forEach(keys, (key) => a.tryAcquire(key, { key }), { concurrency: 50 })
      const found = yield* Stream.runCollect(a.service.list!(""))
      assert.deepStrictEqual(found.map(({ key }) => key).sort(), keys.sort())
      const some = yield* Stream.runCollect(a.service.list!("key-44"))
      assert.lengthOf(some, 10)
      yield* pass(hour)
      assert.deepStrictEqual(yield* Stream.runCollect(a.service.list!("")), [])
    }))
})

describe("a program", () => {
  it.effect("uses locks of gs:// locations, keeps them for long, and leaves nothing", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const layer = Gcs.layer({ bucket: "gs://locks/app/", endpoint: "http://127.0.0.1:1" })
      const program = Effect.gen(function*() {
        const lease = yield* withLock("nightly")
        assert.strictEqual(server.object.name, "app/n-/l-nightly")
        yield* pass("10 minutes")
        yield* lease.check
        assert.lengthOf(yield* Lock.inspect("nightly"), 1)
        assert.isAbove(Number(server.object.metageneration), 20)
      })
      yield* program.pipe(
        Effect.scoped,
        Effect.provide(layer),
        Effect.provideService(HttpClient.HttpClient, server.client)
      )
      assert.strictEqual(server.data.objects.size, 0)
    }))

  it.effect("gets through the limit of one change per second and object, by waiting as it is told", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      server.settings.limited = true
      const first = yield* open(server)
      const second = yield* open(server)
      const served: Array<number> = []
      const workers = Array.from({ length: 6 }, (_, index) =>
        Effect.sync(() => served.push(index)).pipe(
          Lock.guard("k"),
          Effect.provideService(LockBackend, index % 2 === 0 ? first.service : second.service)
        ))
      const all = yield* Effect.forkChild(Effect.all(workers, { concurrency: "unbounded" }))
      for (let second = 0; second < 240 && all.pollUnsafe() === undefined; second++) yield* pass(1000)
      yield* Fiber.join(all)
      assert.deepStrictEqual(served.toSorted(), [0, 1, 2, 3, 4, 5])
      assert.strictEqual(server.data.objects.size, 0)
    }))
})

describe("an attempt that is out of the ordinary", () => {
  it.effect("with a longer ttl lengthens the lease under the version that it saw", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const a = yield* open(server)
      const b = yield* open(server)
      const first = grantOf(yield* a.tryAcquire("a"))
      server.methods()
      server.failNext("patch", { _tag: "Meanwhile", effect: a.renew("a", first.handle) })
      const longer = yield* a.renew("a", first.handle, 20_000)
      assert(longer._tag === "Renewed")
      assert.deepStrictEqual(longer.grantedTtl, Duration.seconds(20))
      assert.deepStrictEqual(server.methods(), ["get", "patch", "patch", "get", "patch"])
      yield* pass(20_000)
      assert.strictEqual(holderOf(yield* b.tryAcquire("b")), "a")
    }))

  it.effect("with a handle that is none of ours gets nothing, and asks nobody", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const a = yield* open(server)
      const { handle } = grantOf(yield* a.tryAcquire("a"))
      server.methods()
      for (const foreign of ["", "x", "1.2.3", handle.replace(/a$/, "b")]) {
        assert.deepStrictEqual(yield* a.renew("a", foreign), { _tag: "Lost", reason: "Taken" })
        assert.strictEqual(yield* a.release("a", foreign), "NotHeld")
      }
      assert.strictEqual(yield* a.release("b", handle), "NotHeld")
      assert.deepStrictEqual(server.methods(), [])
    }))

  it.effect("after its owner id was released is refused in this process", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const { release, tryAcquire } = verbs((yield* open(server)).service)
      yield* release("a")
      server.methods()
      assert.deepStrictEqual(yield* tryAcquire("a"), { _tag: "Held", holders: [], retryAfter: Option.none() })
      assert.deepStrictEqual(server.methods(), [])
      assert.isAbove(Duration.toMillis(budget), 0)
    }))
})

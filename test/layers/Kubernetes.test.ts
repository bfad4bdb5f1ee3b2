import { assert, describe, it } from "@effect/vitest"
import { Clock, Config, ConfigProvider, Duration, Effect, Fiber, Layer, Option, Redacted, Stream } from "effect"
import { LockBackend, type LockBackendError } from "effect-lock"
import { FetchHttpClient } from "effect/http"
import { TestClock } from "effect/testing"
import * as Kubernetes from "../../src/layers/Kubernetes.ts"
import {
  breakLock,
  budget,
  edit,
  endpoint,
  fakeApi,
  grant,
  granted,
  inspect,
  only,
  processOn,
  refused,
  release,
  remove,
  renew,
  tokenOf,
  tryAcquire,
  ttl,
  twoProcesses
} from "./internal/kubernetesLocks.ts"

const now = { startImmediately: true } as const

const failure = <A>(self: Effect.Effect<A, LockBackendError>) => Effect.map(Effect.flip(self), ({ reason }) => reason)

/** What waits for the test's clock: it goes on until that ends. */
const driven = <A, E>(self: Effect.Effect<A, E> | Fiber.Fiber<A, E>) =>
  Effect.gen(function*() {
    const fiber = Effect.isEffect(self) ? yield* Effect.forkChild(self, now) : self
    const deadline = performance.now() + 20_000
    while (fiber.pollUnsafe() === undefined) {
      if (performance.now() > deadline) assert.fail("it never ends")
      yield* TestClock.adjust("100 millis")
    }
    return yield* Fiber.join(fiber)
  })

const sixDigits = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/

describe("a lease object", () => {
  it.effect("shows a holder as client-go's leader election does, and stays when it is released", () =>
    Effect.gen(function*() {
      const { api, one } = yield* twoProcesses
      yield* TestClock.setTime(1_800_000_000_123)
      const { handle } = yield* grant(one, "owner-1", { ttl: Duration.millis(10_001), metadata: { job: "invoices" } })
      const held = only(api)
      assert.match(held.metadata.name, /^k-[0-9a-f]{20}$/)
      const { acquireTime, holderIdentity, leaseDurationSeconds, leaseTransitions, renewTime } = held.spec
      assert.deepStrictEqual({ holderIdentity, leaseDurationSeconds, leaseTransitions }, {
        holderIdentity: "owner-1",
        leaseDurationSeconds: 11,
        leaseTransitions: 1
      })
      assert.match(acquireTime, sixDigits)
      assert.strictEqual(renewTime, "2027-01-15T08:00:00.123000Z")
      assert.strictEqual(held.metadata.labels["app.kubernetes.io/managed-by"], "effect-lock")
      assert.strictEqual(held.metadata.annotations["effect-lock/key"], "k")
      assert.strictEqual(held.metadata.annotations["effect-lock/metadata"], "{\"job\":\"invoices\"}")

      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* renew(one, "owner-1", handle), "Renewed")
      assert.strictEqual(only(api).spec.acquireTime, acquireTime)
      assert.strictEqual(only(api).spec.renewTime, "2027-01-15T08:00:02.123000Z")

      assert.strictEqual(yield* release(one, "owner-1", handle), "Released")
      const free = only(api)
      assert.strictEqual(free.metadata.uid, held.metadata.uid)
      assert.notProperty(free.spec, "holderIdentity")
      assert.strictEqual(free.spec.leaseDurationSeconds, 1)
      assert.strictEqual(free.spec.leaseTransitions, 1)
      assert.sameMembers(Object.keys(free.metadata.annotations), ["effect-lock/key", "effect-lock/namespace"])

      yield* grant(one, "owner-2")
      assert.strictEqual(only(api).spec.leaseTransitions, 2)
    }))

  it.effect("keeps what others put on it", () =>
    Effect.gen(function*() {
      const { api, one } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner")
      edit(api, (lease) => {
        lease.metadata.labels["team"] = "billing"
        lease.metadata.annotations["example.com/note"] = "kept"
        lease.spec["strategy"] = "OldestEmulationVersion"
      })
      assert.strictEqual(yield* renew(one, "owner", handle), "Renewed")
      yield* release(one, "owner", handle)
      yield* grant(one, "next")
      assert.strictEqual(only(api).metadata.labels["team"], "billing")
      assert.strictEqual(only(api).metadata.annotations["example.com/note"], "kept")
      assert.strictEqual(only(api).spec["strategy"], "OldestEmulationVersion")
    }))

  it.effect("has a name that Kubernetes accepts and that two keys never share", () =>
    Effect.gen(function*() {
      const { api, one } = yield* twoProcesses
      const keys = [
        "a-b",
        "a_b",
        "A-b",
        "a b",
        "a/b",
        "a.b",
        "ÄÖ",
        "日本",
        "-",
        "",
        "x".repeat(511) + "1",
        "x".repeat(511) + "2"
      ]
        .filter((key) => key !== "")
      for (const key of keys) yield* grant(one, `owner of ${key}`, { key })
      const names = api.leases.map((lease) => lease.metadata.name)
      assert.strictEqual(new Set(names).size, keys.length)
      for (const name of names) assert.match(name, /^[a-z0-9][a-z0-9-]{0,61}[a-z0-9]$/)
      assert.strictEqual(names.filter((name) => name.startsWith("a-b-")).length, 6)
    }))

  it.effect("of another key is never taken, whatever state it is in", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner")
      yield* release(one, "owner", handle)
      edit(api, (lease) => {
        lease.metadata.annotations["effect-lock/key"] = "another"
      })
      const before = only(api).metadata.resourceVersion
      for (
        const verb of [tryAcquire(two, "taker"), release(two, "taker"), breakLock(two, "owner", true), inspect(two)]
      ) {
        const reason = yield* failure<unknown>(verb)
        assert.strictEqual(reason._tag, "Protocol")
        assert.match(reason.detail, /"another"/)
      }
      assert.strictEqual(only(api).metadata.resourceVersion, before)
    }))
})

describe("requests", () => {
  it.effect("are few", () =>
    Effect.gen(function*() {
      const { one, two } = yield* twoProcesses
      let { handle } = yield* grant(one, "owner")
      assert.deepStrictEqual(one.methods(), ["GET", "POST"], "the first acquisition of a key")
      yield* renew(one, "owner", handle)
      assert.deepStrictEqual(one.methods(), ["PUT"], "a renewal")
      yield* refused(two, "other")
      assert.deepStrictEqual(two.methods(), ["GET"], "a refusal")
      yield* inspect(two)
      assert.deepStrictEqual(two.methods(), ["GET"], "inspect")
      yield* renew(two, "owner", handle)
      assert.deepStrictEqual(two.methods(), ["GET", "PUT"], "a renewal by another instance")
      yield* renew(one, "owner", handle)
      assert.deepStrictEqual(one.methods(), ["PUT", "GET", "PUT"], "a renewal after somebody else wrote")
      yield* release(one, "owner", handle)
      assert.deepStrictEqual(one.methods(), ["PUT"], "a release")
      handle = (yield* grant(one, "next")).handle
      assert.deepStrictEqual(one.methods(), ["GET", "PUT"], "an acquisition")
      yield* breakLock(two, "next", false)
      assert.deepStrictEqual(two.methods(), ["GET", "PUT"], "a break")
    }))

  it.effect("replace only what was read: each names uid and resourceVersion, and none deletes", () =>
    Effect.gen(function*() {
      const { one, two } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner")
      yield* renew(one, "owner", handle)
      yield* grant(one, "owner")
      yield* breakLock(two, "owner", false)
      yield* release(two, "other", undefined, true)
      yield* release(one, "owner", undefined, true)
      const sent = [...one.sent, ...two.sent].filter(({ method }) => method !== "GET")
      assert.sameMembers([...new Set(sent.map(({ method }) => method))], ["POST", "PUT"])
      for (const { body, method } of sent) {
        const { metadata } = JSON.parse(body)
        if (method === "PUT") assert.containsAllKeys(metadata, ["uid", "resourceVersion"])
        assert.notProperty(metadata, "managedFields")
      }
    }))
})

describe("a grant", () => {
  it.effect("is lost when its object is deleted; a renewal does not make it again", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner")
      remove(api)
      assert.strictEqual(yield* renew(one, "owner", handle), "Lost Gone")
      assert.lengthOf(api.leases, 0)
      const next = yield* grant(two, "next")
      assert.strictEqual(yield* renew(one, "owner", handle), "Lost Taken")
      assert.strictEqual(yield* release(one, "owner", handle), "NotHeld")
      assert.strictEqual(yield* renew(two, "next", next.handle), "Renewed")
    }))

  it.effect("of a deleted object is not that of the one made anew, though the owner id is the same", () =>
    Effect.gen(function*() {
      const { api, one } = yield* twoProcesses
      const old = yield* grant(one, "owner")
      remove(api)
      const anew = yield* grant(one, "owner")
      assert.isTrue(tokenOf(anew) > tokenOf(old))
      assert.strictEqual(yield* renew(one, "owner", old.handle), "Lost Gone")
      assert.strictEqual(yield* release(one, "owner", old.handle), "NotHeld")
      assert.strictEqual(yield* renew(one, "owner", anew.handle), "Renewed")
    }))

  it.effect("is never renewed for a shorter time than it was granted for", () =>
    Effect.gen(function*() {
      const { api, one } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner", { ttl: Duration.minutes(1) })
      const reply = yield* one.backend.renew({ key: "k", ownerId: "owner", ttl, handle, budget })
      assert(reply._tag === "Renewed")
      // What is asked for is what is trusted, although it lives longer.
      assert.deepStrictEqual(reply.grantedTtl, ttl)
      assert.deepStrictEqual((yield* grant(one, "owner")).grantedTtl, ttl)
      assert.strictEqual(only(api).spec.leaseDurationSeconds, 60)
    }))

  it.effect("keeps its fencing token over renewals, replays and the edits of others", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      const first = yield* grant(one, "owner")
      const shown = Effect.map(inspect(two), ([holder]) => Option.getOrThrow(holder!.fencingToken))
      assert.strictEqual(yield* shown, tokenOf(first))
      yield* release(two, "somebody", undefined, true)
      assert.strictEqual(yield* shown, tokenOf(first))
      yield* renew(one, "owner", first.handle)
      assert.strictEqual(yield* shown, tokenOf(first))
      assert.strictEqual(tokenOf(yield* grant(two, "owner")), tokenOf(first))
      assert.isTrue(BigInt(only(api).metadata.resourceVersion) > tokenOf(first))
    }))

  it.effect("of somebody else who was first to make the object is respected", () =>
    Effect.gen(function*() {
      const { one, two } = yield* twoProcesses
      let between = true
      one.fault = ({ method }) => {
        if (method !== "POST" || !between) return undefined
        between = false
        return { when: "before", delay: "1 second" }
      }
      const late = yield* Effect.forkChild(tryAcquire(one, "late"), now)
      yield* Effect.yieldNow
      while (between) yield* TestClock.adjust(0)
      yield* grant(two, "first")
      const reply = yield* driven(late)
      assert(reply._tag === "Held")
      assert.strictEqual(reply.holders[0]?.ownerId, "first")
    }))
})

describe("a late write", () => {
  for (const exists of [false, true]) {
    it.effect(`of an attempt that was given up is refused, ${exists ? "on a free object" : "where there was none"}`, () =>
      Effect.gen(function*() {
        const { api, one, two } = yield* twoProcesses
        if (exists) yield* release(one, "before", (yield* grant(one, "before")).handle)
        one.fault = ({ method }) => method === "GET" ? undefined : { when: "before", delay: "20 seconds" }
        const attempt = yield* Effect.forkChild(tryAcquire(one, "owner"), now)
        while (!one.sent.some(({ body }) => body.includes("\"owner\""))) yield* TestClock.adjust(0)
        yield* Fiber.interrupt(attempt)
        one.fault = () => undefined
        assert.strictEqual(yield* release(one, "owner"), "NotHeld")
        const version = only(api).metadata.resourceVersion
        yield* TestClock.adjust("20 seconds")
        assert.match(api.log.at(-1) ?? "", /^(create|update)/, "the late write came")
        assert.strictEqual(only(api).metadata.resourceVersion, version, "the late write was taken")
        yield* grant(two, "next")
      }))
  }

  it.effect("of an attempt to take over a dead holder's lock is refused, and the dead holder lives no longer by that", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      yield* grant(two, "dead")
      yield* refused(one, "owner")
      yield* TestClock.adjust(ttl)
      one.fault = ({ method }) => method === "GET" ? undefined : { when: "before", delay: "5 seconds" }
      const attempt = yield* Effect.forkChild(tryAcquire(one, "owner"), now)
      while (!one.sent.some(({ body }) => body.includes("\"owner\""))) yield* TestClock.adjust(0)
      yield* Fiber.interrupt(attempt)
      one.fault = () => undefined
      assert.strictEqual(yield* release(one, "owner"), "NotHeld")
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(only(api).spec.holderIdentity, "dead")
      yield* grant(one, "next")
    }))

  it.effect("of a renewal after its release is refused", () =>
    Effect.gen(function*() {
      const { api, one } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner")
      one.fault = () => ({ when: "before", delay: "2 seconds" })
      const renewal = yield* Effect.forkChild(renew(one, "owner", handle), now)
      while (one.sent.length < 3) yield* TestClock.adjust(0)
      yield* Fiber.interrupt(renewal)
      one.fault = () => undefined
      assert.strictEqual(yield* release(one, "owner", handle), "Released")
      yield* TestClock.adjust("2 seconds")
      assert.notProperty(only(api).spec, "holderIdentity")
    }))

  for (const exists of [false, true]) {
    it.effect(`is not sent any more by an attempt that was released meanwhile, ${exists ? "on a free object" : "where there was none"}`, () =>
      Effect.gen(function*() {
        const { api, one } = yield* twoProcesses
        if (exists) yield* release(one, "before", (yield* grant(one, "before")).handle)
        one.fault = () => ({ when: "after", delay: "1 second" })
        const attempt = yield* Effect.forkChild(tryAcquire(one, "owner"), now)
        while (api.log.at(-1)?.startsWith("get") !== true) yield* TestClock.adjust(0)
        one.fault = () => undefined
        assert.strictEqual(yield* release(one, "owner", undefined, false), "NotHeld")
        const writes = api.log.filter((line) => !line.startsWith("get")).length
        assert.strictEqual((yield* driven(attempt))._tag, "Held")
        assert.strictEqual(api.log.filter((line) => !line.startsWith("get")).length, writes)
      }))
  }

  it.effect("leaves a note that others read, that ends, and of which there are few", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      const notes = () => Object.keys(JSON.parse(only(api).metadata.annotations["effect-lock/dead"]))
      for (let index = 0; index < 100; index++) yield* release(one, `owner-${index}`)
      assert.lengthOf(notes(), 64)
      yield* refused(two, "owner-99")
      yield* TestClock.adjust("3 minutes")
      yield* release(one, "last")
      assert.deepStrictEqual(notes(), ["last"])
    }))
})

describe("expiry", () => {
  it.effect("is counted from the first look at the last renewal, on the own clock", () =>
    Effect.gen(function*() {
      const { one, two } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner")
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual((yield* refused(two, "other")).retryAfter, Option.some(ttl))
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual((yield* refused(two, "other")).retryAfter, Option.some(Duration.seconds(6)))
      yield* renew(one, "owner", handle)
      yield* TestClock.adjust("8 seconds")
      assert.deepStrictEqual((yield* refused(two, "other")).retryAfter, Option.some(ttl))
      yield* TestClock.adjust("9999 millis")
      yield* refused(two, "other")
      yield* TestClock.adjust("1 millis")
      yield* grant(two, "other")
    }))

  it.effect("is not hastened by a wall clock that is set forward, nor by a monotonic clock that runs on alone", () =>
    Effect.gen(function*() {
      const { one, two } = yield* twoProcesses
      yield* grant(one, "owner")
      const real = yield* Clock.Clock
      const skewed = (wall: number, monotonic: number): Clock.Clock => ({
        currentTimeMillisUnsafe: () => real.currentTimeMillisUnsafe() + wall,
        currentTimeMillis: Effect.sync(() => real.currentTimeMillisUnsafe() + wall),
        currentTimeNanosUnsafe: () => real.currentTimeNanosUnsafe() + BigInt(wall) * 1_000_000n,
        currentTimeNanos: Effect.sync(() => real.currentTimeNanosUnsafe() + BigInt(wall) * 1_000_000n),
        monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe() + BigInt(monotonic) * 1_000_000n,
        monotonicTimeNanos: Effect.sync(() => real.monotonicTimeNanosUnsafe() + BigInt(monotonic) * 1_000_000n),
        sleep: (duration) => real.sleep(duration)
      })
      const by = (clock: Clock.Clock) => Effect.provideService(Clock.Clock, clock)
      yield* by(skewed(0, 0))(refused(two, "other"))
      yield* by(skewed(3_600_000, 0))(refused(two, "other"))
      yield* by(skewed(0, 3_600_000))(refused(two, "other"))
      yield* by(skewed(10_000, 10_000))(grant(two, "other"))
    }))

  it.effect("does not depend on the holder's times: a clock that is a year off neither pins nor frees a lock", () =>
    Effect.gen(function*() {
      for (const renewTime of ["2099-01-01T00:00:00.000000Z", "2001-01-01T00:00:00.000000Z"]) {
        const { api, one, two } = yield* twoProcesses
        yield* grant(one, "owner")
        edit(api, (lease) => {
          lease.spec.renewTime = renewTime
        })
        yield* refused(two, "other")
        yield* TestClock.adjust("9 seconds")
        yield* refused(two, "other")
        yield* TestClock.adjust("1 second")
        yield* grant(two, "other")
      }
    }))

  it.effect("by the server's date needs one look, and never comes early", () =>
    Effect.gen(function*() {
      const api = yield* fakeApi()
      const one = yield* processOn(api, { expiry: "serverDate" })
      yield* TestClock.setTime(1_800_000_000_999)
      const { handle } = yield* grant(one, "owner")
      yield* TestClock.adjust("5 seconds")
      yield* renew(one, "owner", handle)
      yield* TestClock.adjust("9999 millis")
      yield* refused(yield* processOn(api, { expiry: "serverDate" }), "other")
      yield* TestClock.adjust("3 seconds")
      yield* refused(yield* processOn(api), "another")
      yield* grant(yield* processOn(api, { expiry: "serverDate" }), "other")
    }))

  it.effect("is not put off by a draining mark or a note of others", () =>
    Effect.gen(function*() {
      const { one, two } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner")
      yield* refused(two, "other")
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* breakLock(two, "owner", false), "Draining")
      yield* release(two, "somebody", undefined, true)
      assert.strictEqual(yield* renew(one, "owner", handle), "Lost Gone")
      yield* refused(one, "owner")
      yield* TestClock.adjust("5 seconds")
      yield* grant(two, "other")
    }))
})

describe("leases of other software", () => {
  // As client-go's LeaseLock does: the spec is replaced, the rest is kept.
  const clientGo = (identity: string, seconds = 15) => (lease: { spec: Record<string, unknown> }) => {
    const time = "2026-11-02T03:04:05.678901Z"
    const leaseTransitions = Number(lease.spec["leaseTransitions"] ?? 0) + 1
    lease.spec = {
      holderIdentity: identity,
      leaseDurationSeconds: seconds,
      acquireTime: time,
      renewTime: time,
      leaseTransitions
    }
  }

  it.effect("are held until they were seen unchanged for their duration", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      const ours = yield* grant(one, "owner")
      edit(api, clientGo("pod-7"))
      const { holders } = yield* refused(two, "other")
      assert.strictEqual(holders[0]?.ownerId, "pod-7")
      assert.deepStrictEqual(holders[0]?.fencingToken, Option.none())
      assert.deepStrictEqual(holders[0]?.metadata, { leaseTransitions: "2" })
      assert.strictEqual(yield* renew(one, "owner", ours.handle), "Lost Taken")
      yield* TestClock.adjust("14 seconds")
      edit(api, (lease) => {
        lease.spec.renewTime = "2026-11-02T03:04:19.678901Z"
      })
      yield* TestClock.adjust("10 seconds")
      yield* refused(two, "other")
      yield* TestClock.adjust("14 seconds")
      yield* refused(two, "other")
      yield* TestClock.adjust("1 second")
      const taken = yield* grant(two, "other")
      assert.isTrue(tokenOf(taken) > tokenOf(ours))
      assert.strictEqual(only(api).spec.leaseTransitions, 3)
    }))

  it.effect("are never judged by the server's date", () =>
    Effect.gen(function*() {
      const { api, one } = yield* twoProcesses
      yield* grant(one, "owner")
      edit(api, clientGo("pod-7"))
      yield* TestClock.adjust("1 hour")
      yield* refused(yield* processOn(api, { expiry: "serverDate" }), "other")
      assert.strictEqual((yield* inspect(one))[0]?.ownerId, "pod-7")
    }))

  it.effect("are free when they were given back with an empty holder, and held for ever without a duration", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      yield* release(one, "owner", (yield* grant(one, "owner")).handle)
      edit(api, (lease) => {
        clientGo("pod-7")(lease)
        delete lease.spec.leaseDurationSeconds
      })
      assert.deepStrictEqual((yield* refused(two, "other")).retryAfter, Option.none())
      yield* TestClock.adjust("10 hours")
      yield* refused(two, "other")
      edit(api, clientGo("", 1))
      yield* grant(two, "other")
    }))

  it.effect("can be broken at once, but not drained", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      yield* release(one, "owner", (yield* grant(one, "owner")).handle)
      edit(api, clientGo("pod-7"))
      assert.strictEqual((yield* failure(breakLock(two, "pod-7", false)))._tag, "Misconfigured")
      assert.strictEqual(yield* breakLock(two, "pod-8", true), "NotHeld")
      assert.strictEqual(yield* breakLock(two, "pod-7", true), "Broken")
      yield* grant(two, "other")
    }))

  it.effect("that client-go took from us are not ours, though our notes are still on them", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner")
      yield* breakLock(two, "owner", false)
      edit(api, clientGo("pod-7"))
      assert.strictEqual(yield* release(one, "owner", handle), "NotHeld")
      assert.strictEqual(only(api).spec.holderIdentity, "pod-7")
      assert.deepStrictEqual((yield* refused(two, "other")).holders[0]?.metadata, { leaseTransitions: "2" })
    }))
})

describe("refusals of the API server", () => {
  const after = (status: number, retryAfter?: number) =>
    Effect.gen(function*() {
      const { one } = yield* twoProcesses
      one.fault = () => ({ when: "before", status, ...(retryAfter === undefined ? {} : { retryAfter }) })
      return yield* failure(tryAcquire(one, "owner"))
    })

  it.effect("are told by their kind", () =>
    Effect.gen(function*() {
      const throttled = yield* after(429, 7)
      assert(throttled._tag === "Throttled")
      assert.deepStrictEqual(throttled.retryAfter, Option.some(Duration.seconds(7)))
      assert.strictEqual((yield* after(503, 1))._tag, "Throttled")
      for (const status of [500, 502, 503, 504, 408, 409, 410]) {
        const reason = yield* after(status)
        assert.strictEqual(reason._tag, "Unreachable", String(status))
        assert.isTrue(reason.isRetryable)
      }
      assert.strictEqual((yield* after(301))._tag, "Misconfigured")
      for (const status of [400, 405, 413, 422]) assert.strictEqual((yield* after(status))._tag, "Protocol")
    }))

  it.effect("403 names the verb, the resource and the namespace", () =>
    Effect.gen(function*() {
      const verbs = ["get", "create", "update", "watch", "list"]
      for (const missing of verbs) {
        const api = yield* fakeApi({ tokens: new Map([["t", verbs.filter((verb) => verb !== missing)]]) })
        const one = yield* processOn(api, { token: Redacted.make("t") })
        const everything = Effect.gen(function*() {
          const { handle } = yield* grant(one, "owner")
          yield* renew(one, "owner", handle)
          yield* refused(one, "other", { willWait: true })
          yield* Effect.timeoutOption(one.backend.awaitTurn!({ key: "k", ownerId: "other" }), "1 second")
        })
        const listing = Stream.runDrain(one.backend.list!(""))
        const reason = yield* driven(failure(Effect.andThen(everything, listing)))
        assert.strictEqual(reason._tag, "Unauthorized")
        assert.match(
          reason.detail,
          new RegExp(`forbids to ${missing} leases.coordination.k8s.io in namespace "default"`)
        )
      }
    }))

  it.effect("a namespace that does not exist is Misconfigured", () =>
    Effect.gen(function*() {
      const api = yield* fakeApi()
      const one = yield* processOn(api, { kubernetesNamespace: "typo" })
      const reason = yield* failure(tryAcquire(one, "owner"))
      assert.strictEqual(reason._tag, "Misconfigured")
      assert.match(reason.detail, /namespaces "typo" not found/)
    }))

  it.effect("another kind of server is told from an API server", () =>
    Effect.gen(function*() {
      const api = yield* fakeApi()
      const one = yield* processOn(api, { endpoint: `${endpoint}/elsewhere` })
      assert.strictEqual((yield* failure(tryAcquire(one, "owner")))._tag, "Misconfigured")
    }))
})

describe("the token", () => {
  it.effect("is read again each minute, and at once when it is refused", () =>
    Effect.gen(function*() {
      const api = yield* fakeApi()
      let token = "first"
      let reads = 0
      const all = ["get", "create", "update"]
      api.tokens = new Map([["first", all]])
      const read = Effect.sync(() => {
        reads++
        return Redacted.make(`${token}\n`)
      })
      const one = yield* processOn(api, { token: read })
      assert.strictEqual(reads, 0)
      const { handle } = yield* grant(one, "owner")
      yield* TestClock.adjust("59 seconds")
      yield* renew(one, "owner", handle)
      assert.strictEqual(reads, 1)
      yield* TestClock.adjust("1 second")
      yield* renew(one, "owner", handle)
      assert.strictEqual(reads, 2)
      token = "second"
      api.tokens = new Map([["second", all]])
      assert.strictEqual(yield* renew(one, "owner", handle), "Renewed")
      assert.strictEqual(reads, 3)
      api.tokens = new Map()
      assert.strictEqual((yield* failure(renew(one, "owner", handle)))._tag, "Unauthorized")
    }))

  it.effect("that can't be read anew stays in use; one that never could be is Unauthorized", () =>
    Effect.gen(function*() {
      const api = yield* fakeApi({ tokens: new Map([["t", ["get", "create", "update"]]]) })
      let works = true
      const read = Effect.suspend(() => works ? Effect.succeed(Redacted.make("t")) : Effect.fail("no file"))
      const one = yield* processOn(api, { token: read })
      const { handle } = yield* grant(one, "owner")
      works = false
      yield* TestClock.adjust("61 seconds")
      assert.strictEqual(yield* renew(one, "owner", handle), "Renewed")
      assert.strictEqual((yield* failure(tryAcquire(yield* processOn(api, { token: read }), "x")))._tag, "Unauthorized")
    }))

  it.effect("that is fixed and refused is Unauthorized after one request", () =>
    Effect.gen(function*() {
      const api = yield* fakeApi({ tokens: new Map() })
      const one = yield* processOn(api, { token: Redacted.make("wrong") })
      assert.strictEqual((yield* failure(tryAcquire(one, "owner")))._tag, "Unauthorized")
      assert.deepStrictEqual(one.methods(), ["GET"])
    }))

  it.effect("that no header can carry is Misconfigured, and not shown", () =>
    Effect.gen(function*() {
      const one = yield* processOn(yield* fakeApi(), { token: Redacted.make("two\nlines") })
      const reason = yield* failure(tryAcquire(one, "owner"))
      assert.strictEqual(reason._tag, "Misconfigured")
      assert.notInclude(JSON.stringify(reason), "lines")
      assert.lengthOf(one.sent, 0)
    }))
})

describe("options", () => {
  const made = (options: Partial<Record<keyof Kubernetes.Options, unknown>>) =>
    Effect.flatMap(fakeApi(), (api) => processOn(api, options as Partial<Kubernetes.Options>))

  it.effect("that are wrong are Misconfigured when the layer is built", () =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<readonly [Parameters<typeof made>[0], RegExp]> = [
        [{ endpoint: "10.0.0.1:6443" }, /endpoint/],
        [{ endpoint: "ftp://10.0.0.1" }, /endpoint/],
        [{ endpoint: "https://user:secret@10.0.0.1" }, /endpoint/],
        [{ endpoint: "https://10.0.0.1?x=1" }, /endpoint/],
        [{ endpoint: undefined }, /endpoint/],
        [{ endpoint: "http://10.0.0.1", token: Redacted.make("t") }, /https/],
        [{ kubernetesNamespace: "" }, /kubernetesNamespace/],
        [{ kubernetesNamespace: "../x" }, /kubernetesNamespace/],
        [{ kubernetesNamespace: "Default" }, /kubernetesNamespace/],
        [{ namespace: "x\u0000" }, /namespace/],
        [{ expiry: "never" }, /expiry/],
        [{ defaults: { operationTimeout: "1 hour" } }, /operationTimeout/]
      ]
      for (const [options, complaint] of wrong) {
        const error = yield* Effect.flip(made(options))
        assert.strictEqual(error.reason._tag, "Misconfigured")
        assert.match(error.reason.detail, complaint)
        assert.notInclude(error.message, "secret")
      }
      yield* made({ endpoint: "http://10.0.0.1" })
      yield* made({ endpoint: "https://10.0.0.1/k8s/clusters/c-1/", token: Redacted.make("t") })
    }))

  it.effect("come from configuration too", () =>
    Effect.gen(function*() {
      const layer = Kubernetes.layerConfig({
        endpoint: Config.String("ENDPOINT"),
        kubernetesNamespace: Config.String("NAMESPACE"),
        token: Config.Redacted("TOKEN"),
        defaults: { ttl: Config.Duration("TTL") }
      }).pipe(Layer.provide(FetchHttpClient.layer))
      const settings = { ENDPOINT: "https://10.0.0.1", NAMESPACE: "prod", TOKEN: "t", TTL: "60 seconds" }
      const { defaults, name } = yield* LockBackend.pipe(
        Effect.provide(layer),
        Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown(settings))
      )
      assert.strictEqual(name, "kubernetes")
      assert.deepStrictEqual(defaults?.ttl, Duration.seconds(60))
      assert.isDefined(defaults?.schedule)
    }))
})

describe("inspect", () => {
  it.effect("shows who holds it, and nobody once the server's own time says that the lease is over", () =>
    Effect.gen(function*() {
      const { one, two } = yield* twoProcesses
      yield* TestClock.setTime(1_800_000_000_000)
      granted(yield* tryAcquire(one, "owner", { metadata: { job: "x" } }))
      const [holder] = yield* inspect(two)
      assert.strictEqual(holder?.ownerId, "owner")
      assert.deepStrictEqual(holder?.metadata, { job: "x" })
      assert.strictEqual(Option.getOrThrow(holder!.since).epochMilliseconds, 1_800_000_000_000)
      yield* TestClock.adjust(Duration.sum(ttl, Duration.seconds(2)))
      assert.lengthOf(yield* inspect(two), 0)
    }))
})

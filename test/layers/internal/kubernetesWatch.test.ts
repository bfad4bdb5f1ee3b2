import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Redacted } from "effect"
import { TestClock } from "effect/testing"
import type { FakeApi } from "../../servers/kubernetesApi.ts"
import {
  edit,
  fakeApi,
  grant,
  type Process,
  processOn,
  refused,
  release,
  remove,
  renew,
  twoProcesses
} from "./kubernetesLocks.ts"

const now = { startImmediately: true } as const

/** Lets what is under way happen, until `done`; no time goes by. */
const until = (done: () => boolean, what: string) =>
  Effect.gen(function*() {
    const deadline = performance.now() + 20_000
    while (!done()) {
      if (performance.now() > deadline) assert.fail(`never: ${what}`)
      yield* TestClock.adjust(0)
    }
  })

const waiting = (api: FakeApi, process: Process, ownerId = "waiter") =>
  Effect.gen(function*() {
    yield* refused(process, ownerId, { willWait: true })
    process.methods()
    const fiber = yield* Effect.forkChild(process.backend.awaitTurn!({ key: "k", ownerId }), now)
    yield* until(() => api.watches > 0, "a watch")
    return fiber
  })

const ended = (fiber: Fiber.Fiber<unknown, unknown>) => until(() => fiber.pollUnsafe() !== undefined, "the turn")

const isOpen = (fiber: Fiber.Fiber<unknown, unknown>) =>
  Effect.map(Effect.andThen(TestClock.adjust(0), TestClock.adjust(0)), () => fiber.pollUnsafe() === undefined)

describe("a watch", () => {
  it.effect("begins where its owner was refused, with one request, and ends with the release", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner")
      const turn = yield* waiting(api, two)
      assert.lengthOf(two.sent, 1)
      const { query } = two.sent[0]!
      assert.strictEqual(query.get("watch"), "1")
      assert.match(query.get("fieldSelector") ?? "", /^metadata\.name=k-/)
      assert.match(query.get("resourceVersion") ?? "", /^[0-9]+$/)
      assert.strictEqual(query.get("allowWatchBookmarks"), "true")
      assert.match(query.get("timeoutSeconds") ?? "", /^[0-9]+$/)
      yield* renew(one, "owner", handle)
      assert.isTrue(yield* isOpen(turn), "a renewal is no turn")
      yield* release(one, "owner", handle)
      yield* ended(turn)
      yield* Fiber.join(turn)
      yield* until(() => api.watches === 0, "the end of the watch")
    }))

  it.effect("does not miss a release between the refusal and its beginning", () =>
    Effect.gen(function*() {
      const { one, two } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner")
      yield* refused(two, "waiter", { willWait: true })
      yield* release(one, "owner", handle)
      yield* grant(one, "next")
      const turn = yield* Effect.forkChild(two.backend.awaitTurn!({ key: "k", ownerId: "waiter" }), now)
      yield* ended(turn)
      yield* Fiber.join(turn)
    }))

  it.effect("of an owner id that nobody remembers looks first", () =>
    Effect.gen(function*() {
      const { one, two } = yield* twoProcesses
      yield* two.backend.awaitTurn!({ key: "k", ownerId: "waiter" })
      assert.deepStrictEqual(two.methods(), ["GET"])
      yield* release(one, "owner", (yield* grant(one, "owner")).handle)
      yield* two.backend.awaitTurn!({ key: "k", ownerId: "waiter" })
      assert.deepStrictEqual(two.methods(), ["GET"])
    }))

  it.effect("passes over bookmarks and events of kinds that are not known", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner")
      const turn = yield* waiting(api, two)
      api.bookmark()
      api.say("")
      api.say(JSON.stringify({ type: "SOMETHING", object: {} }))
      assert.isTrue(yield* isOpen(turn))
      yield* release(one, "owner", handle)
      yield* ended(turn)
    }))

  it.effect("ends when the object is deleted", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      yield* grant(one, "owner")
      const turn = yield* waiting(api, two)
      remove(api)
      yield* ended(turn)
      yield* Fiber.join(turn)
    }))

  it.effect("that begins before what the server keeps (410) looks, and begins anew", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner")
      yield* refused(two, "waiter", { willWait: true })
      yield* renew(one, "owner", handle)
      api.compact()
      two.methods()
      const turn = yield* Effect.forkChild(two.backend.awaitTurn!({ key: "k", ownerId: "waiter" }), now)
      yield* until(() => api.watches === 1, "the second watch")
      assert.deepStrictEqual(api.log.slice(-3).map((line) => line.split(" ")[0]), ["watch", "get", "watch"])
      yield* release(one, "owner", handle)
      yield* ended(turn)
      yield* Fiber.join(turn)
    }))

  it.effect("that the server answers with status 410 is like an end", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner")
      yield* refused(two, "waiter", { willWait: true })
      let gone = true
      two.fault = ({ query }) => {
        if (!query.has("watch") || !gone) return undefined
        gone = false
        return { when: "before", status: 410 }
      }
      const turn = yield* Effect.forkChild(two.backend.awaitTurn!({ key: "k", ownerId: "waiter" }), now)
      yield* until(() => api.watches === 1, "the second watch")
      yield* release(one, "owner", handle)
      yield* ended(turn)
    }))

  it.effect("that the server ends looks, and begins anew; what happened in between is found", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner")
      const turn = yield* waiting(api, two)
      for (let round = 0; round < 6; round++) {
        yield* TestClock.adjust("4 minutes")
        yield* renew(one, "owner", handle)
        api.endWatches()
        yield* until(() => api.watches === 1, "another watch")
      }
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(api.watches, 1)
      two.fault = ({ query }) => {
        if (!query.has("watch")) edit(api, (lease) => delete lease.spec.holderIdentity)
        return undefined
      }
      api.endWatches()
      yield* ended(turn)
      yield* Fiber.join(turn)
    }))

  it.effect("that ends at once each time is given up: the polls go on without", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      yield* grant(one, "owner")
      const turn = yield* waiting(api, two)
      for (let round = 0; round < 3 && turn.pollUnsafe() === undefined; round++) {
        yield* until(() => api.watches === 1 || turn.pollUnsafe() !== undefined, "another watch")
        api.endWatches()
      }
      yield* ended(turn)
      assert.strictEqual((yield* Effect.flip(Fiber.join(turn))).reason._tag, "Unreachable")
      assert.isBelow(two.sent.length, 8)
    }))

  it.effect("that no end reaches is replaced after a while", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner", { ttl: Duration.minutes(10) })
      const turn = yield* waiting(api, two)
      const before = api.log.filter((line) => line === "watch").length
      for (let minute = 0; minute < 5; minute++) {
        yield* renew(one, "owner", handle)
        yield* TestClock.adjust("1 minute")
      }
      yield* until(() => api.log.filter((line) => line === "watch").length === before + 1, "another watch")
      assert.isUndefined(turn.pollUnsafe())
    }))

  it.effect("is begun again with the token of today", () =>
    Effect.gen(function*() {
      const all = ["get", "create", "update", "watch"]
      const api = yield* fakeApi({ tokens: new Map([["one", all]]) })
      let token = "one"
      const one = yield* processOn(api, { token: Effect.sync(() => Redacted.make(token)) })
      const { handle } = yield* grant(one, "owner")
      yield* refused(one, "waiter", { willWait: true })
      token = "two"
      api.tokens = new Map([["two", all]])
      const turn = yield* Effect.forkChild(one.backend.awaitTurn!({ key: "k", ownerId: "waiter" }), now)
      yield* until(() => api.watches === 1, "a watch")
      yield* release(one, "owner", handle)
      yield* ended(turn)
      yield* Fiber.join(turn)
      api.tokens = new Map()
      const error = yield* Effect.flip(one.backend.awaitTurn!({ key: "k", ownerId: "waiter" }))
      assert.strictEqual(error.reason._tag, "Unauthorized")
    }))

  it.effect("that may not be is Unauthorized, and says which verb is missing", () =>
    Effect.gen(function*() {
      const api = yield* fakeApi({ tokens: new Map([["pod-token-1", ["get", "create", "update"]]]) })
      const one = yield* processOn(api, { token: Redacted.make("pod-token-1") })
      yield* grant(one, "owner")
      yield* refused(one, "waiter", { willWait: true })
      const { reason } = yield* Effect.flip(one.backend.awaitTurn!({ key: "k", ownerId: "waiter" }))
      assert.strictEqual(reason._tag, "Unauthorized")
      assert.match(reason.detail, /forbids to watch .*cannot watch resource/)
      api.tokens = new Map()
      const refusedToken = yield* Effect.flip(one.backend.awaitTurn!({ key: "k", ownerId: "waiter" }))
      assert.strictEqual(refusedToken.reason._tag, "Unauthorized")
    }))

  it.effect("that is interrupted is closed", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      yield* grant(one, "owner")
      const turn = yield* waiting(api, two)
      yield* Fiber.interrupt(turn)
      yield* until(() => api.watches === 0, "the end of the watch")
    }))

  it.effect("with nonsense in it is a Protocol error, with an error of the server's Unreachable", () =>
    Effect.gen(function*() {
      for (
        const [line, tag] of [
          ["<html>", "Protocol"],
          [JSON.stringify({ type: "MODIFIED", object: { kind: "Lease" } }), "Protocol"],
          [JSON.stringify({ type: "ERROR", object: { kind: "Status", code: 500 } }), "Unreachable"]
        ] as const
      ) {
        const { api, one, two } = yield* twoProcesses
        yield* grant(one, "owner")
        const turn = yield* waiting(api, two)
        api.say(line)
        yield* ended(turn)
        assert.strictEqual((yield* Effect.flip(Fiber.join(turn))).reason._tag, tag)
        yield* until(() => api.watches === 0, "the end of the watch")
      }
    }))

  it.effect("is a look too: who watched takes over a ttl after the last renewal, not after its next poll", () =>
    Effect.gen(function*() {
      const { api, one, two } = yield* twoProcesses
      const { handle } = yield* grant(one, "owner")
      const turn = yield* waiting(api, two)
      yield* TestClock.adjust("5 seconds")
      yield* renew(one, "owner", handle)
      assert.isTrue(yield* isOpen(turn))
      yield* TestClock.adjust("10 seconds")
      yield* grant(two, "waiter")
    }))
})

/**
 * Attempts, endpoints and watches in time, on members that the test plays itself.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Schema } from "effect"
import { HttpClient, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import * as Gateway from "../../../src/layers/internal/etcdGateway.ts"
import { awaitTurn } from "../../../src/layers/internal/etcdWatch.ts"
import { eventually } from "./etcdLocks.ts"

const now = { startImmediately: true } as const

type Play = (member: string, path: string) => Effect.Effect<Response | "hangs">

const seen = (play: Play, endpoints: ReadonlyArray<string> = ["http://a", "http://b", "http://c"]) => {
  const sent: Array<readonly [at: number, member: string, path: string]> = []
  const client = HttpClient.make((request, url) =>
    Effect.gen(function*() {
      const path = url.pathname
      sent.push([yield* Clock.currentTimeMillis, url.hostname, path])
      const answer = yield* play(url.hostname, path)
      return answer === "hangs" ? yield* Effect.never : HttpClientResponse.fromWeb(request, answer)
    })
  )
  return { sent, gateway: Gateway.make({ client, endpoints, auth: undefined }) }
}

const header = { cluster_id: "1", raft_term: "1", revision: "5" }
const json = (value: object, status = 200) => new Response(JSON.stringify(value), { status })
const well = json({ header })

const decode = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Struct({ header: Gateway.Header })))

const ask = (gateway: Gateway.Gateway, millis: number) =>
  Effect.flatMap(
    Gateway.limitsOf(Duration.millis(millis)),
    (limits) => Gateway.call(gateway, limits, "x", {}, decode)
  )

describe("a request to a cluster", () => {
  it.effect("asks each member for a third of the budget, at most a second, and is over with the budget", () =>
    Effect.gen(function*() {
      for (
        const [budget, attempts] of [
          [1500, [[0, "a"], [500, "b"], [1000, "c"]]],
          [4000, [[0, "a"], [1000, "b"], [2000, "c"], [3000, "a"]]]
        ] as const
      ) {
        const { gateway, sent } = seen(() => Effect.succeed("hangs"))
        const from = yield* Clock.currentTimeMillis
        const fiber = yield* Effect.forkChild(Effect.flip(ask(gateway, budget)), now)
        yield* TestClock.adjust(budget)
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "TimedOut")
        assert.deepStrictEqual(sent.map(([at, member]) => [at - from, member]), attempts.map((each) => [...each]))
      }
    }))

  it.effect("stays with the member that answered, also for what comes later", () =>
    Effect.gen(function*() {
      const { gateway, sent } = seen((member) => Effect.succeed(member === "b" ? well.clone() : "hangs"))
      const fiber = yield* Effect.forkChild(ask(gateway, 3000), now)
      yield* TestClock.adjust(1000)
      yield* Fiber.join(fiber)
      yield* ask(gateway, 3000)
      assert.deepStrictEqual(sent.map(([, member]) => member), ["a", "b", "b"])
    }))

  it.effect("goes round once, and one further, if all say that they can't now; and not at all if one says no", () =>
    Effect.gen(function*() {
      const busy = seen(() => Effect.succeed(json({ code: 14, message: "etcdserver: no leader" }, 503)))
      assert.strictEqual((yield* Effect.flip(ask(busy.gateway, 3000)))._tag, "EtcdStatus")
      assert.deepStrictEqual(busy.sent.map(([, member]) => member), ["a", "b", "c", "a"])
      const no = seen(() => Effect.succeed(json({ code: 7, message: "etcdserver: permission denied" }, 403)))
      yield* Effect.flip(ask(no.gateway, 3000))
      assert.lengthOf(no.sent, 1)
    }))

  it.effect("keeps the path of an endpoint that has one", () =>
    Effect.gen(function*() {
      const { gateway, sent } = seen(() => Effect.succeed(well.clone()), ["http://a/etcd"])
      yield* ask(gateway, 3000)
      assert.deepStrictEqual(sent[0]?.[2], "/etcd/v3/x")
    }))
})

describe("a watch", () => {
  const held = {
    header,
    kvs: [{
      key: "aw==",
      create_revision: "5",
      lease: "7",
      value: btoa(JSON.stringify({ v: 1, ownerId: "x", since: 1, metadata: {} }))
    }]
  }
  const openStream = () =>
    new Response(
      new ReadableStream({
        start: (controller) => controller.enqueue(new TextEncoder().encode(`{"result":{"header":{},"created":true}}\n`))
      })
    )

  // Answers come by the event loop, not by the clock.
  const watching = (sent: ReadonlyArray<readonly [number, string, string]>, times: number) =>
    TestClock.withLive(
      eventually(
        `${times} watches`,
        Effect.sync(() => sent.filter(([, , path]) => path === "/v3/watch").length),
        (count) => count === times
      )
    )

  it.effect("that says nothing for a minute is made anew, after another look", () =>
    Effect.gen(function*() {
      let looks = 0
      const { gateway, sent } = seen((_, path) =>
        Effect.sync(() => path === "/v3/watch" ? openStream() : json(++looks === 1 ? held : { header }))
      )
      const turn = yield* Effect.forkChild(awaitTurn(gateway, "k"), now)
      yield* watching(sent, 1)
      yield* TestClock.adjust(59_999)
      assert.deepStrictEqual(sent.map(([, , path]) => path), ["/v3/kv/range", "/v3/watch"])
      assert.strictEqual(turn.pollUnsafe(), undefined)
      yield* TestClock.adjust(1)
      yield* Fiber.join(turn)
      assert.deepStrictEqual(sent.map(([, , path]) => path), ["/v3/kv/range", "/v3/watch", "/v3/kv/range"])
    }))

  it.effect("that a member does not open within a second fails, and the next is made at another member", () =>
    Effect.gen(function*() {
      const { gateway, sent } = seen((_, path) => Effect.sync(() => path === "/v3/watch" ? "hangs" : json(held)))
      for (const [index, member] of ["a", "b"].entries()) {
        const turn = yield* Effect.forkChild(Effect.flip(awaitTurn(gateway, "k")), now)
        yield* watching(sent, index + 1)
        yield* TestClock.adjust(1000)
        assert.strictEqual((yield* Fiber.join(turn))._tag, "Unreachable")
        assert.deepStrictEqual(sent.at(-1)?.slice(1), [member, "/v3/watch"])
      }
    }))
})

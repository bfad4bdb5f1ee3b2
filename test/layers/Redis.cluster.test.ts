import { afterAll, assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Option, Scope } from "effect"
import * as Redis from "effect-lock/layers/Redis"
import { BackendLaws } from "effect-lock/testing"
import { testLaws } from "effect-lock/testing/vitest"
import { Cluster } from "ioredis"
import { failureOf, isInstalled, start, until, verbs } from "./redis/redisLocks.ts"

const installed = isInstalled("redis-server")

/** One node that serves these slots. */
const startNode = (from: number, to: number) =>
  Effect.gen(function*() {
    const started = yield* start(
      ...["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"],
      ...["--cluster-announce-ip", "127.0.0.1"]
    )
    yield* started.visitor.call("CLUSTER", "ADDSLOTSRANGE", from, to)
    const state = Effect.map(started.visitor.call("CLUSTER", "INFO"), (info) => /cluster_state:ok/.test(String(info)))
    yield* until("the cluster is up", state)
    const cluster = Effect.acquireRelease(
      Effect.sync(() => {
        const client = new Cluster([{ port: started.server.port, host: "127.0.0.1" }])
        client.on("error", () => {})
        return client
      }),
      (client) => Effect.sync(() => client.disconnect())
    )
    return { ...started, cluster }
  })

describe.skipIf(!installed)("a cluster", () => {
  it.live("keeps all that belongs to a lock in one slot, however the key is spelled", () =>
    Effect.gen(function*() {
      const { cluster, visitor } = yield* startNode(0, 16_383)
      const locks = verbs(yield* Redis.make({ client: yield* cluster, namespace: "{n}" }))
      for (const key of ["k", "{a}b", "a}{b", "{}", "}{", "ключ"]) {
        yield* locks.acquire("a", { key })
        yield* locks.release("b", { key, unanswered: true })
        const keys = yield* visitor.keys
        const slots = yield* Effect.forEach(keys, (key) => visitor.call("CLUSTER", "KEYSLOT", key))
        assert.lengthOf(keys, 3, keys.join(" "))
        assert.strictEqual(new Set(slots).size, 1, keys.join(" "))
        yield* visitor.call("FLUSHALL")
      }
    }))

  it.live("a slot that nobody serves is an outage, not contention", () =>
    Effect.gen(function*() {
      const { cluster, visitor } = yield* startNode(0, 16_000)
      const client = yield* cluster
      const locks = verbs(yield* Redis.make({ client }))
      const served: Array<string> = []
      const unserved: Array<string> = []
      for (let index = 0; unserved.length === 0 || served.length === 0; index++) {
        const slot = Number(yield* visitor.call("CLUSTER", "KEYSLOT", `key-${index}`))
        ;(slot <= 16_000 ? served : unserved).push(`key-${index}`)
      }
      yield* locks.acquire("a", { key: served[0] ?? "" })
      const error = yield* failureOf(locks.tryAcquire("a", { key: unserved[0] ?? "" }))
      assert.isTrue(error.isRetryable, error.message)
    }))

  it.live("a node of one is not a server of its own: a plain client is told so, or finds its slots", () =>
    Effect.gen(function*() {
      const { open } = yield* startNode(0, 16_383)
      const locks = yield* open()
      const { handle } = yield* locks.acquire("a")
      assert.strictEqual(yield* locks.release("a", { handle: Option.some(handle) }), "Released")
    }))
})

if (installed) {
  const scope = Scope.makeUnsafe()
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  const node = await Effect.runPromise(Scope.provide(startNode(0, 16_383), scope))
  const make = (namespace: string) => Effect.flatMap(node.cluster, (client) => Redis.make({ client, namespace }))
  await testLaws(
    "Redis on a cluster keeps the laws",
    Effect.gen(function*() {
      return BackendLaws.LawEnvironment.make({
        first: yield* make("laws"),
        second: yield* make("laws"),
        withNamespace: make,
        contenders: 8,
        acquisitions: 60,
        positions: 20
      })
    }),
    { concurrent: true }
  )
}

import { assert, describe, it, vi } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Scope } from "effect"
import { Redis as Driver } from "ioredis"
import { Socket } from "node:net"
import { connect, script } from "../../../src/layers/internal/redisClient.ts"
import { faultProxy } from "../../servers/FaultProxy.ts"
import { failureOf, inTime, isInstalled, start, until } from "../redis/redisLocks.ts"

const now = { startImmediately: true } as const
const timeout = Duration.seconds(5)
const echo = script("return {KEYS[1], ARGV[1]}")

/** How often sockets of this process wrote to `port` since the last look. */
const writesTo = (port: number) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        let count = 0
        const spies = (["_write", "_writev"] as const).map((name) => {
          const write = Socket.prototype[name] as (...args: ReadonlyArray<unknown>) => void
          return vi.spyOn(Socket.prototype, name).mockImplementation(
            function(this: Socket, ...args: Array<unknown>) {
              if (this.remotePort === port) count++
              write.apply(this, args)
            }
          )
        })
        const look = () => {
          const found = count
          count = 0
          return found
        }
        return { look, spies }
      }),
      ({ spies }) => Effect.sync(() => spies.forEach((spy) => spy.mockRestore()))
    ),
    ({ look }) => look
  )

describe.skipIf(!isInstalled("redis-server"))("the client port", () => {
  it.live("connects at the first command, and counts its connections", () =>
    Effect.gen(function*() {
      const { server, visitor } = yield* start()
      const client = yield* connect({ url: server.url }, "port-test")
      assert.strictEqual(client.endpoint, `127.0.0.1:${server.port}`)
      assert.strictEqual(client.connections(), 0)
      assert.isFalse(client.isReady())
      assert.deepStrictEqual(yield* client.run(echo, ["k"], ["a"], timeout), ["k", "a"])
      assert.strictEqual(client.connections(), 1)
      assert.isTrue(client.isReady())
      assert.match(String(yield* visitor.call("CLIENT", "LIST")), /name=port-test/)
      yield* server.kill
      yield* server.start
      yield* until(
        "it answers again",
        Effect.match(client.command("PING", [], timeout), { onSuccess: () => true, onFailure: () => false })
      )
      assert.strictEqual(client.connections(), 2)
    }))

  it.live("many commands at once, before there is a connection, are all answered", () =>
    Effect.gen(function*() {
      const { server } = yield* start()
      const client = yield* connect({ url: server.url }, "port-test")
      const answers = yield* Effect.forEach(
        Array.from({ length: 200 }, (_, index) => String(index)),
        (index) => client.run(echo, ["k"], [index], timeout),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(answers, answers.map((_, index) => ["k", String(index)]))
    }))

  it.live("of the commands of one turn, the first is written at once and the others together", () =>
    Effect.gen(function*() {
      const { server } = yield* start()
      const client = yield* connect({ url: server.url }, "port-test")
      const run = (index: number) => client.run(echo, ["k"], [String(index)], timeout)
      yield* run(0)
      const writes = yield* writesTo(server.port)
      for (const [commands, expected] of [[1, 1], [2, 2], [50, 2], [1, 1]] as const) {
        const answers = yield* Effect.all(Array.from({ length: commands }, (_, index) => run(index)), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual([answers.length, writes()], [commands, expected])
      }
    }))

  it.live("a subscription hears messages, says when it may have missed some, and ends with its scope", () =>
    Effect.gen(function*() {
      const { server, visitor } = yield* start()
      const client = yield* connect({ url: server.url }, "port-test")
      const heard: Array<string> = []
      let reconnects = 0
      const listening = Effect.map(visitor.call("PUBSUB", "NUMSUB", "c"), (answer) => (answer as Array<unknown>)[1])
      const scope = yield* Scope.make()
      yield* Scope.provide(client.subscribe("c", (message) => heard.push(message), () => reconnects++), scope)
      assert.strictEqual(yield* listening, 1)
      yield* visitor.call("PUBLISH", "c", "one")
      yield* until("it is heard", Effect.sync(() => heard.length === 1))
      yield* visitor.call("CLIENT", "KILL", "TYPE", "pubsub")
      yield* until("it is back", Effect.sync(() => reconnects === 1))
      yield* visitor.call("PUBLISH", "c", "two")
      yield* until("it is heard", Effect.sync(() => heard.length === 2))
      yield* Scope.close(scope, Exit.void)
      yield* until("nobody listens", Effect.map(listening, (count) => count === 0))
      assert.deepStrictEqual([heard, reconnects], [["one", "two"], 1])
    }))

  it.live("a subscription that hangs in its handshake is made over another connection", () =>
    Effect.gen(function*() {
      const { server } = yield* start()
      const proxy = yield* faultProxy(server.port)
      const client = yield* connect({ url: `redis://127.0.0.1:${proxy.port}` }, "port-test")
      yield* proxy.blackHole
      const subscribing = yield* Effect.forkChild(Effect.eventually(client.subscribe("c", () => {}, () => {})), now)
      yield* until("it has said hello", Effect.sync(() => proxy.sent() > 0))
      yield* proxy.heal
      yield* inTime("it is confirmed", Fiber.join(subscribing))
    }))

  it.live("what a client of the user's has in flight fails when the layer ends", () =>
    Effect.gen(function*() {
      const { server } = yield* start()
      const proxy = yield* faultProxy(server.port)
      const driver = yield* Effect.acquireRelease(
        Effect.sync(() => new Driver({ port: proxy.port, host: "127.0.0.1" })),
        (driver) => Effect.sync(() => driver.disconnect())
      )
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(connect({ client: driver }, "port-test"), scope)
      yield* client.command("PING", [], timeout)
      yield* proxy.blackHole
      const asking = yield* Effect.forkChild(failureOf(client.command("PING", [], Duration.hours(1))), now)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* inTime("it fails", Fiber.join(asking)))._tag, "Unreachable")
      assert.strictEqual((yield* failureOf(client.command("PING", [], timeout)))._tag, "Unreachable")
      assert.strictEqual(driver.status, "ready")
    }))
})

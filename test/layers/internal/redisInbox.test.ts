import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import type { RedisClient } from "../../../src/layers/internal/redisClient.ts"
import { Inbox } from "../../../src/layers/internal/redisInbox.ts"
import { Unreachable } from "../../../src/LockError.ts"

const now = { startImmediately: true } as const

/** An inbox on a server that is made of functions. */
const start = (subscribe?: Effect.Effect<void, Unreachable>) =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const server = {
      subscriptions: [] as Array<string>,
      send: (_message: string) => {},
      reconnect: () => {},
      declined: [] as Array<string>
    }
    const client = {
      subscribe: (channel: string, onMessage: (message: string) => void, onReconnect: () => void) =>
        Effect.andThen(
          subscribe ?? Effect.void,
          Effect.sync(() => {
            server.subscriptions.push(channel)
            server.send = onMessage
            server.reconnect = onReconnect
          })
        )
    } as unknown as RedisClient
    const inbox = new Inbox(
      client,
      "lock:n:i:",
      scope,
      (owner, record) => Effect.sync(() => void server.declined.push(`${owner} ${record}`))
    )
    return { server, inbox }
  })

const isOver = (fiber: Fiber.Fiber<unknown, unknown>) =>
  Effect.map(Effect.yieldNow, () => fiber.pollUnsafe() !== undefined)

describe("an inbox", () => {
  it.effect("subscribes once, however many ask for it at once", () =>
    Effect.gen(function*() {
      const { inbox, server } = yield* start(Effect.yieldNow)
      yield* Effect.all([inbox.open, inbox.open, inbox.open], { concurrency: "unbounded", discard: true })
      yield* inbox.open
      assert.deepStrictEqual(server.subscriptions, [`lock:n:i:${inbox.id}`])
      assert.isTrue(inbox.isOpen)
    }))

  it.effect("who is interrupted while it subscribes does not take the subscription away from the others", () =>
    Effect.gen(function*() {
      const { inbox, server } = yield* start(Effect.sleep(0).pipe(Effect.andThen(Effect.yieldNow)))
      const one = yield* Effect.forkChild(inbox.open, now)
      const two = yield* Effect.forkChild(inbox.open, now)
      yield* Fiber.interrupt(one)
      yield* Fiber.join(two)
      assert.lengthOf(server.subscriptions, 1)
    }))

  it.effect("a subscription that failed is tried anew", () =>
    Effect.gen(function*() {
      let failing = true
      const { inbox } = yield* start(
        Effect.suspend(() => failing ? Effect.fail(new Unreachable({ detail: "down" })) : Effect.void)
      )
      assert.isTrue(Exit.isFailure(yield* Effect.exit(inbox.open)))
      assert.isFalse(inbox.isOpen)
      failing = false
      yield* inbox.open
      assert.isTrue(inbox.isOpen)
    }))

  it.effect("a call that comes before anybody listens to it is not missed", () =>
    Effect.gen(function*() {
      const { inbox, server } = yield* start()
      yield* inbox.open
      inbox.enter("a", "1000", "{}")
      server.send("a|7|lock:n:{k}")
      yield* inbox.awaitCall("a")
      // Another try asks for another call.
      inbox.enter("a", "1000", "{}")
      const turn = yield* Effect.forkChild(inbox.awaitCall("a"), now)
      assert.isFalse(yield* isOver(turn))
      server.send("a|7|lock:n:{k}")
      yield* Fiber.join(turn)
    }))

  it.effect("who listens before it was queued is called all the same", () =>
    Effect.gen(function*() {
      const { inbox, server } = yield* start()
      const turn = yield* Effect.forkChild(inbox.awaitCall("a"), now)
      yield* inbox.open
      assert.strictEqual(inbox.enter("a", "1000", "{}"), `${inbox.id}|1000|a|{}`)
      server.send("a|7|lock:n:{k}")
      yield* Fiber.join(turn)
    }))

  it.effect("a call for nobody is declined, and for one that gave up", () =>
    Effect.gen(function*() {
      const { inbox, server } = yield* start()
      yield* inbox.open
      server.send("nobody|7|lock:n:{k}")
      inbox.enter("quitter", "1000", "{}")
      assert.strictEqual(inbox.leave("quitter"), `${inbox.id}|1000|quitter|{}`)
      server.send("quitter|7|lock:n:{k}")
      for (const not of ["no message of ours", "nobody|lock:n:{k}", "nobody||lock:n:{k}", "7|lock"]) server.send(not)
      yield* Effect.yieldNow
      assert.deepStrictEqual(server.declined, ["nobody lock:n:{k}", "quitter lock:n:{k}"])
    }))

  it.effect("what was given after the refusal is taken, once", () =>
    Effect.gen(function*() {
      const { inbox, server } = yield* start()
      yield* inbox.open
      inbox.enter("a", "1000", "{}")
      inbox.refused("a", 6n)
      assert.isUndefined(inbox.take("a"))
      server.send("a|7|lock:n:{k}")
      assert.strictEqual(inbox.take("a"), "7")
      assert.isUndefined(inbox.take("a"))
      assert.strictEqual(inbox.size, 0)
    }))

  it.effect("the message may overtake the refusal", () =>
    Effect.gen(function*() {
      const { inbox, server } = yield* start()
      yield* inbox.open
      inbox.enter("a", "1000", "{}")
      server.send("a|10|lock:n:{k}")
      assert.isUndefined(inbox.take("a"))
      inbox.refused("a", 9n)
      assert.strictEqual(inbox.take("a"), "10")
    }))

  it.effect("what was given before the refusal, or by nobody known, is not taken", () =>
    Effect.gen(function*() {
      const { inbox, server } = yield* start()
      yield* inbox.open
      inbox.enter("a", "1000", "{}")
      server.send("a|7|lock:n:{k}")
      for (const by of [7n, 8n, undefined]) {
        inbox.refused("a", by)
        assert.isUndefined(inbox.take("a"))
      }
      // The next try forgets it.
      inbox.refused("a", 6n)
      inbox.enter("a", "1000", "{}")
      inbox.refused("a", 6n)
      assert.isUndefined(inbox.take("a"))
    }))

  it.effect("after a reconnect nobody was given anything, and everybody has to look", () =>
    Effect.gen(function*() {
      const { inbox, server } = yield* start()
      yield* inbox.open
      inbox.enter("a", "1000", "{}")
      inbox.refused("a", 6n)
      server.send("a|7|lock:n:{k}")
      server.reconnect()
      assert.isUndefined(inbox.take("a"))
      yield* inbox.awaitCall("a")
    }))

  it.effect("after a reconnect everybody asks again, and those that gave up are forgotten", () =>
    Effect.gen(function*() {
      const { inbox, server } = yield* start()
      yield* inbox.open
      for (const owner of ["a", "b", "quitter"]) inbox.enter(owner, "1000", "{}")
      inbox.leave("quitter")
      server.reconnect()
      yield* inbox.awaitCall("a")
      yield* inbox.awaitCall("b")
      assert.strictEqual(inbox.size, 2)
      inbox.delete("a")
      inbox.delete("b")
      assert.strictEqual(inbox.size, 0)
    }))

  it.effect("its end interrupts whoever subscribes", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { inbox } = yield* Scope.provide(start(Effect.never), scope)
      const opening = yield* Effect.forkChild(Effect.exit(inbox.open), now)
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(Exit.isFailure(yield* Fiber.join(opening)))
    }))
})

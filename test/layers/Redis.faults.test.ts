import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Option, Scope } from "effect"
import { Lock, LockBackend, withLock } from "effect-lock"
import * as Redis from "effect-lock/layers/Redis"
import { Redis as Driver } from "ioredis"
import { faultProxy } from "../servers/FaultProxy.ts"
import { tcpAnswer } from "../servers/tcpAnswer.ts"
import { failureOf, inTime, isInstalled, start, tokenOf, until, type Verbs, verbs } from "./redis/redisLocks.ts"

const now = { startImmediately: true } as const
const some = Option.some
const short = { budget: Duration.millis(500) }

/** A server behind a proxy, and locks that reach it through that. */
const startProxied = Effect.gen(function*() {
  const { open, server, visitor } = yield* start()
  const proxy = yield* faultProxy(server.port)
  const url = `redis://127.0.0.1:${proxy.port}`
  return { server, visitor, proxy, url, open: () => open({ url }), openDirect: () => open() }
})

const ready = (locks: Verbs) =>
  Effect.gen(function*() {
    const { handle } = yield* locks.acquire("ready", { key: "ready" })
    yield* locks.release("ready", { key: "ready", handle: some(handle) })
  })

const usersClient = (port: number) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const client = new Driver({ port, host: "127.0.0.1" })
      client.on("error", () => {})
      return client
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

describe.skipIf(!isInstalled("redis-server"))("an answer that is lost", () => {
  it.live("with the connection: the replay recognises our own grant", () =>
    Effect.gen(function*() {
      const { open, proxy, visitor } = yield* startProxied
      const locks = yield* open()
      yield* ready(locks)
      yield* proxy.set({ loseReplies: true })
      const asking = yield* Effect.forkChild(locks.tryAcquire("a"), now)
      yield* until("the server has granted", Effect.map(visitor.keys, (keys) => keys.includes("lock::{k}")))
      yield* proxy.heal
      yield* proxy.reset
      const lost = yield* failureOf(Fiber.join(asking))
      assert.strictEqual(lost.reason._tag, "Unreachable")
      const [, , fence] = String(yield* visitor.call("GET", "lock::{k}")).split("|")
      const grant = yield* locks.acquire("a")
      assert.strictEqual(grant.handle, fence)
    }))

  it.live("of the user's client, which sends again by itself: one grant, one token", () =>
    Effect.gen(function*() {
      const { proxy, visitor } = yield* startProxied
      const client = yield* usersClient(proxy.port)
      const locks = verbs(yield* Redis.make({ client }))
      yield* ready(locks)
      yield* proxy.set({ loseReplies: true })
      const asking = yield* Effect.forkChild(locks.acquire("a"), now)
      yield* until("the server has granted", Effect.map(visitor.keys, (keys) => keys.includes("lock::{k}")))
      const [, , fence] = String(yield* visitor.call("GET", "lock::{k}")).split("|")
      yield* proxy.heal
      yield* proxy.reset
      const grant = yield* inTime("it is sent again", Fiber.join(asking))
      assert.strictEqual(grant.handle, fence)
      assert.strictEqual(yield* visitor.call("GET", "lock::{k}:f"), fence)
    }))

  it.live("of a release: the second one finds nothing, and the lock is free", () =>
    Effect.gen(function*() {
      const { open, proxy, visitor } = yield* startProxied
      const locks = yield* open()
      yield* ready(locks)
      const handle = some((yield* locks.acquire("a")).handle)
      yield* proxy.set({ loseReplies: true })
      const releasing = yield* Effect.forkChild(locks.release("a", { handle }), now)
      yield* until("it is released", Effect.map(visitor.keys, (keys) => !keys.includes("lock::{k}")))
      yield* proxy.heal
      yield* proxy.reset
      yield* failureOf(Fiber.join(releasing))
      assert.strictEqual(yield* locks.release("a", { handle }), "NotHeld")
      yield* locks.acquire("b")
    }))
})

describe.skipIf(!isInstalled("redis-server"))("an attempt that was given up", () => {
  it.live("while there is no connection is never sent", () =>
    Effect.gen(function*() {
      const { open, proxy, visitor } = yield* startProxied
      const locks = yield* open()
      yield* ready(locks)
      yield* proxy.refuse
      const asking = yield* Effect.forkChild(Effect.flip(locks.tryAcquire("a", short)), now)
      assert.isTrue((yield* Fiber.join(asking)).isRetryable)
      yield* proxy.listen
      yield* locks.acquire("b", { key: "other" })
      assert.notInclude(yield* visitor.keys, "lock::{k}")
    }))

  it.live("in the queue of the user's client is taken back behind itself", () =>
    Effect.gen(function*() {
      const { proxy, visitor } = yield* startProxied
      const client = yield* usersClient(proxy.port)
      const locks = verbs(yield* Redis.make({ client, acceptEviction: true }))
      yield* ready(locks)
      yield* proxy.refuse
      assert.strictEqual((yield* failureOf(locks.tryAcquire("a", short))).reason._tag, "TimedOut")
      yield* failureOf(locks.release("a", { ...short, unanswered: true }))
      yield* proxy.listen
      const tombstone = "lock::{k}:d:a"
      yield* until("the queue was sent", Effect.map(visitor.keys, (keys) => keys.includes(tombstone)))
      assert.notInclude(yield* visitor.keys, "lock::{k}")
      assert.isAtLeast(Number(yield* visitor.call("PTTL", tombstone)), 60_000)
    }))

  it.live("and arrives late is refused, also as a waiter", () =>
    Effect.gen(function*() {
      const { openDirect, visitor } = yield* startProxied
      const [one, two] = [yield* openDirect(), yield* openDirect()]
      yield* one.release("a", { unanswered: true })
      assert.strictEqual((yield* two.tryAcquire("a", { willWait: true }))._tag, "Held")
      yield* one.acquire("b")
      yield* two.queue("a")
      assert.notInclude(yield* visitor.keys, "lock::{k}:q")
    }))

  it.live("an answered one needs no tombstone", () =>
    Effect.gen(function*() {
      const { openDirect, visitor } = yield* startProxied
      const locks = yield* openDirect()
      const handle = some((yield* locks.acquire("a")).handle)
      yield* locks.release("a", { handle })
      assert.deepStrictEqual((yield* visitor.keys).filter((key) => key.includes(":d:")), [])
    }))
})

describe.skipIf(!isInstalled("redis-server"))("a network that drops everything", () => {
  it.live("fails in time, and is left for a new connection, also in the middle of a handshake", () =>
    Effect.gen(function*() {
      const { open, proxy } = yield* startProxied
      const locks = yield* open()
      yield* ready(locks)
      yield* proxy.blackHole
      for (let round = 0; round < 6; round++) {
        const error = yield* inTime("it fails", failureOf(locks.tryAcquire("a", short)))
        assert.isTrue(error.isRetryable)
      }
      yield* proxy.heal
      // What hangs in its handshake has lost what it said: only another connection can help.
      const answers = Effect.matchEffect(locks.tryAcquire("a", short), {
        onSuccess: () => Effect.succeed(true),
        onFailure: () => Effect.succeed(false)
      })
      yield* until("it answers again", answers)
    }))

  it.live("a call that hangs is interrupted at once, and so is the layer's end", () =>
    Effect.gen(function*() {
      const { proxy, url } = yield* startProxied
      const scope = yield* Scope.make()
      const locks = verbs(yield* Scope.provide(Redis.make({ url }), scope))
      yield* ready(locks)
      yield* proxy.blackHole
      const hour = { budget: Duration.hours(1) }
      const asking = yield* Effect.forkChild(locks.tryAcquire("a", hour), now)
      yield* inTime("it is interrupted", Fiber.interrupt(asking))
      const others = yield* Effect.forkChild(Effect.exit(locks.tryAcquire("b", hour)), now)
      yield* inTime("the layer closes", Scope.close(scope, Exit.void))
      assert.isTrue(Exit.isFailure(yield* inTime("what hangs ends with it", Fiber.join(others))))
    }))

  it.live("a holder is told while the server is still frozen", () =>
    Effect.gen(function*() {
      const { open, server } = yield* start()
      const locks = yield* open()
      const lost = yield* Effect.scoped(Effect.gen(function*() {
        const lease = yield* withLock("k", { ttl: "1 second" })
        yield* server.signal("SIGSTOP")
        return yield* inTime("the loss is told", Effect.flip(lease.lost))
      })).pipe(Effect.provideService(LockBackend, locks.backend))
      assert.strictEqual(lost.reason, "Expired")
      yield* server.signal("SIGCONT")
    }))
})

describe.skipIf(!isInstalled("redis-server"))("a server that", () => {
  it.live("was restarted without its data: the holder learns that its lock is gone, and the fence goes on", () =>
    Effect.gen(function*() {
      const { open, server } = yield* start()
      const [one, two] = [yield* open(), yield* open()]
      const first = yield* one.acquire("a")
      yield* server.kill
      yield* server.start
      yield* until(
        "renewal is refused",
        Effect.match(one.renew("a", first.handle), {
          onSuccess: (reply) => reply._tag === "Lost",
          onFailure: () => false
        })
      )
      assert.isTrue(tokenOf(yield* two.acquire("b")) > tokenOf(first))
    }))

  it.live("forgot its scripts is told them again", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const locks = yield* open()
      const { handle } = yield* locks.acquire("a")
      yield* visitor.call("SCRIPT", "FLUSH")
      assert.strictEqual((yield* locks.renew("a", handle))._tag, "Renewed")
      yield* visitor.call("SCRIPT", "FLUSH")
      assert.strictEqual(yield* locks.release("a", { handle: some(handle) }), "Released")
    }))

  it.live("closes connections again and again does not lose a lease", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const locks = yield* open()
      yield* Lock.guard(
        Effect.gen(function*() {
          for (let round = 0; round < 10; round++) {
            yield* visitor.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            yield* Effect.sleep("150 millis")
          }
        }),
        "k",
        { ttl: "20 seconds", renewEvery: "50 millis" }
      ).pipe(Effect.provideService(LockBackend, locks.backend))
      assert.isUndefined(yield* locks.holder)
    }))

  it.live("was demoted says so, and is asked again when it is master", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const locks = yield* open()
      yield* ready(locks)
      yield* visitor.call("REPLICAOF", "127.0.0.1", "1")
      const error = yield* failureOf(locks.tryAcquire("a"))
      assert.strictEqual(error.reason._tag, "Unreachable")
      assert.match(error.reason.detail, /READONLY.*replica/)
      assert.isTrue(error.isRetryable)
      yield* visitor.call("REPLICAOF", "NO", "ONE")
      yield* until("it grants", Effect.match(locks.tryAcquire("a"), { onSuccess: () => true, onFailure: () => false }))
    }))

  it.live("is kept by somebody's script is busy, not held", () =>
    Effect.gen(function*() {
      const { open, server, visitor } = yield* start("--busy-reply-threshold", "50")
      const locks = yield* open()
      yield* ready(locks)
      const spinning = visitor.driver.call("EVAL", "while true do end", "0").then(() => {}, () => {})
      const busy = Effect.match(locks.tryAcquire("a", short), {
        onSuccess: () => false,
        onFailure: ({ reason }) => reason._tag === "Throttled" && /BUSY/.test(reason.detail)
      })
      yield* until("it says so", busy)
      assert.strictEqual(yield* tcpAnswer(server.port, "SCRIPT KILL\r\n"), "+OK\r\n")
      yield* Effect.promise(() => spinning)
      yield* locks.acquire("a")
    }))
})

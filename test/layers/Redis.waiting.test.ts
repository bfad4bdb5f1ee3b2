import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Option, Scheduler } from "effect"
import { Lock, LockBackend, withLock } from "effect-lock"
import { faultProxy } from "../servers/FaultProxy.ts"
import { inTime, isInstalled, start, tokenOf, until, type visitor as visitorOf } from "./redis/redisLocks.ts"

const now = { startImmediately: true } as const
const some = Option.some

const inLine = ({ call }: Effect.Success<ReturnType<typeof visitorOf>>, count: number) =>
  Effect.map(call("ZCARD", "lock::{k}:q"), (length) => length === count)

describe.skipIf(!isInstalled("redis-server"))("the queue", () => {
  it.live("serves waiters of different processes first come first, and asks three requests for each", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const processes = yield* Effect.forEach(Array.from({ length: 6 }), () => open())
      const [first, ...others] = processes
      assert(first !== undefined)
      // The subscriptions are made at the first refusal.
      yield* first.acquire("warm", { key: "warm" })
      for (const [index, process] of others.entries()) yield* process.queue(`warm-${index}`, { key: "warm" })
      for (const [index, process] of others.entries()) yield* process.release(`warm-${index}`, { key: "warm" })

      let { handle } = yield* first.acquire("owner-0")
      const before = yield* visitor.scripts
      const waiters = others.map((process, index) => ({ process, ownerId: `owner-${index + 1}` }))
      for (const { ownerId, process } of waiters) yield* process.queue(ownerId)
      let holder = { process: first, ownerId: "owner-0" }
      for (const next of waiters) {
        yield* holder.process.release(holder.ownerId, { handle: some(handle) })
        yield* inTime(`${next.ownerId} is called`, next.process.awaitTurn(next.ownerId))
        handle = (yield* next.process.acquire(next.ownerId)).handle
        holder = next
      }
      yield* holder.process.release(holder.ownerId, { handle: some(handle) })
      // One to queue, one to claim, one to release; the first holder's release is counted, its acquisition is not.
      assert.strictEqual((yield* visitor.scripts) - before, 3 * waiters.length + 1)
      assert.deepStrictEqual((yield* visitor.keys).filter((key) => key.endsWith(":q")), [])
    }))

  it.live("nobody overtakes it: not who does not wait, nor who comes when the holder has died", () =>
    Effect.gen(function*() {
      const { open } = yield* start()
      const [one, two] = [yield* open(), yield* open()]
      yield* one.acquire("dead", { ttl: Duration.millis(300) })
      yield* two.queue("waiter")
      yield* until("the lease has ended", Effect.map(one.holder, (holder) => holder === undefined))
      const reply = yield* one.tryAcquire("hasty")
      assert.strictEqual(reply._tag, "Held")
      yield* inTime("the waiter is called", two.awaitTurn("waiter"))
      yield* two.acquire("waiter")
    }))

  it.live("who is given the lock has a claim window, then the next one", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const [one, two, three] = [yield* open(), yield* open(), yield* open()]
      const { handle } = yield* one.acquire("a")
      yield* two.queue("sleeper")
      yield* three.queue("b")
      yield* one.release("a", { handle: some(handle) })
      assert.strictEqual(yield* one.holder, "sleeper")
      const window = Number(yield* visitor.call("PTTL", "lock::{k}"))
      assert.isAbove(window, 0)
      assert.isAtMost(window, 2000)
      yield* until("the window has ended", Effect.map(one.holder, (holder) => holder === undefined))
      yield* three.acquire("b")
      // It has lost its turn, and queues again.
      yield* two.queue("sleeper")
    }))

  it.live("with a short ttl the window is no longer than that", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const [one, two] = [yield* open(), yield* open()]
      const { handle } = yield* one.acquire("a")
      yield* two.queue("b", { ttl: Duration.millis(500) })
      yield* one.release("a", { handle: some(handle) })
      assert.isAtMost(Number(yield* visitor.call("PTTL", "lock::{k}")), 500)
    }))

  it.live("a claim sets the whole ttl and the metadata, and keeps the token of the window", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const [one, two] = [yield* open(), yield* open()]
      const { handle } = yield* one.acquire("a")
      yield* two.queue("b")
      yield* one.release("a", { handle: some(handle) })
      const [, , token] = String(yield* visitor.call("GET", "lock::{k}")).split("|")
      const claim = yield* two.acquire("b", { metadata: { job: "x" }, ttl: Duration.seconds(20) })
      assert.strictEqual(claim.handle, token)
      assert.isAbove(Number(yield* visitor.call("PTTL", "lock::{k}")), 15_000)
      const [holder] = yield* two.backend.inspect({ key: "k", budget: Duration.seconds(3) })
      assert.deepStrictEqual(holder?.metadata, { job: "x" })
    }))

  it.live("who is told that it was given the lock has it, without another request", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const [one, two] = [yield* open(), yield* open()]
      const { handle } = yield* one.acquire("a")
      yield* two.queue("b", { metadata: { job: "x|y" } })
      yield* one.release("a", { handle: some(handle) })
      yield* inTime("it is called", two.awaitTurn("b"))
      const before = yield* visitor.scripts
      const given = yield* two.acquire("b", { provisional: true })
      assert.strictEqual(yield* visitor.scripts, before)
      assert.strictEqual(given.provisional, true)
      assert.strictEqual(Duration.toMillis(given.grantedTtl), 2000)
      assert.isTrue(tokenOf(given) > BigInt(handle))
      const window = String(yield* visitor.call("GET", "lock::{k}"))
      assert.strictEqual(window.split("|")[2], given.handle)
      const renewed = yield* two.renew("b", given.handle)
      assert.strictEqual(renewed._tag, "Renewed")
      assert.isAbove(Number(yield* visitor.call("PTTL", "lock::{k}")), 15_000)
      const [holder] = yield* one.backend.inspect({ key: "k", budget: Duration.seconds(3) })
      assert.deepStrictEqual(holder?.metadata, { job: "x|y" })
      assert.strictEqual(yield* two.release("b", { handle: some(given.handle) }), "Released")
    }))

  it.live("what was given and is not renewed ends with its window, and a renewal then does not bring it back", () =>
    Effect.gen(function*() {
      const { open } = yield* start()
      const [one, two] = [yield* open(), yield* open()]
      const { handle } = yield* one.acquire("a")
      yield* two.queue("b", { ttl: Duration.millis(300) })
      yield* one.release("a", { handle: some(handle) })
      yield* inTime("it is called", two.awaitTurn("b"))
      const given = yield* two.acquire("b", { provisional: true, ttl: Duration.millis(300) })
      assert.strictEqual(Duration.toMillis(given.grantedTtl), 300)
      yield* until("the window has ended", Effect.map(one.holder, (holder) => holder === undefined))
      assert.deepStrictEqual(yield* two.renew("b", given.handle), { _tag: "Lost", reason: "Gone" })
    }))

  it.live("a hand-over between processes takes a request, and a lease that is kept is renewed soon", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const processes = yield* Effect.forEach(Array.from({ length: 4 }), () => open())
      const [first, last] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const bodies = [Deferred.await(first), Effect.void, Effect.void, Deferred.await(last)]
      const refusedAt = performance.now()
      const fibers = yield* Effect.forEach(processes, (process, index) =>
        Effect.gen(function*() {
          const fiber = yield* Lock.guard(bodies[index]!, "k", { ttl: "20 seconds" }).pipe(
            Effect.provideService(LockBackend, process.backend),
            Effect.forkChild(now)
          )
          yield* until("it has come", Effect.map(process.holder, (holder) => holder !== undefined))
          yield* until("it is in line", inLine(visitor, index))
          return fiber
        }))
      const before = yield* visitor.scripts
      yield* Deferred.succeed(first, undefined)
      yield* until("the last one has it", inLine(visitor, 0))
      // Three releases; a server is asked for its first one twice. Who was refused long ago asks for a whole grant instead.
      const requests = (yield* visitor.scripts) - before
      if (performance.now() - refusedAt < 800) assert.isAtMost(requests, 3 + 1)
      const left = Effect.map(visitor.call("PTTL", "lock::{k}"), Number)
      yield* until("it is renewed", Effect.map(left, (millis) => millis > 2000))
      yield* Deferred.succeed(last, undefined)
      yield* inTime("all have had it", Effect.forEach(fibers, Fiber.join))
    }))

  it.live("a process that is gone is skipped at once", () =>
    Effect.gen(function*() {
      const { open } = yield* start()
      const one = yield* open()
      const last = yield* open()
      const { handle } = yield* one.acquire("a")
      yield* Effect.scoped(Effect.gen(function*() {
        for (let index = 0; index < 5; index++) yield* (yield* open()).queue(`gone-${index}`)
      }))
      yield* last.queue("b")
      // Their sockets are closed; the server sees that in its own time.
      yield* Effect.sleep("200 millis")
      yield* one.release("a", { handle: some(handle) })
      assert.strictEqual(yield* one.holder, "b")
    }))

  it.live("processes that listen and do not come cost a window each, and no more", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const one = yield* open()
      const { handle } = yield* one.acquire("a")
      const silent = ["silent-1", "silent-2", "silent-3"]
      for (const ownerId of silent) yield* (yield* open()).queue(ownerId, { ttl: Duration.millis(400) })
      const alive = yield* open()
      const waiting = yield* withLock("k", { wait: "20 seconds" }).pipe(
        Effect.scoped,
        Effect.provideService(LockBackend, alive.backend),
        Effect.forkChild(now)
      )
      yield* until("it is queued", Effect.map(visitor.call("ZCARD", "lock::{k}:q"), (count) => count === 4))
      const before = BigInt(handle)
      yield* one.release("a", { handle: some(handle) })
      yield* inTime("the one that comes is served", Fiber.join(waiting))
      // A token for each of them and one for the waiter: none was called twice, none left in the queue.
      assert.isTrue(BigInt(String(yield* visitor.call("GET", "lock::{k}:f"))) > before)
      assert.strictEqual(yield* visitor.call("ZCARD", "lock::{k}:q"), 0)
      assert.isUndefined(yield* one.holder)
    }))

  it.live("a call that reaches nobody who waits is given back at once", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const [one, two] = [yield* open(), yield* open()]
      const { handle } = yield* one.acquire("a")
      yield* two.queue("b")
      // As if a release of that waiter had been lost on its way: its member is there, and it is not.
      const [member] = (yield* visitor.call("ZRANGE", "lock::{k}:q", 0, -1)) as Array<string>
      yield* two.release("b")
      yield* visitor.call("ZADD", "lock::{k}:q", 1, String(member))
      yield* one.release("a", { handle: some(handle) })
      yield* until("it is given back", Effect.map(one.holder, (holder) => holder === undefined))
      const left = yield* visitor.keys
      assert.notInclude(left, "lock::{k}")
    }))

  it.live("a call that is late does not give back what was claimed meanwhile", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const [one, two] = [yield* open(), yield* open()]
      const { handle } = yield* one.acquire("a")
      yield* two.queue("b")
      const [channel] = (yield* visitor.call("PUBSUB", "CHANNELS", "*")) as Array<string>
      yield* one.release("a", { handle: some(handle) })
      const claim = yield* two.acquire("b", { willWait: true })
      const before = yield* visitor.scripts
      yield* visitor.call("PUBLISH", String(channel), `b|${claim.handle}|lock::{k}`)
      yield* until("it is declined", Effect.map(visitor.scripts, (count) => count > before))
      assert.strictEqual((yield* two.renew("b", claim.handle))._tag, "Renewed")
    }))

  it.live("a waiter that leaves when the holder has died calls the next one", () =>
    Effect.gen(function*() {
      const { open } = yield* start()
      const [one, two, three] = [yield* open(), yield* open(), yield* open()]
      yield* one.acquire("dead", { ttl: Duration.millis(300) })
      yield* two.queue("b")
      yield* three.queue("c")
      yield* until("the lease has ended", Effect.map(one.holder, (holder) => holder === undefined))
      assert.strictEqual(yield* two.release("b"), "NotHeld")
      assert.strictEqual(yield* one.holder, "c")
    }))

  it.live("asking again keeps one's place", () =>
    Effect.gen(function*() {
      const { open } = yield* start()
      const [one, two, three] = [yield* open(), yield* open(), yield* open()]
      const { handle } = yield* one.acquire("a")
      yield* two.queue("b")
      yield* three.queue("c")
      yield* two.queue("b")
      yield* one.release("a", { handle: some(handle) })
      assert.strictEqual(yield* one.holder, "b")
    }))

  it.live("a lost message costs one poll", () =>
    Effect.gen(function*() {
      const { open, server, visitor } = yield* start()
      const proxy = yield* faultProxy(server.port)
      const one = yield* open()
      const two = yield* open({ url: `redis://127.0.0.1:${proxy.port}` })
      yield* one.acquire("a", { key: "warm" })
      yield* two.queue("b", { key: "warm" })
      yield* two.release("b", { key: "warm" })
      const { handle } = yield* one.acquire("a")
      const waiting = yield* withLock("k", { wait: "20 seconds" }).pipe(
        Effect.scoped,
        Effect.provideService(LockBackend, two.backend),
        Effect.forkChild(now)
      )
      yield* until("it is queued", Effect.map(visitor.call("ZCARD", "lock::{k}:q"), (count) => count === 1))
      yield* proxy.set({ loseReplies: true })
      yield* one.release("a", { handle: some(handle) })
      yield* proxy.heal
      yield* inTime("the waiter is served", Fiber.join(waiting))
    }))

  it.live("whoever lost the subscription asks again as soon as it is back", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const [one, two] = [yield* open(), yield* open()]
      yield* one.acquire("a")
      yield* two.queue("b")
      const turn = yield* Effect.forkChild(two.awaitTurn("b"), now)
      yield* visitor.call("CLIENT", "KILL", "TYPE", "pubsub")
      yield* inTime("awaitTurn ends", Fiber.join(turn))
      yield* two.queue("b")
      const { handle } = yield* one.acquire("a")
      yield* one.release("a", { handle: some(handle) })
      yield* inTime("it is called over the new connection", two.awaitTurn("b"))
      yield* two.acquire("b")
    }))

  it.live("breaking with now calls the first waiter", () =>
    Effect.gen(function*() {
      const { open } = yield* start()
      const [one, two] = [yield* open(), yield* open()]
      yield* one.acquire("a")
      yield* two.queue("b")
      assert.strictEqual(yield* one.break("a", true), "Broken")
      yield* inTime("it is called", two.awaitTurn("b"))
      yield* two.acquire("b")
    }))

  it.live("a waiter that was refused while it may not subscribe is told why", () =>
    Effect.gen(function*() {
      const { open, server, visitor } = yield* start()
      yield* visitor.call("ACL", "SETUSER", "mute", "on", ">x", "~*", "resetchannels", "+@all", "-subscribe")
      const one = yield* open()
      const two = yield* open({ url: `redis://mute:x@127.0.0.1:${server.port}` })
      yield* one.acquire("a")
      const error = yield* Effect.flip(two.tryAcquire("b", { willWait: true }))
      assert.strictEqual(error.reason._tag, "Unauthorized")
      // Who would not wait needs no subscription.
      assert.strictEqual((yield* two.tryAcquire("b"))._tag, "Held")
    }))
})

describe.skipIf(!isInstalled("redis-server"))("a subscription", () => {
  it.live("is made when somebody is refused, once for all keys and waiters", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const [one, two] = [yield* open(), yield* open()]
      const channels = Effect.map(visitor.call("PUBSUB", "CHANNELS", "*"), (list) => (list as Array<string>).length)
      for (let key = 0; key < 10; key++) yield* one.acquire("a", { key: `key-${key}`, willWait: true })
      assert.strictEqual(yield* channels, 0)
      yield* Effect.forEach(
        Array.from({ length: 30 }),
        (_, index) => two.queue(`b-${index}`, { key: `key-${index % 10}` }),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(yield* channels, 1)
      const list = String(yield* visitor.call("CLIENT", "LIST", "TYPE", "pubsub"))
      assert.lengthOf(list.trim().split("\n"), 1)
    }))
})

describe.skipIf(!isInstalled("redis-server"))("interruption of who waits", () => {
  it.live("at any point leaves no lock and no place in the queue", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* start()
      const [one, two] = [yield* open(), yield* open()]
      for (let position = 1; position <= 60; position++) {
        const key = `key-${position}`
        const holder = yield* one.acquire("a", { key })
        let target: Fiber.Fiber<unknown, unknown> | undefined
        let operations = 0
        const scheduler = yield* Scheduler.Scheduler
        const interrupting: Scheduler.Scheduler = {
          executionMode: scheduler.executionMode,
          makeDispatcher: () => scheduler.makeDispatcher(),
          shouldYield: (fiber) => {
            if (fiber === target && ++operations === 8 * position) fiber.interruptUnsafe()
            return scheduler.shouldYield(fiber)
          }
        }
        const waiting = yield* Effect.withFiber((fiber) => {
          target = fiber
          return Effect.scoped(withLock(key, { metadata: { position: String(position) } })).pipe(
            Effect.provideService(LockBackend, two.backend),
            Effect.provideService(Scheduler.Scheduler, interrupting)
          )
        }).pipe(Effect.forkChild(now))
        // Some are interrupted while they are called.
        if (position % 3 === 0) yield* one.release("a", { key, handle: some(holder.handle) })
        if (position % 2 === 0) yield* Effect.sleep(position % 7)
        yield* inTime("the interrupted waiter ends", Fiber.interrupt(waiting))
        yield* one.release("a", { key, handle: some(holder.handle) })
      }
      const left = Effect.map(visitor.keys, (keys) => keys.filter((key) => !key.endsWith(":f")))
      yield* until("nothing is left", Effect.map(left, (keys) => keys.length === 0))
    }))
})

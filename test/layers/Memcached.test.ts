import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Duration, Effect, Exit, Fiber, Layer, Option, Redacted, type Scope } from "effect"
import { LockBackend, type LockBackendError, withLock } from "effect-lock"
import * as Memcached from "effect-lock/layers/Memcached"
import { BackendLaws } from "effect-lock/testing"
import { execFileSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { readFileSync, writeFileSync } from "node:fs"
import { connect, createServer, type Socket } from "node:net"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { faultProxy } from "../servers/FaultProxy.ts"
import { memcachedServer } from "../servers/MemcachedServer.ts"
import { isInstalled, serverProcess } from "../servers/ServerProcess.ts"
import { tcpAnswer } from "../servers/tcpAnswer.ts"

type Service = LockBackend["Service"]

const host = "127.0.0.1"
const ttl = Duration.seconds(30)
const budget = Duration.seconds(3)
const patience = Duration.minutes(1)

const tryAcquire = (backend: Service, key: string, ownerId: string, options: { ttl?: Duration.Duration } = {}) =>
  backend.tryAcquire({ key, ownerId, ttl, metadata: {}, willWait: true, budget, ...options })

const grant = (backend: Service, key: string, ownerId: string, options: { ttl?: Duration.Duration } = {}) =>
  Effect.map(tryAcquire(backend, key, ownerId, options), (reply) => {
    assert(reply._tag === "Acquired", `${key} is held`)
    return reply.handle
  })

const renew = (backend: Service, key: string, ownerId: string, handle: string) =>
  Effect.map(
    backend.renew({ key, ownerId, handle, ttl, budget }),
    (reply) => reply._tag === "Lost" ? reply.reason : reply._tag
  )

const release = (backend: Service, key: string, ownerId: string, handle?: string) =>
  backend.release({ key, ownerId, handle: Option.fromUndefinedOr(handle), unanswered: handle === undefined, budget })

const holderOf = (backend: Service, key: string, within = budget) =>
  Effect.map(backend.inspect({ key, budget: within }), (holders) => holders.map(({ ownerId }) => ownerId).join())

const reasonOf = <A>(self: Effect.Effect<A, LockBackendError>) => Effect.map(Effect.flip(self), ({ reason }) => reason)

/** Asks until it is so. */
const until = <E, R>(what: string, check: Effect.Effect<boolean, E, R>) =>
  Effect.gen(function*() {
    const deadline = performance.now() + 20_000
    while (!(yield* check)) {
      assert.isBelow(performance.now(), deadline, `it did not happen in time that ${what}`)
      yield* Effect.sleep("20 millis")
    }
  })

/** The number of a `stats` line. */
const stat = (port: number, name: string) =>
  Effect.map(tcpAnswer(port, "stats\r\n"), (text) => Number(new RegExp(`STAT ${name} (\\d+)`).exec(text)?.[1]))

/** What other programs keep in the same server: many small items of all sizes, until `enough`. */
const traffic = (port: number, enough: (answers: string) => Effect.Effect<boolean>) =>
  Effect.gen(function*() {
    for (let batch = 0; batch < 400; batch++) {
      const sets = Array.from({ length: 1000 }, (_, index) => {
        const size = 50 + (index % 8) * 50
        return `ms c${batch}-${index} ${size} T3600\r\n${"v".repeat(size)}\r\n`
      })
      if (yield* enough(yield* allAnswers(port, `${sets.join("")}mn\r\n`))) return
    }
    assert.fail("the server took all of it")
  })

const allAnswers = (port: number, text: string): Effect.Effect<string> =>
  Effect.callback((resume) => {
    let said = ""
    const socket = connect({ port, host })
    socket.on("data", (chunk) => {
      said += String(chunk)
      if (!said.endsWith("MN\r\n")) return
      socket.destroy()
      resume(Effect.succeed(said))
    })
    socket.write(text)
    return Effect.sync(() => socket.destroy())
  })

/** A server made by hand: `answer` is given each chunk that a client sends. */
const fakeServer = (
  answer: (said: string, socket: Socket) => void,
  kind: "tcp" | "socket" = "tcp"
): Effect.Effect<
  { readonly port: number; readonly path: string; readonly heard: () => string },
  never,
  Scope.Scope
> =>
  Effect.gen(function*() {
    let heard = ""
    const sockets = new Set<Socket>()
    const server = createServer((socket) => {
      sockets.add(socket)
      socket.on("error", () => {})
      socket.on("data", (chunk) => {
        heard += String(chunk)
        answer(String(chunk), socket)
      })
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => {
        const at = kind === "tcp"
          ? { port: 0, host }
          : { path: path.join(tmpdir(), `effect-lock-${randomUUID()}.sock`) }
        server.listen(at, () => resume(Effect.void))
      }),
      () =>
        Effect.sync(() => {
          for (const socket of sockets) socket.destroy()
          server.close()
        })
    )
    const address = server.address()
    const at = typeof address === "string" ? { port: 0, path: address } : { port: address?.port ?? 0, path: "" }
    return { ...at, heard: () => heard }
  })

const greeting = (said: string): string =>
  `${said.includes("mn\r\n") ? "MN\r\n" : ""}${
    said.includes("stats settings\r\n") ? "STAT evictions on\r\nEND\r\n" : ""
  }`

const withoutServer = !isInstalled("memcached")

describe.skipIf(withoutServer)("Memcached forgets, and the holder is told", { concurrent: true }, () => {
  /** Waits for the loss of a lease that was granted before `accident`. */
  const lossOf = (port: number, accident: Effect.Effect<unknown>, ttl: Duration.Input = "4 seconds") =>
    Effect.gen(function*() {
      const backend = yield* Memcached.make({ host, port })
      const lease = yield* Effect.provideService(withLock("key", { ttl }), LockBackend, backend)
      const work = yield* Effect.forkChild(Effect.flip(lease.guard(Effect.never)), { startImmediately: true })
      yield* accident
      return (yield* Fiber.join(work)).reason
    })

  it.live("a server under memory pressure evicts the lock: Gone", () =>
    Effect.gen(function*() {
      const { port } = yield* memcachedServer("-m", "8")
      // `u`: being looked at must not keep it, nor does a renewal come in between.
      const forgotten = Effect.map(tcpAnswer(port, "mg effect-lock::key u\r\n"), (said) => said === "EN\r\n")
      assert.strictEqual(yield* lossOf(port, traffic(port, () => forgotten), "15 seconds"), "Gone")
      assert.isAbove(yield* stat(port, "evictions"), 0)
    }))

  it.live("a restart: Gone", () =>
    Effect.gen(function*() {
      const server = yield* memcachedServer()
      assert.strictEqual(yield* lossOf(server.port, Effect.andThen(server.kill, server.start)), "Gone")
    }))

  it.live("flush_all: Gone", () =>
    Effect.gen(function*() {
      const { port } = yield* memcachedServer()
      assert.strictEqual(yield* lossOf(port, tcpAnswer(port, "flush_all\r\n")), "Gone")
    }))

  it.live("somebody else's value under its name: Taken, and nothing of it is removed", () =>
    Effect.gen(function*() {
      const { port } = yield* memcachedServer()
      assert.strictEqual(yield* lossOf(port, tcpAnswer(port, "set effect-lock::key 0 0 5\r\nother\r\n")), "Taken")
      assert.include(yield* tcpAnswer(port, "get effect-lock::key\r\n"), "other")
      const backend = yield* Memcached.make({ host, port })
      assert.strictEqual((yield* reasonOf(tryAcquire(backend, "key", "a")))._tag, "Protocol")
      assert.strictEqual((yield* reasonOf(backend.inspect({ key: "key", budget })))._tag, "Protocol")
      assert.strictEqual(yield* release(backend, "key", "a"), "NotHeld")
    }))

  it.live("a cas value of the time before a restart frees and renews nothing, though the new one is the same", () =>
    Effect.gen(function*() {
      const server = yield* memcachedServer()
      const options = { host, port: server.port }
      const old = yield* Memcached.make(options)
      const handle = yield* grant(old, "key", "before")
      yield* server.kill
      yield* server.start
      const next = yield* grant(yield* Memcached.make(options), "key", "after")
      assert.strictEqual(next.split(" ")[1], handle.split(" ")[1])
      assert.strictEqual(yield* renew(old, "key", "before", handle), "Taken")
      assert.strictEqual(yield* release(old, "key", "before", handle), "NotHeld")
      assert.strictEqual(yield* holderOf(old, "key"), "after")
    }))

  it.live("a server without room and without eviction refuses, and a contender does not remove the holder's record", () =>
    Effect.gen(function*() {
      const { port } = yield* memcachedServer("-m", "4", "-M")
      const backend = yield* Memcached.make({ host, port })
      yield* grant(backend, "key", "holder")
      yield* traffic(port, (answers) => Effect.succeed(!answers.includes("HD")))
      for (const ownerId of ["a", "b", "c"]) {
        assert.strictEqual((yield* tryAcquire(backend, "key", ownerId))._tag, "Held")
      }
      assert.strictEqual(yield* holderOf(backend, "key"), "holder")
      const reason = yield* reasonOf(tryAcquire(backend, "another", "a"))
      assert.strictEqual(reason._tag, "Throttled")
      assert.include(reason.detail, "-m")
      // The connection is still in order.
      assert.strictEqual(yield* holderOf(backend, "key"), "holder")
    }))

  it.live("a renewal that such a server has no room for ends the lease, and the next one says so", () =>
    Effect.gen(function*() {
      const { port } = yield* memcachedServer("-m", "4", "-M")
      const backend = yield* Memcached.make({ host, port })
      const handle = yield* grant(backend, "key", "holder")
      yield* traffic(port, (answers) => Effect.succeed(!answers.includes("HD")))
      assert.strictEqual((yield* reasonOf(renew(backend, "key", "holder", handle)))._tag, "Throttled")
      assert.strictEqual(yield* renew(backend, "key", "holder", handle), "Gone")
    }))
})

describe.skipIf(withoutServer)("Memcached on a bad network", { concurrent: true }, () => {
  const throughProxy = Effect.gen(function*() {
    const server = yield* memcachedServer()
    const proxy = yield* faultProxy(server.port)
    const backend = yield* Memcached.make({ host, port: proxy.port })
    const direct = yield* Memcached.make({ host, port: server.port })
    return { server, proxy, backend, direct }
  })
  const short = { budget: Duration.millis(900) }

  it.live("an acquire whose reply is lost is TimedOut, and recognised when it is sent again", () =>
    Effect.gen(function*() {
      const { backend, direct, proxy } = yield* throughProxy
      yield* holderOf(backend, "warm")
      yield* proxy.set({ loseReplies: true })
      const request = { key: "key", ownerId: "a", ttl, metadata: {}, willWait: true, ...short }
      assert.strictEqual((yield* reasonOf(backend.tryAcquire(request)))._tag, "TimedOut")
      assert.strictEqual(yield* holderOf(direct, "key"), "a")
      yield* proxy.heal
      const handle = yield* grant(backend, "key", "a")
      assert.strictEqual((yield* tryAcquire(direct, "key", "b"))._tag, "Held")
      assert.strictEqual(yield* release(backend, "key", "a", handle), "Released")
      yield* grant(direct, "key", "b")
    }))

  it.live("renewals and releases whose replies are lost can be sent again", () =>
    Effect.gen(function*() {
      const { backend, direct, proxy } = yield* throughProxy
      const handle = yield* grant(backend, "key", "a")
      yield* proxy.set({ loseReplies: true })
      const request = { key: "key", ownerId: "a", handle, ttl, ...short }
      assert.strictEqual((yield* reasonOf(backend.renew(request)))._tag, "TimedOut")
      yield* proxy.heal
      const renewed = yield* backend.renew({ ...request, budget })
      assert(renewed._tag === "Renewed")
      yield* proxy.set({ loseReplies: true })
      const last = { key: "key", ownerId: "a", handle: Option.some(renewed.handle), unanswered: false, ...short }
      assert.strictEqual((yield* reasonOf(backend.release(last)))._tag, "TimedOut")
      yield* proxy.heal
      assert.strictEqual(yield* release(backend, "key", "a", handle), "NotHeld")
      assert.strictEqual(yield* holderOf(direct, "key"), "")
    }))

  it.live("in a black hole every request ends, those in the pipeline too, and the next connection works", () =>
    Effect.gen(function*() {
      const { backend, proxy } = yield* throughProxy
      yield* holderOf(backend, "warm")
      yield* proxy.blackHole
      const reasons = yield* Effect.forEach(
        ["a", "b", "c", "d"],
        (ownerId) =>
          reasonOf(backend.tryAcquire({ key: ownerId, ownerId, ttl, metadata: {}, willWait: true, ...short })),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        [...new Set(reasons.map(({ _tag }) => _tag))].sort().filter((tag) => tag !== "Unreachable"),
        ["TimedOut"]
      )
      // A connection that is not answered at all, not even its greeting.
      assert.strictEqual((yield* reasonOf(backend.inspect({ key: "a", ...short })))._tag, "TimedOut")
      yield* proxy.heal
      yield* grant(backend, "a", "a")
    }))

  it.live("a reset is Unreachable and is over with the next request", () =>
    Effect.gen(function*() {
      const { backend, proxy } = yield* throughProxy
      const handle = yield* grant(backend, "key", "a")
      yield* proxy.set({ loseReplies: true })
      const renewing = yield* Effect.forkChild(Effect.exit(renew(backend, "key", "a", handle)), {
        startImmediately: true
      })
      yield* Effect.sleep("50 millis")
      yield* proxy.reset
      const exit = yield* Fiber.join(renewing)
      const error = Option.getOrThrow(Exit.findErrorOption(exit))
      assert.strictEqual(error.reason._tag, "Unreachable")
      yield* proxy.heal
      assert.strictEqual(yield* renew(backend, "key", "a", handle), "Renewed")
    }))

  it.live("a refused connection is Unreachable, with the system's code", () =>
    Effect.gen(function*() {
      const { backend, proxy } = yield* throughProxy
      yield* proxy.refuse
      const reason = yield* reasonOf(tryAcquire(backend, "key", "a"))
      assert.strictEqual(reason._tag, "Unreachable")
      assert.include(reason.detail, "ECONNREFUSED")
      yield* proxy.listen
      yield* grant(backend, "key", "a")
    }))

  it.live("an interrupted request leaves the answers to the others in order", () =>
    Effect.gen(function*() {
      const { backend, proxy } = yield* throughProxy
      yield* grant(backend, "held", "holder")
      yield* proxy.set({ latency: 30 })
      for (let round = 0; round < 5; round++) {
        const gone = yield* Effect.forkChild(tryAcquire(backend, `gone-${round}`, "a"), { startImmediately: true })
        const asking = yield* Effect.forkChild(holderOf(backend, "held"), { startImmediately: true })
        yield* Effect.sleep(round * 10)
        yield* Fiber.interrupt(gone)
        assert.strictEqual(yield* Fiber.join(asking), "holder")
        yield* release(backend, `gone-${round}`, "a")
        assert.strictEqual(yield* holderOf(backend, `gone-${round}`), "")
      }
      assert.strictEqual(proxy.connections(), 1)
    }))

  it.live("closing the scope closes the connection, an idle one, a busy one and one that is being opened", () =>
    Effect.gen(function*() {
      const { direct, proxy } = yield* throughProxy
      for (const kind of ["idle", "busy", "opening"]) {
        yield* Effect.scoped(Effect.gen(function*() {
          const backend = yield* Memcached.make({ host, port: proxy.port })
          if (kind !== "opening") yield* grant(backend, kind, "a")
          if (kind !== "idle") {
            yield* proxy.blackHole
            yield* Effect.forkChild(Effect.exit(holderOf(backend, kind)), { startImmediately: true })
          }
          yield* Effect.sleep("20 millis")
        }))
        yield* proxy.heal
        yield* until(`the ${kind} connection is closed`, Effect.sync(() => proxy.connections() === 0))
      }
      yield* holderOf(direct, "idle")
      // One is `direct`, one asks.
      yield* until("the server has no other", Effect.map(stat(proxy.port, "curr_connections"), (count) => count <= 3))
    }))

  it.live("with a closed layer nothing is sent any more", () =>
    Effect.gen(function*() {
      const { server } = yield* throughProxy
      const backend = yield* Effect.scoped(Memcached.make({ host, port: server.port }))
      assert.strictEqual((yield* reasonOf(tryAcquire(backend, "key", "a")))._tag, "Unreachable")
    }))
})

describe("Memcached and what is no memcached", { concurrent: true }, () => {
  const cases: ReadonlyArray<readonly [what: string, answer: string, tag: string, detail: RegExp]> = [
    ["a web server", "HTTP/1.1 400 Bad Request\r\n\r\n", "Protocol", /HTTP/],
    ["a Redis", "-ERR unknown command 'mn'\r\n", "Protocol", /Redis/],
    ["a memcached before meta commands", "ERROR\r\nERROR\r\n", "Misconfigured", /1\.6/],
    ["a memcached that is full", "ERROR Too many open connections\r\n", "Throttled", /-c/],
    ["a memcached that wants a password", "CLIENT_ERROR unauthenticated\r\n", "Unauthorized", /auth/],
    ["a line without end", "x".repeat(5000), "Protocol", /not a memcached/],
    ["binary noise", "\x81\0\r\n\x01\r\n", "Protocol", /not a memcached/],
    ["an answer to something else", "HD\r\n", "Protocol", /something else/]
  ]
  for (const [what, answer, tag, detail] of cases) {
    it.live(`${what} is ${tag}, at once`, () =>
      Effect.gen(function*() {
        const { heard, port } = yield* fakeServer((_, socket) => void socket.write(answer))
        const backend = yield* Memcached.make({ host, port })
        const reason = yield* reasonOf(tryAcquire(backend, "key", "a"))
        assert.strictEqual(reason._tag, tag)
        assert.match(reason.detail, detail)
        assert.notInclude(heard(), "ms ", "no data is sent to whoever is no memcached")
      }))
  }

  const replies: ReadonlyArray<readonly [what: string, answer: string, tag: string]> = [
    ["no status line", "what?\r\n", "Protocol"],
    ["a line that ends too early", "HD\n", "Protocol"],
    ["a block of data that is longer than it says", "VA 2 c1\r\nabcd\r\n", "Protocol"],
    ["a block of data beyond all bounds", "VA 9999999999 c1\r\n", "Protocol"],
    ["a grant without a cas value", "HD\r\n", "Protocol"],
    ["a server without compare-and-swap", "HD c0\r\n", "Misconfigured"],
    ["two answers to one question", "NS\r\nEN\r\nHD c1\r\nHD c1\r\n", "Protocol"],
    ["a complaint about the command", "CLIENT_ERROR bad data chunk\r\n", "Protocol"],
    ["a record that is too large", "SERVER_ERROR object too large for cache\r\n", "Misconfigured"]
  ]
  for (const [what, answer, tag] of replies) {
    it.live(`${what}, in answer to an acquire, is ${tag} and no grant`, () =>
      Effect.gen(function*() {
        const { port } = yield* fakeServer((said, socket) => {
          const greeted = greeting(said)
          socket.write(greeted === "" ? answer : greeted)
        })
        const backend = yield* Memcached.make({ host, port })
        const error = yield* Effect.flip(tryAcquire(backend, "key", "a"))
        assert.strictEqual(error.reason._tag, tag, error.message)
      }))
  }

  it.live("a server that does not tell whether it evicts is looked at before anything is written", () =>
    Effect.gen(function*() {
      const { heard, port } = yield* fakeServer((said, socket) => {
        const greeted = `${said.includes("mn\r\n") ? "MN\r\n" : ""}${said.includes("stats") ? "ERROR\r\n" : ""}`
        socket.write(greeted === "" ? "SERVER_ERROR out of memory storing object\r\n" : greeted)
      })
      const backend = yield* Memcached.make({ host, port })
      assert.strictEqual((yield* reasonOf(tryAcquire(backend, "key", "a")))._tag, "Throttled")
      assert.match(heard(), /^mn\r\nstats settings\r\nmg effect-lock::key v c t\r\n$/)
    }))

  it.live("an answer that comes byte by byte is one answer", () =>
    Effect.gen(function*() {
      const record = JSON.stringify({
        ...{ v: 1, namespace: "", key: "key", ownerId: "héritière", grant: "1", since: 0, metadata: {} }
      })
      const { port } = yield* fakeServer((said, socket) => {
        const greeted = greeting(said)
        const answer = greeted === "" ? `VA ${Buffer.byteLength(record)} c7 t9\r\n${record}\r\n` : greeted
        const bytes = [...Buffer.from(answer)]
        const next = () => {
          const byte = bytes.shift()
          if (byte === undefined) return
          socket.write(Buffer.of(byte))
          setImmediate(next)
        }
        next()
      })
      const backend = yield* Memcached.make({ host, port })
      // A turn of the event loop for each byte: on a busy machine that takes a while.
      assert.strictEqual(yield* holderOf(backend, "key", patience), "héritière")
    }))

  it.live("the beginning of an answer that comes with the one before it is kept until the rest comes", () =>
    Effect.gen(function*() {
      let asked = 0
      let left = ""
      const { port } = yield* fakeServer((said, socket) => {
        if (greeting(said) !== "") return void socket.write(greeting(said))
        for (const [, key = ""] of said.matchAll(/^mg effect-lock::(\S+)/gm)) {
          const record = { v: 1, namespace: "", key, ownerId: `owner-of-${key}`, grant: "1", since: 0, metadata: {} }
          const text = JSON.stringify(record)
          left += `VA ${text.length} c7 t9\r\n${text}\r\n`
          if (++asked === 1) continue
          // The second ends in the middle of the value; its rest waits for the third question.
          const end = asked === 2 ? left.length - 40 : left.length
          socket.write(left.slice(0, end))
          left = left.slice(end)
        }
      })
      const backend = yield* Memcached.make({ host, port })
      const first = yield* Effect.forkChild(holderOf(backend, "a", patience), { startImmediately: true })
      const second = yield* Effect.forkChild(holderOf(backend, "b", patience), { startImmediately: true })
      assert.strictEqual(yield* Fiber.join(first), "owner-of-a")
      assert.strictEqual(yield* holderOf(backend, "c", patience), "owner-of-c")
      assert.strictEqual(yield* Fiber.join(second), "owner-of-b")
    }))

  it.live("whoever listens and says nothing is TimedOut", () =>
    Effect.gen(function*() {
      const { port } = yield* fakeServer(() => {})
      const backend = yield* Memcached.make({ host, port })
      const request = { key: "key", ownerId: "a", ttl, metadata: {}, willWait: true, budget: Duration.millis(300) }
      assert.strictEqual((yield* reasonOf(backend.tryAcquire(request)))._tag, "TimedOut")
    }))

  it.live("an echo of what was sent does not carry the password into an error", () =>
    Effect.gen(function*() {
      const { port } = yield* fakeServer((said, socket) => void socket.write(said))
      const backend = yield* Memcached.make({ url: `memcached://user:s3cret@${host}:${port}` })
      const error = yield* Effect.flip(tryAcquire(backend, "key", "a"))
      assert.strictEqual(error.reason._tag, "Protocol")
      assert.notInclude(`${error.message} ${String(error.stack)} ${JSON.stringify(error)}`, "s3cret")
    }))
})

describe.skipIf(withoutServer)("Memcached names and values", { concurrent: true }, () => {
  it.live("no key, namespace, owner id or metadata is read as a command", () =>
    Effect.gen(function*() {
      const { port } = yield* memcachedServer()
      yield* tcpAnswer(port, "set canary 0 0 1\r\n1\r\n")
      const attack = "x\r\nflush_all\r\nset canary 0 0 1\r\n0\r\n"
      for (const text of [attack, " x 0 0\r\n", "x\n", "\0", "\u2028", "k 0 0 1 noreply", "語".repeat(170)]) {
        // The namespace is checked; keys and owner ids are taken as they are, though the core would refuse some.
        const backend = yield* Memcached.make({ host, port, namespace: text.replaceAll(/\p{Cc}/gu, "?") })
        const metadata = { [text]: text }
        const request = { key: text, ownerId: text, ttl, metadata, willWait: true, budget }
        const reply = yield* backend.tryAcquire(request)
        assert(reply._tag === "Acquired")
        const [holder] = yield* backend.inspect({ key: text, budget })
        assert.strictEqual(holder?.ownerId, text)
        assert.deepStrictEqual(holder?.metadata, metadata)
        assert.strictEqual(yield* renew(backend, text, text, reply.handle), "Renewed")
        assert.strictEqual(yield* release(backend, text, text, reply.handle), "Released")
      }
      assert.include(yield* tcpAnswer(port, "get canary\r\n"), "\r\n1\r\n")
    }))

  it.live("the longest keys in the longest namespaces are locks of their own", () =>
    Effect.gen(function*() {
      const { port } = yield* memcachedServer()
      const namespaces = ["", "n".repeat(512), "N".repeat(512), `${"n".repeat(511)}m`, "語".repeat(170)]
      const held: Array<string> = []
      for (const [index, namespace] of namespaces.entries()) {
        const backend = yield* Memcached.make({ host, port, namespace })
        for (const key of BackendLaws.hostileKeys.slice(-12)) {
          yield* grant(backend, key, `${index}`)
          held.push(yield* holderOf(backend, key))
        }
      }
      assert.deepStrictEqual(held, namespaces.flatMap((_, index) => Array.from({ length: 12 }, () => `${index}`)))
      assert.strictEqual(yield* stat(port, "curr_items"), 60)
    }))

  it.live("a lock's item has a name that people can read, and an expiry", () =>
    Effect.gen(function*() {
      const { port } = yield* memcachedServer()
      const backend = yield* Memcached.make({ host, port, namespace: "billing" })
      yield* grant(backend, "invoices/2026-11", "a", { ttl: Duration.millis(9500) })
      const said = yield* tcpAnswer(port, "mg effect-lock:billing:invoices%2F2026-11 t\r\n")
      assert.match(said, /^HD t1[01]\r\n$/)
    }))

  it.live("an uncontended lock costs two commands, and a refusal two", () =>
    Effect.gen(function*() {
      const { port } = yield* memcachedServer()
      const backend = yield* Memcached.make({ host, port })
      yield* release(backend, "key", "a", yield* grant(backend, "key", "a"))
      // Sets, removals, looks.
      const commands = Effect.all([stat(port, "cmd_set"), stat(port, "delete_hits"), stat(port, "cmd_get")])
      const before = yield* commands
      yield* release(backend, "key", "a", yield* grant(backend, "key", "a"))
      const between = yield* commands
      assert.deepStrictEqual(between.map((count, index) => count - (before[index] ?? 0)), [1, 1, 0])
      yield* grant(backend, "key", "a")
      const held = yield* commands
      yield* tryAcquire(backend, "key", "b")
      assert.deepStrictEqual((yield* commands).map((count, index) => count - (held[index] ?? 0)), [1, 0, 1])
    }))
})

describe.skipIf(withoutServer)("Memcached sets up", { concurrent: true }, () => {
  it.live("with a user and a password, and says so when they are wrong or missing", () =>
    Effect.gen(function*() {
      const { port } = yield* serverProcess({
        name: "memcached",
        command: ({ directory, port }) => {
          writeFileSync(path.join(directory, "users"), "user:s3cret\n")
          return ["memcached", "-u", "root", "-l", host, "-p", String(port), "-U", "0", "-Y", `${directory}/users`]
        },
        answers: (port) => Effect.map(tcpAnswer(port, "mn\r\n"), (said) => said.startsWith("CLIENT_ERROR"))
      })
      yield* grant(yield* Memcached.make({ url: `memcached://user:s3cret@${host}:${port}` }), "key", "a")
      const auth = (password: string) => ({ username: "user", password: Redacted.make(password) })
      const right = yield* Memcached.make({ host, port, auth: auth("s3cret") })
      assert.strictEqual(yield* holderOf(right, "key"), "a")
      for (const options of [{}, { auth: auth("wr0ng") }]) {
        const error = yield* Effect.flip(tryAcquire(yield* Memcached.make({ host, port, ...options }), "key", "b"))
        assert.strictEqual(error.reason._tag, "Unauthorized")
        assert.notInclude(`${error.message} ${JSON.stringify(error)}`, "wr0ng")
      }
    }))

  it.live("with a user and a password for a server that does not ask for them, which does not keep them", () =>
    Effect.gen(function*() {
      const { port } = yield* memcachedServer()
      yield* grant(yield* Memcached.make({ url: `memcached://user:s3cret@${host}:${port}` }), "key", "a")
      assert.strictEqual(yield* tcpAnswer(port, "mg effect-lock-auth v\r\n"), "EN\r\n")
    }))

  it.live("not with a server that has no compare-and-swap, before anything is written", () =>
    Effect.gen(function*() {
      const { port } = yield* memcachedServer("-C")
      const reason = yield* reasonOf(tryAcquire(yield* Memcached.make({ host, port }), "key", "a"))
      assert.strictEqual(reason._tag, "Misconfigured")
      assert.include(reason.detail, "-C")
      assert.strictEqual(yield* stat(port, "total_items"), 0)
    }))

  it.live("on a Unix socket", () =>
    Effect.gen(function*() {
      let socket = ""
      yield* serverProcess({
        name: "memcached",
        command: ({ directory }) => {
          socket = path.join(directory, "memcached.sock")
          return ["memcached", "-u", "root", "-s", socket]
        },
        answers: () =>
          Effect.scoped(Effect.flatMap(Memcached.make({ path: socket }), (backend) =>
            Effect.isSuccess(backend.inspect({ key: "key", budget })))).pipe(Effect.orDie)
      })
      yield* grant(yield* Memcached.make({ path: socket }), "key", "a")
      const other = yield* Memcached.make({ url: `memcached://${socket}` })
      assert.strictEqual(yield* holderOf(other, "key"), "a")
    }))

  it.live("on a Unix socket, where silence is TimedOut too", () =>
    Effect.gen(function*() {
      const { path } = yield* fakeServer((said, socket) => void socket.write(greeting(said)), "socket")
      const backend = yield* Memcached.make({ path })
      const request = { key: "key", budget: Duration.millis(300) }
      assert.strictEqual((yield* reasonOf(backend.inspect(request)))._tag, "TimedOut")
      assert.strictEqual((yield* reasonOf(backend.inspect(request)))._tag, "TimedOut")
    }))

  it.live("over TLS, and not with a server that it can't trust", () =>
    Effect.gen(function*() {
      let ca = ""
      const { port } = yield* serverProcess({
        name: "memcached",
        command: ({ directory, port }) => {
          const file = (name: string) => path.join(directory, name)
          ca = certificate(file("key.pem"), file("cert.pem"))
          const tls = ["-Z", "-o", `ssl_chain_cert=${file("cert.pem")},ssl_key=${file("key.pem")}`]
          return ["memcached", "-u", "root", "-l", host, "-p", String(port), "-U", "0", ...tls]
        },
        answers: (port) =>
          Effect.scoped(Effect.flatMap(Memcached.make({ host, port, tls: { ca } }), (backend) =>
            Effect.isSuccess(backend.inspect({ key: "key", budget })))).pipe(Effect.orDie)
      })
      const backend = yield* Memcached.make({ host, port, tls: { ca } })
      yield* release(backend, "key", "a", yield* grant(backend, "key", "a"))
      const untrusting = yield* Memcached.make({ host, port, tls: true })
      assert.strictEqual((yield* reasonOf(tryAcquire(untrusting, "key", "a")))._tag, "Misconfigured")
    }))

  it.live("with options from configuration", () =>
    Effect.gen(function*() {
      const { port } = yield* memcachedServer()
      const layer = Memcached.layerConfig({
        url: Config.Redacted("LOCK_URL"),
        defaults: { ttl: Config.Duration("LOCK_TTL") }
      }).pipe(Layer.provide(ConfigProvider.layer(
        ConfigProvider.fromUnknown({ LOCK_URL: `memcached://${host}:${port}`, LOCK_TTL: "7 seconds" })
      )))
      yield* Effect.gen(function*() {
        const backend = yield* LockBackend
        assert.deepStrictEqual(backend.defaults?.ttl, Duration.seconds(7))
        yield* grant(backend, "key", "a")
      }).pipe(Effect.provide(layer))
    }))
})

describe("Memcached options that can't work are Misconfigured before anything is sent", () => {
  const secret = "s3cret"
  const wrong: ReadonlyArray<readonly [what: string, options: Memcached.Options, detail: RegExp]> = [
    ["no server", {}, /exactly one of url/],
    ["two servers", { host, url: "memcached://x" }, /exactly one of url/],
    ["a url of something else", { url: `redis://user:${secret}@x` }, /url must look like/],
    ["a url with a path", { url: `memcached://user:${secret}@x/1` }, /url must look like/],
    ["a url that is none", { url: secret }, /url must look like/],
    ["a url with a bad escape", { url: `memcached://u:${secret}%zz@x` }, /%25/],
    [
      "a url and auth",
      { url: `memcached://u:${secret}@x`, auth: { username: "u", password: secret } },
      /leave out auth/
    ],
    ["a url and a port", { url: "memcached://x", port: 1 }, /port goes with host/],
    ["a port out of range", { host, port: 65536 }, /port/],
    ["a host with a line break", { host: "x\r\nflush_all" }, /host/],
    ["a socket without a name", { path: "" }, /path/],
    ["a password of two words", { host, auth: { username: "u", password: `${secret} 2` } }, /blanks/],
    ["a password of two lines", { host, auth: { username: "u", password: `${secret}\r\nx` } }, /blanks/],
    ["a certificate that is none", { host, tls: { cert: secret, key: secret } }, /PEM/],
    ["a bad namespace", { host, namespace: "line\nbreak" }, /namespace/],
    ["a ttl below the floor", { host, defaults: { operationTimeout: "1 minute", ttl: "1 minute" } }, /defaults/]
  ]
  for (const [what, options, detail] of wrong) {
    it.effect(what, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Memcached.make(options))
        assert.strictEqual(error.operation, "build")
        assert.strictEqual(error.reason._tag, "Misconfigured")
        assert.match(error.reason.detail, detail)
        assert.notInclude(`${error.message} ${JSON.stringify(error)} ${String(error.stack)}`, secret)
      }))
  }
})

const certificate = (key: string, cert: string): string => {
  execFileSync("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"],
    ...["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert]
  ], { stdio: "ignore" })
  return readFileSync(cert, "utf8")
}

/** Real masters for the tests of Redlock, and backends on them. */
import { assert } from "@effect/vitest"
import { Duration, Effect, Option } from "effect"
import type { LockBackend, LockBackendError } from "effect-lock"
import * as Redlock from "effect-lock/layers/Redlock"
import { Redis } from "ioredis"
import type { Acquired, Held } from "../../../src/LockBackend.ts"
import { faultProxy } from "../../servers/FaultProxy.ts"
import { redisServer } from "../../servers/RedisServer.ts"

export type Service = LockBackend["Service"]

/** A master behind a proxy, and what it has. `locks`: the holders of the locks that it keeps, by Redis key. */
export const master = (...args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const server = yield* redisServer(...args)
    const proxy = yield* faultProxy(server.port)
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const client = new Redis(server.port, { lazyConnect: true, retryStrategy: () => 50 })
        client.on("error", () => {})
        return client
      }),
      (client) => Effect.sync(() => client.disconnect())
    )
    const locks = Effect.promise(async () => {
      const keys = await client.keys("effect-lock:redlock:*:l:*")
      const locks = await Promise.all(keys.map((key) => client.get(key)))
      return locks.map((lock) => lock?.split("|")[1] ?? null)
    })
    return { ...server, proxied: `redis://127.0.0.1:${proxy.port}`, proxy, client, locks }
  })

export type Master = Effect.Success<ReturnType<typeof master>>

/** So many of them. */
export const masters = (count: number, ...args: ReadonlyArray<string>) =>
  Effect.forEach(Array.from({ length: count }), () => master(...args), { concurrency: "unbounded" })

/** A backend through the proxies, that does not wait for masters that were started just now. */
export const backendOn = (of: ReadonlyArray<Master>, options: Omit<Redlock.Options, "nodes"> = {}) =>
  Redlock.make({
    nodes: of.map(({ proxied }) => proxied),
    restartGuard: false,
    perNodeTimeout: "3 seconds",
    ...options
  })

export const ttl = Duration.seconds(30)
const budget = Duration.seconds(30)

export const tryAcquire = (backend: Service, key: string, ownerId: string, lives = ttl) =>
  backend.tryAcquire({ key, ownerId, ttl: lives, metadata: {}, willWait: true, budget })

export const grantOf = (reply: Acquired | Held): Acquired => {
  assert(reply._tag === "Acquired", reply._tag === "Held" ? `held by ${reply.holders[0]?.ownerId}` : "")
  return reply
}

export const grant = (backend: Service, key: string, ownerId: string, lives = ttl) =>
  Effect.map(tryAcquire(backend, key, ownerId, lives), grantOf)

export const renew = (backend: Service, key: string, ownerId: string, handle: string, lives = ttl) =>
  Effect.map(
    backend.renew({ key, ownerId, handle, ttl: lives, budget }),
    (reply) => reply._tag === "Lost" ? reply.reason : reply._tag
  )

export const release = (backend: Service, key: string, ownerId: string, handle?: string) =>
  backend.release({ key, ownerId, handle: Option.fromUndefinedOr(handle), unanswered: handle === undefined, budget })

export const holderOf = (backend: Service, key: string) =>
  Effect.map(backend.inspect({ key, budget }), (holders) => holders.map(({ ownerId }) => ownerId).join())

export const reasonOf = <A>(self: Effect.Effect<A, LockBackendError>) =>
  Effect.map(Effect.flip(self), ({ reason }) => reason)

/** Asks until it is so. */
export const until = <E, R>(what: string, check: Effect.Effect<boolean, E, R>) =>
  Effect.gen(function*() {
    const deadline = performance.now() + 20_000
    while (!(yield* check)) {
      assert.isBelow(performance.now(), deadline, `it did not happen in time that ${what}`)
      yield* Effect.sleep("20 millis")
    }
  })

/** Nothing of anybody is left on these. */
export const allFree = (of: ReadonlyArray<Master>) =>
  until(
    "all masters are free",
    Effect.map(Effect.forEach(of, ({ locks }) => locks), (all) => all.flat().length === 0)
  )

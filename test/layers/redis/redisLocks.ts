/** A backend on a real server, its verbs in short, and a look behind its back. */
import { assert } from "@effect/vitest"
import { type Cause, Duration, Effect, Exit, Option, type Scope } from "effect"
import type { LockBackend } from "effect-lock"
import * as Redis from "effect-lock/layers/Redis"
import { Redis as Driver } from "ioredis"
import type { Acquired, Held } from "../../../src/LockBackend.ts"
import { redisServer } from "../../servers/RedisServer.ts"

export { isInstalled } from "../../servers/ServerProcess.ts"

export const budget = Duration.seconds(3)
export const ttl = Duration.seconds(20)

/** A client that looks at the server and does to it what others might. */
export const visitor = (port: number, password?: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const driver = new Driver({ port, host: "127.0.0.1", ...(password === undefined ? {} : { password }) })
        driver.on("error", () => {})
        return driver
      }),
      (driver) => Effect.sync(() => driver.disconnect())
    ),
    (driver) => {
      const call = (name: string, ...args: ReadonlyArray<string | number>) =>
        Effect.promise(() => driver.call(name, ...args) as Promise<unknown>)
      return {
        driver,
        call,
        keys: Effect.map(call("KEYS", "*"), (keys) => (keys as Array<string>).sort()),
        /** How often scripts ran so far. */
        scripts: Effect.map(call("INFO", "commandstats"), (text) => {
          const calls = (name: string) =>
            Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(String(text))?.[1] ?? 0)
          return calls("evalsha") + calls("eval")
        })
      }
    }
  )

/** A server, its visitor, and backends on it. */
export const start = (...args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const server = yield* redisServer(...args)
    return {
      server,
      visitor: yield* visitor(server.port),
      open: (options?: Partial<Redis.Options>): Effect.Effect<Verbs, never, Scope.Scope> =>
        Effect.map(Effect.orDie(Redis.make({ url: server.url, ...options } as Redis.Options)), verbs)
    }
  })

export type Verbs = ReturnType<typeof verbs>

/** The verbs of a backend on the key `k`, unless another is named. */
export const verbs = (backend: LockBackend["Service"]) => {
  const tryAcquire = (ownerId: string, options?: Partial<Parameters<typeof backend.tryAcquire>[0]>) =>
    backend.tryAcquire({ key: "k", ownerId, ttl, metadata: {}, willWait: false, budget, ...options })
  const release = (ownerId: string, options?: Partial<Parameters<typeof backend.release>[0]>) =>
    backend.release({ key: "k", ownerId, handle: Option.none(), unanswered: false, budget, ...options })
  return {
    backend,
    tryAcquire,
    acquire: (ownerId: string, options?: Partial<Parameters<typeof backend.tryAcquire>[0]>) =>
      Effect.map(tryAcquire(ownerId, options), granted),
    queue: (ownerId: string, options?: Partial<Parameters<typeof backend.tryAcquire>[0]>) =>
      Effect.map(tryAcquire(ownerId, { willWait: true, ...options }), refused),
    renew: (ownerId: string, handle: string) => backend.renew({ key: "k", ownerId, ttl, handle, budget }),
    release,
    awaitTurn: (ownerId: string) => {
      assert(backend.awaitTurn !== undefined)
      return backend.awaitTurn({ key: "k", ownerId })
    },
    holder: Effect.map(backend.inspect({ key: "k", budget }), (holders) => holders[0]?.ownerId),
    break: (ownerId: string, now: boolean) => {
      assert(backend.break !== undefined)
      return backend.break({ key: "k", ownerId, now, budget })
    }
  }
}

export const granted = (reply: Acquired | Held): Acquired => {
  assert(reply._tag === "Acquired", reply._tag === "Held" ? `held by ${reply.holders[0]?.ownerId}` : "")
  return reply
}
export const refused = (reply: Acquired | Held): Held => {
  assert(reply._tag === "Held", "it was acquired")
  return reply
}
export const tokenOf = (reply: Acquired): bigint => Option.getOrThrow(reply.fencingToken)

/** Looks again and again until it is so. */
export const until = <E, R>(what: string, isSo: Effect.Effect<boolean, E, R>) =>
  Effect.gen(function*() {
    const deadline = performance.now() + 20_000
    while (!(yield* isSo)) {
      assert.isBelow(performance.now(), deadline, `not in 20 seconds: ${what}`)
      yield* Effect.sleep("10 millis")
    }
  })

/** Within a generous bound, so that what hangs is told by name. */
export const inTime = <A, E, R>(what: string, self: Effect.Effect<A, E, R>) =>
  Effect.timeoutOrElse(self, {
    duration: "20 seconds",
    orElse: () => Effect.die(new Error(`not in 20 seconds: ${what}`))
  })

export const failureOf = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.exit(self), (exit): E => {
    assert(Exit.isFailure(exit), "it succeeded")
    return Option.getOrThrow(Exit.findErrorOption(exit as Exit.Exit<A, E> & { readonly cause: Cause.Cause<E> }))
  })

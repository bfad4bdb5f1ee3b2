/**
 * Locks in Redis or Valkey: one server, Sentinel, or a Cluster, behind one client.
 *
 * A verb is one script, so one round trip; waiters of different processes are served first come first, and told so by
 * the release itself. `internal/redisScripts.ts` is the protocol.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Cluster, Redis, RedisOptions } from "ioredis"
import * as LockBackend from "../LockBackend.ts"
import { type LockBackendError, Misconfigured } from "../LockError.ts"
import * as LockOptions from "../LockOptions.ts"
import { problemOf } from "./internal/layerOptions.ts"
import { connect, type Connection, type RedisClient } from "./internal/redisClient.ts"
import * as Keys from "./internal/redisKeys.ts"
import { list } from "./internal/redisListing.ts"
import * as Locks from "./internal/redisLocks.ts"
import { ServerCheck } from "./internal/redisServerCheck.ts"

// -----------------------------------------------------------------------------
// options
// -----------------------------------------------------------------------------

/**
 * Options of the Redis backend: one of `url`, `options` and `client`, and what else is needed.
 *
 * **Details**
 *
 * - `url`: `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS. It may be `Redacted`.
 * - `options`: of ioredis, for a client that this layer makes and closes: Sentinel, a certificate authority, a path.
 *   What decides whether a command may be sent late is set by the layer.
 * - `client`: a `Redis` or `Cluster` of ioredis that is yours: it is never closed or changed. Messages get a connection
 *   of their own, a `duplicate()`.
 * - `namespace`: keeps applications apart that share a server. Default `""`.
 * - `acceptEviction`: go on although the server may evict keys, and so locks. Default `false`: `Misconfigured`.
 * - `defaults`: option defaults of every lock of this backend; a call's own options and `LockDefaults` win.
 *
 * @category options
 */
export type Options =
  & (
    | { readonly url: string | Redacted.Redacted<string>; readonly client?: undefined; readonly options?: undefined }
    | { readonly options: RedisOptions; readonly client?: undefined; readonly url?: undefined }
    | { readonly client: Redis | Cluster; readonly options?: undefined; readonly url?: undefined }
  )
  & {
    readonly namespace?: string | undefined
    readonly acceptEviction?: boolean | undefined
    readonly defaults?: LockOptions.LockOptions | undefined
  }

/**
 * The part of the options that can come from configuration.
 *
 * @category options
 */
export interface ConfigOptions {
  readonly url: string | Redacted.Redacted<string>
  readonly namespace?: string | undefined
  readonly acceptEviction?: boolean | undefined
  readonly defaults?: Omit<LockOptions.LockOptions, "schedule"> | undefined
}

// -----------------------------------------------------------------------------
// layers
// -----------------------------------------------------------------------------

/**
 * Locks in Redis.
 *
 * **When to use**
 *
 * Processes on several machines that have a Redis or Valkey (6 or newer) in common, and work that can check a fencing
 * token, or stand it if a failover of Redis loses a lock.
 *
 * **Details**
 *
 * It connects at the first use, so a server that is down for a moment does not keep a program from starting. Fails with
 * `Misconfigured` if the options themselves are wrong.
 *
 * Waiters are served first come first across processes on a single server and with Sentinel; on a Cluster they poll.
 *
 * **Gotchas**
 *
 * - Replication is asynchronous: a failover may lose the last writes, and then there are two holders until the first
 *   one renews. The fencing token orders them, while the clocks of the servers agree.
 * - Redis counts ttls by its wall clock: a clock that is set forward ends leases early, before their holders know.
 * - A server without persistence that restarts has forgotten its locks: each holder learns at its next renewal.
 * - A server that evicts keys evicts locks; the layer refuses to work with one unless `acceptEviction` is set.
 * - A layer is built once per reference: bind `layer(…)` to a constant, else each use makes a connection.
 *
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<LockBackend.LockBackend, LockBackendError> =>
  Layer.effect(LockBackend.LockBackend, make(options))

/**
 * Locks in Redis, with options from configuration: `layerConfig({ url: Config.Redacted("REDIS_URL") })`.
 *
 * @category layers
 */
export const layerConfig = (
  options: Config.Wrap<ConfigOptions>
): Layer.Layer<LockBackend.LockBackend, LockBackendError | Config.ConfigError> =>
  Layer.effect(LockBackend.LockBackend, Effect.flatMap(Config.unwrap(options), make))

/**
 * Makes the backend itself, for a tag of your own (`Lock.on`).
 *
 * @category constructors
 */
export const make = (
  options: Options
): Effect.Effect<LockBackend.LockBackend["Service"], LockBackendError, Scope.Scope> =>
  Effect.flatMap(
    Effect.mapError(open(options), Locks.failed("build")),
    (locks) => LockBackend.LockBackend.make(implementation(locks, options))
  )

// -----------------------------------------------------------------------------
// implementation
// -----------------------------------------------------------------------------

const open = (options: Options): Effect.Effect<Locks.Locks, Misconfigured, Scope.Scope> =>
  Effect.gen(function*() {
    const connection = yield* connectionOf(options)
    const { acceptEviction = false, namespace = "" } = options
    const problem = problemOf(options, { minTtl, granularity: 1 })
    if (problem !== undefined) return yield* new Misconfigured({ detail: problem })
    const client = yield* connect(connection, "effect-lock")
    const names = Keys.make(namespace, client.keyPrefix)
    return Locks.make(client, names, new ServerCheck(client, acceptEviction), yield* Effect.scope)
  })

const connectionOf = ({ client, options, url }: Options): Effect.Effect<Connection, Misconfigured> => {
  const given = [url, options, client].filter((value) => value !== undefined)
  if (given.length === 1) {
    if (url !== undefined) return Effect.succeed({ url })
    if (options !== undefined) return Effect.succeed({ options })
    if (client !== undefined) return Effect.succeed({ client })
  }
  return Effect.fail(new Misconfigured({ detail: `pass one of url, options and client; there are ${given.length}` }))
}

const minTtl = 100

const capabilities = ({ kind }: RedisClient): LockBackend.Capabilities => ({
  minTtl: Duration.millis(minTtl),
  ttlGranularity: Duration.millis(1),
  fencing: {
    grade: "conditional",
    condition: "tokens grow while the server keeps its data; if it loses them (restart, failover, eviction), while the "
      + "clocks of the servers do not go back. Of two masters in a split brain, each counts for itself"
  },
  fair: kind === "standalone",
  lateWrites: "refused",
  drain: true,
  // One connection for all commands. The nodes of a cluster may send a command on to each other.
  ordered: kind === "standalone"
})

// Whose turn has come is told, so polls are for messages that were lost, and for holders and waiters that died. With
// its jitter (a fifth) no pause is longer than a claim window: a window that ends unclaimed is seen at its end.
const safetyPolls: LockOptions.WaitSchedule = Schedule.min([
  Schedule.exponential("1 second"),
  Schedule.spaced("1600 millis")
]).pipe(Schedule.jittered, LockOptions.blindly)

const implementation = (locks: Locks.Locks, options: Options): LockBackend.Implementation => {
  const { failed } = Locks
  const { inbox } = locks
  return {
    name: Locks.name,
    capabilities: capabilities(locks.client),
    defaults: inbox === undefined
      ? options.defaults
      : { ...options.defaults, schedule: options.defaults?.schedule ?? safetyPolls },
    tryAcquire: (request) => Effect.mapError(Locks.tryAcquire(locks, request), failed("acquire", request.key)),
    renew: (request) => Effect.mapError(Locks.renew(locks, request), failed("renew", request.key)),
    release: (request) => Effect.mapError(Locks.release(locks, request), failed("release", request.key)),
    inspect: ({ budget, key }) => Effect.mapError(Locks.inspect(locks, key, budget), failed("inspect", key)),
    awaitTurn: inbox === undefined ? undefined : ({ ownerId }) => inbox.awaitCall(Keys.escapeOwner(ownerId)),
    list: (keyPrefix) => Stream.mapError(list(locks.client, locks.names, keyPrefix), failed("list")),
    break: (request) => Effect.mapError(Locks.breakLock(locks, request), failed("break", request.key))
  }
}

/**
 * Locks on a majority of independent Redis masters (Redlock), with a fencing token that a majority has agreed to.
 *
 * `internal/quorum.ts` is the algorithm, free of Redis; `internal/redlockScripts.ts` is what each master does.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as LockBackend from "../LockBackend.ts"
import { type BackendReason, LockBackendError, Misconfigured } from "../LockError.ts"
import * as LockOptions from "../LockOptions.ts"
import { problemOf } from "./internal/layerOptions.ts"
import * as Quorum from "./internal/quorum.ts"
import * as Acquire from "./internal/quorumAcquire.ts"
import * as Verbs from "./internal/quorumVerbs.ts"
import * as Nodes from "./internal/redlockNodes.ts"

// -----------------------------------------------------------------------------
// options
// -----------------------------------------------------------------------------

/**
 * How one master is reached: a url (`redis://[user:password@]host[:port][/database]`, `rediss://` for TLS; it may be
 * `Redacted`), options of ioredis for a client that the layer makes and closes, or a client of ioredis that is yours and
 * is neither closed nor changed.
 *
 * @category options
 */
export type NodeOptions = Nodes.NodeOptions

/**
 * Options of the Redlock backend.
 *
 * **Details**
 *
 * - `nodes`: the masters, each a server of its own, without replicas that take over. An odd number, three or more; the
 *   same on every client.
 * - `namespace`: keeps applications apart that share the masters. Default `""`.
 * - `maxTtl`: the longest ttl of any client, the same on every client. A larger one is refused with `Misconfigured`.
 *   Default 5 minutes, at most a day.
 * - `restartGuard`: a master that was restarted does not vote until it has run for `maxTtl`: it may have forgotten
 *   leases, and by then they are over. Default `true`. Switch it off only for masters that lose nothing in a restart
 *   (`appendonly yes` and `appendfsync always`).
 * - `perNodeTimeout`: how long one master is waited for. Default a twentieth of the ttl, between 20 and 250 ms; never
 *   more than a third of `operationTimeout`.
 * - `drift`: the part of a ttl by which the clocks of masters and clients may differ while a lease lives. Masters are
 *   asked for that much more. Default 0.01.
 * - `defaults`: option defaults of every lock of this backend; a call's own options and `LockDefaults` win.
 *
 * @category options
 */
export interface Options {
  readonly nodes: ReadonlyArray<NodeOptions>
  readonly namespace?: string | undefined
  readonly maxTtl?: Duration.Input | undefined
  readonly restartGuard?: boolean | undefined
  readonly perNodeTimeout?: Duration.Input | undefined
  readonly drift?: number | undefined
  readonly defaults?: LockOptions.LockOptions | undefined
}

/**
 * The part of the options that can come from configuration.
 *
 * @category options
 */
export interface ConfigOptions extends Omit<Options, "nodes" | "defaults"> {
  readonly nodes: ReadonlyArray<string | Redacted.Redacted<string>>
  readonly defaults?: Omit<LockOptions.LockOptions, "schedule"> | undefined
}

export { QuorumNotReached } from "./internal/quorumFailure.ts"

// -----------------------------------------------------------------------------
// layers
// -----------------------------------------------------------------------------

/**
 * Locks on a majority of independent Redis masters.
 *
 * **When to use**
 *
 * Locking must go on when a master dies, and there is no etcd. If there is only one Redis, use `layers/Redis`: one
 * server with a fencing token that is checked is safer than five without.
 *
 * **Details**
 *
 * All masters are asked at once, and a majority decides: with two of five dead, stopped or unreachable, locks are taken
 * at the usual speed. Connects at the first use. Fails with `Misconfigured` if the options themselves are wrong, and if
 * two nodes are one server.
 *
 * A majority held by others is contention. Where too few masters take part, that is a `LockBackendError` whose `cause`
 * has each master's own reason; a lock that was granted by a majority, but not by all, is granted.
 *
 * **Gotchas**
 *
 * - A lock is lost or given twice if masters forget: restarts without persistence are guarded (`restartGuard`), but
 *   nothing guards against FLUSHALL, eviction, or a disk that lies. It relies on clocks of about the same rate, and on
 *   masters whose clocks are not set forward. Pass the fencing token to what the lock protects.
 * - Masters that were all started just now do not vote until `maxTtl` has passed. Set `restartGuard: false` where they
 *   hold nothing that matters, in development for instance.
 * - With an even number one master more has to answer than it would take; with two, both have to: worth no more than
 *   one.
 * - Changing `nodes` is safe only if every majority of the old list and every majority of the new one share a master:
 *   add or remove one at a time.
 * - A layer is built once per reference: bind `layer(…)` to a constant, else each use makes its connections.
 *
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<LockBackend.LockBackend, LockBackendError> =>
  Layer.effect(LockBackend.LockBackend, make(options))

/**
 * Locks on a majority of independent Redis masters, with options from configuration.
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
    Effect.mapError(open(options), toBackendError("build")),
    ({ defaults, quorum }) => LockBackend.LockBackend.make(implementation(quorum, defaults))
  )

// -----------------------------------------------------------------------------
// implementation
// -----------------------------------------------------------------------------

const name = "redlock"
const minTtl = 1000
const usualTtl = 30_000
const usualMaxTtl = 5 * 60_000
const longestMaxTtl = 24 * 3_600_000
const usualDrift = 0.01
const mostDrift = 0.1

const capabilities: LockBackend.Capabilities = {
  minTtl: Duration.millis(minTtl),
  ttlGranularity: Duration.millis(1),
  fencing: {
    grade: "conditional",
    condition: "tokens grow while no more than a minority of the masters forgets them (restart without persistence, "
      + "FLUSHALL, eviction); beyond that, while the masters' clocks agree better than maxTtl"
  },
  fair: false,
  lateWrites: "refused",
  drain: true
}

const toBackendError =
  (operation: LockBackendError["operation"], key?: string) => (reason: BackendReason): LockBackendError =>
    new LockBackendError({ backend: name, operation, ...(key === undefined ? {} : { key }), reason })

const open = (options: Options) =>
  Effect.gen(function*() {
    const { namespace = "", nodes, restartGuard = true } = options
    const maxTtl = yield* within("maxTtl", options.maxTtl ?? usualMaxTtl, minTtl, longestMaxTtl)
    const nodeTimeout = options.perNodeTimeout === undefined
      ? undefined
      : yield* within("perNodeTimeout", options.perNodeTimeout, 1, maxTtl)
    const drift = options.drift ?? usualDrift
    if (!(drift >= 0 && drift <= mostDrift)) {
      return yield* new Misconfigured({ detail: `drift must be a part of the ttl, from 0 to ${mostDrift}` })
    }
    const { ttl = Math.min(usualTtl, maxTtl) } = options.defaults ?? {}
    const defaults = { ...options.defaults, ttl }
    const problem = problemOf({ namespace, defaults }, { minTtl, granularity: 1 })
    if (problem !== undefined) return yield* new Misconfigured({ detail: problem })
    if (Duration.toMillis(ttl) > maxTtl) {
      const longest = Duration.format(Duration.millis(maxTtl))
      return yield* new Misconfigured({
        detail: `the layer's defaults: the ttl must not be more than maxTtl (${longest})`
      })
    }
    const masters = yield* Nodes.open(nodes, namespace)
    const quorum = yield* Quorum.make(masters, { drift, nodeTimeout, maxTtl, restartGuard })
    return { quorum, defaults }
  })

const within = (field: string, raw: Duration.Input, least: number, most: number) => {
  const resolved = LockOptions.resolveDuration(field, raw, { most, mostIs: Duration.format(Duration.millis(most)) })
  if (Result.isFailure(resolved)) return Effect.fail(new Misconfigured({ detail: resolved.failure.message }))
  if (resolved.success >= least) return Effect.succeed(resolved.success)
  const detail = `${field} must be at least ${Duration.format(Duration.millis(least))}`
  return Effect.fail(new Misconfigured({ detail }))
}

// Of one step of `list`, which has no budget of its own.
const listTimeout = 5000

const implementation = (
  quorum: Quorum.Quorum,
  defaults: LockOptions.LockOptions
): LockBackend.Implementation => ({
  name,
  capabilities,
  defaults,
  tryAcquire: (request) => Effect.mapError(Acquire.tryAcquire(quorum, request), toBackendError("acquire", request.key)),
  renew: (request) => Effect.mapError(Verbs.renew(quorum, request), toBackendError("renew", request.key)),
  release: (request) => Effect.mapError(Verbs.release(quorum, request), toBackendError("release", request.key)),
  inspect: (request) => Effect.mapError(Verbs.inspect(quorum, request), toBackendError("inspect", request.key)),
  list: (keyPrefix) =>
    Stream.mapError(Stream.fromIterableEffect(Verbs.list(quorum, keyPrefix, listTimeout)), toBackendError("list")),
  break: (request) => Effect.mapError(Verbs.breakLock(quorum, request), toBackendError("break", request.key))
})

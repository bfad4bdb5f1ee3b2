/**
 * Locks in a memcached, over its meta protocol: advisory, and without fencing tokens.
 *
 * A memcached forgets: when it is restarted, when it is flushed, and when it needs room. Two processes can then hold one
 * lock until the first of them renews. For work that is merely wasteful to do twice.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as LockBackend from "../LockBackend.ts"
import { type BackendReason, LockBackendError, Misconfigured } from "../LockError.ts"
import type * as LockOptions from "../LockOptions.ts"
import { problemOf } from "./internal/layerOptions.ts"
import * as Address from "./internal/memcachedAddress.ts"
import * as Connection from "./internal/memcachedConnection.ts"
import * as Grant from "./internal/memcachedGrant.ts"

// -----------------------------------------------------------------------------
// options
// -----------------------------------------------------------------------------

/**
 * Options of the memcached backend.
 *
 * **Details**
 *
 * - `url`: `memcached://host:11211`, `memcached://user:password@host:11211`, or `memcached:///run/memcached.sock`. Or
 *   `host` and `port` (default 11211), or `path` of a Unix socket: exactly one of the three.
 * - `auth`: for a server that was started with `-Y` (authentication of the text protocol). SASL is not supported: it
 *   belongs to the binary protocol.
 * - `tls`: `true`, or what to trust and to show, as PEM: `ca`, `cert`, `key`, `servername`.
 * - `namespace`: keeps applications apart that share a server. Default `""`.
 * - `defaults`: option defaults of every lock of this backend; a call's own options and `LockDefaults` win.
 *
 * **Gotchas**
 *
 * One server. A ring of servers is no lock: when it changes, two processes ask two servers.
 *
 * @category options
 */
export interface Options {
  readonly url?: string | Redacted.Redacted<string> | undefined
  readonly host?: string | undefined
  readonly port?: number | undefined
  readonly path?: string | undefined
  readonly auth?: {
    readonly username: string
    readonly password: string | Redacted.Redacted<string>
  } | undefined
  readonly tls?: boolean | {
    readonly ca?: string | undefined
    readonly cert?: string | undefined
    readonly key?: string | Redacted.Redacted<string> | undefined
    readonly servername?: string | undefined
  } | undefined
  readonly namespace?: string | undefined
  readonly defaults?: LockOptions.LockOptions | undefined
}

/**
 * The part of the options that can come from configuration.
 *
 * @category options
 */
export interface ConfigOptions extends Omit<Options, "defaults"> {
  readonly defaults?: Omit<LockOptions.LockOptions, "schedule"> | undefined
}

// -----------------------------------------------------------------------------
// layers
// -----------------------------------------------------------------------------

/**
 * Locks in a memcached.
 *
 * **When to use**
 *
 * A memcached is there anyway, and the lock only saves work: one worker refreshes the cache, the others wait.
 *
 * **Details**
 *
 * Takes and gives back in one command each. Connects when it is first asked, and again when the connection was lost.
 * Fails with `Misconfigured` if the options are wrong; nothing is sent before they are checked.
 *
 * **Gotchas**
 *
 * - A lock is lost without a word when the server is restarted or flushed, and when it evicts items to make room for
 *   others. The holder is told at its next renewal, `Gone` or `Taken`; until then somebody else may hold the lock too,
 *   and there is no fencing token to tell them apart.
 * - With `-M` the server refuses instead of evicting, but a refused renewal takes the lock's record with it all the
 *   same: give the locks a server of their own, with room to spare.
 * - What a process that gave up has sent may arrive late, and then holds the lock until its ttl ends.
 * - Least ttl: 2 seconds. Leases end up to two seconds late, because the server counts whole seconds.
 *
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<LockBackend.LockBackend, LockBackendError> =>
  Layer.effect(LockBackend.LockBackend, make(options))

/**
 * Locks in a memcached, with options from configuration.
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
  Effect.gen(function*() {
    const address = yield* Effect.mapError(Effect.fromResult(check(options)), toBackendError("build"))
    const id = Hex.encode(globalThis.crypto.getRandomValues(new Uint8Array(12)))
    const connection = yield* Connection.make(address, id)
    const locks: Grant.Locks = { connection, namespace: options.namespace ?? "", grants: 0 }
    return yield* LockBackend.LockBackend.make(implementation(locks, options))
  })

// -----------------------------------------------------------------------------
// implementation
// -----------------------------------------------------------------------------

const name = "memcached"

const capabilities: LockBackend.Capabilities = {
  minTtl: Duration.seconds(2),
  ttlGranularity: Duration.seconds(1),
  fencing: {
    grade: "none",
    condition: "a memcached has no number that survives its restart, nor one that it can't evict"
  },
  fair: false,
  lateWrites: "untilTtl",
  drain: true,
  // One connection, and the server answers it in order.
  ordered: true
}

const check = (options: Options): Result.Result<Address.Address, Misconfigured> => {
  const problem = problemOf(options, {
    minTtl: Duration.toMillis(capabilities.minTtl),
    granularity: Duration.toMillis(capabilities.ttlGranularity)
  })
  return problem === undefined ? Address.read(options) : Result.fail(new Misconfigured({ detail: problem }))
}

const toBackendError =
  (operation: LockBackendError["operation"], key?: string) => (reason: BackendReason): LockBackendError =>
    new LockBackendError({ backend: name, operation, ...(key === undefined ? {} : { key }), reason })

const implementation = (locks: Grant.Locks, options: Options): LockBackend.Implementation => ({
  name,
  capabilities,
  defaults: options.defaults,
  tryAcquire: (request) => Effect.mapError(Grant.tryAcquire(locks, request), toBackendError("acquire", request.key)),
  renew: (request) => Effect.mapError(Grant.renew(locks, request), toBackendError("renew", request.key)),
  release: (request) => Effect.mapError(Grant.release(locks, request), toBackendError("release", request.key)),
  inspect: (request) => Effect.mapError(Grant.inspect(locks, request), toBackendError("inspect", request.key)),
  break: (request) => Effect.mapError(Grant.breakLock(locks, request), toBackendError("break", request.key))
})

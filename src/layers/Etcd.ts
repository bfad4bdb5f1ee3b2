/**
 * Locks in etcd: leases whose time etcd keeps, an order of all grants, and a watch that wakes whoever waits.
 *
 * Spoken over etcd's own JSON gateway with Effect's `HttpClient`: provide `NodeHttpClient.layerUndici` of
 * `@effect/platform-node`, `FetchHttpClient.layer`, or another platform's; or use `layerNode`.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as LockBackend from "../LockBackend.ts"
import { type LockBackendError, Misconfigured } from "../LockError.ts"
import type * as LockOptions from "../LockOptions.ts"
import { type EtcdFailure, toBackendError } from "./internal/etcdFailure.ts"
import { type Gateway, limitsOf, make as makeGateway } from "./internal/etcdGateway.ts"
import * as Grant from "./internal/etcdGrant.ts"
import { keyOf, namesOf, read } from "./internal/etcdRecord.ts"
import * as Requests from "./internal/etcdRequests.ts"
import { makeClient } from "./internal/etcdTls.ts"
import { awaitTurn } from "./internal/etcdWatch.ts"
import { problemOf } from "./internal/layerOptions.ts"
import * as Tombstones from "./internal/tombstones.ts"

// -----------------------------------------------------------------------------
// options
// -----------------------------------------------------------------------------

/**
 * Options of the etcd backend.
 *
 * **Details**
 *
 * - `endpoints`: client URLs of members of one cluster, such as `["http://10.0.0.1:2379", "http://10.0.0.2:2379"]`. One
 *   is asked until it does not answer, then the next.
 * - `auth`: user and password, where etcd's authentication is enabled. Not in the URLs.
 * - `namespace`: keeps applications apart that share a cluster. Default `""`.
 * - `defaults`: option defaults of every lock of this backend; a call's own options and `LockDefaults` win.
 *
 * @category options
 */
export interface Options {
  readonly endpoints: ReadonlyArray<string>
  readonly auth?: Auth | undefined
  readonly namespace?: string | undefined
  readonly defaults?: LockOptions.LockOptions | undefined
}

/**
 * A user of etcd.
 *
 * @category options
 */
export interface Auth {
  readonly user: string
  readonly password: Redacted.Redacted<string>
}

/**
 * What a TLS connection needs beyond the system's certificates: texts in PEM, not names of files.
 *
 * **Details**
 *
 * - `ca`: the authorities that sign the members' certificates, instead of the system's.
 * - `cert` and `key`: the certificate of this client, for members that ask for one (`--client-cert-auth`).
 *
 * **Gotchas**
 *
 * Over the JSON gateway a client certificate opens the connection and no more: etcd takes no user from it. Where
 * authentication is enabled, pass `auth` too.
 *
 * @category options
 */
export interface Tls {
  readonly ca?: string | undefined
  readonly cert?: string | undefined
  readonly key?: Redacted.Redacted<string> | undefined
}

/**
 * Options of `layerNode`.
 *
 * @category options
 */
export interface NodeOptions extends Options {
  readonly tls?: Tls | undefined
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
 * Locks in etcd.
 *
 * **When to use**
 *
 * Several machines and an etcd 3.4 or newer; above all where the fencing token has to be strict: it is the revision that
 * created the lock's key, which a majority has agreed on before anybody gets it.
 *
 * **Details**
 *
 * Needs an `HttpClient` as it comes: no retries, no status filter, no base URL. Connects with the first request. The least
 * ttl is 5 seconds; etcd's leases are whole seconds, so a ttl is rounded up.
 *
 * Fails with `Misconfigured` if the options are wrong.
 *
 * **Gotchas**
 *
 * - A lease is only as good as its cluster: a restore from a snapshot sets revisions back, and with them fencing tokens
 *   and locks. Stop what holds locks first.
 * - All endpoints must belong to one cluster. Another cluster's answer is refused as `Misconfigured`.
 * - `Lock.break` frees at once (`{ now: true }`); its holder learns at its next renewal, and overlaps until then.
 * - After a change of leaders etcd gives every lease its whole ttl again: what a dead holder left may last longer.
 *
 * @category layers
 */
export const layer = (
  options: Options
): Layer.Layer<LockBackend.LockBackend, LockBackendError, HttpClient.HttpClient> =>
  Layer.effect(LockBackend.LockBackend, make(options))

/**
 * Locks in etcd, with options from configuration.
 *
 * @category layers
 */
export const layerConfig = (
  options: Config.Wrap<ConfigOptions>
): Layer.Layer<LockBackend.LockBackend, LockBackendError | Config.ConfigError, HttpClient.HttpClient> =>
  Layer.effect(LockBackend.LockBackend, Effect.flatMap(Config.unwrap(options), make))

/**
 * Locks in etcd with an HTTP client of their own, for Node: TLS with a private authority, client certificates.
 *
 * **Details**
 *
 * Loads the optional peer dependency `@effect/platform-node`; fails with `Misconfigured` if it is not installed.
 *
 * @category layers
 */
export const layerNode = (options: NodeOptions): Layer.Layer<LockBackend.LockBackend, LockBackendError> =>
  Layer.effect(
    LockBackend.LockBackend,
    makeClient(options.tls ?? {}).pipe(
      Effect.mapError(toBackendError("build")),
      Effect.flatMap((client) => Effect.provideService(make(options), HttpClient.HttpClient, client))
    )
  )

/**
 * Makes the backend itself, for a tag of your own (`Lock.on`).
 *
 * **Gotchas**
 *
 * The `HttpClient` must live as long as the backend: `Effect.provide(make(…), NodeHttpClient.layerUndici)` closes it as
 * soon as the backend is made. Provide it around the whole program, or with `Layer.provide` to a layer.
 *
 * @category constructors
 */
export const make = (
  options: Options
): Effect.Effect<LockBackend.LockBackend["Service"], LockBackendError, HttpClient.HttpClient | Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* HttpClient.HttpClient
    const endpoints = yield* Effect.mapError(check(options), toBackendError("build"))
    const { auth, namespace = "" } = options
    return yield* LockBackend.LockBackend.make(implementation({
      gateway: makeGateway({ client, endpoints, auth }),
      names: namesOf(namespace),
      dead: Tombstones.make(),
      contended: new Set(),
      leased: new Set(),
      uncertain: new Set()
    }, options.defaults))
  })

// -----------------------------------------------------------------------------
// implementation
// -----------------------------------------------------------------------------

const minTtl = 5000

const check = (options: Options): Effect.Effect<ReadonlyArray<string>, Misconfigured> =>
  Effect.gen(function*() {
    const wrong = (detail: string) => Effect.fail(new Misconfigured({ detail }))
    const { auth, defaults, endpoints, namespace = "" } = options
    if (!Array.isArray(endpoints) || endpoints.length === 0) {
      return yield* wrong("endpoints must be client URLs of etcd, such as [\"http://127.0.0.1:2379\"]")
    }
    const urls: Array<string> = []
    for (const [index, endpoint] of endpoints.entries()) {
      const url = typeof endpoint === "string" && URL.canParse(endpoint) ? new URL(endpoint) : undefined
      if (url === undefined || !/^https?:$/.test(url.protocol) || url.search !== "" || url.hash !== "") {
        return yield* wrong(`endpoints[${index}] must be a URL with http or https, such as "http://127.0.0.1:2379"`)
      }
      if (url.username !== "" || url.password !== "") {
        return yield* wrong(`endpoints[${index}] carries credentials: pass auth: { user, password } instead`)
      }
      urls.push(url.href.replace(/\/+$/, ""))
    }
    if (
      auth !== undefined && (typeof auth.user !== "string" || auth.user === "" || !Redacted.isRedacted(auth.password))
    ) {
      return yield* wrong("auth must be { user, password }, the password as Redacted.make(…) of effect/Redacted")
    }
    const problem = problemOf({ defaults, namespace }, { minTtl, granularity: 0 })
    return problem === undefined ? urls : yield* wrong(problem)
  })

const capabilities: LockBackend.Capabilities = {
  // etcd's own floor is 2 seconds with its default election timeout; a renewal must fit in twice an election.
  minTtl: Duration.millis(minTtl),
  ttlGranularity: Duration.zero,
  fencing: { grade: "strict" },
  fair: false,
  lateWrites: "refused",
  drain: false
}

const implementation = (
  etcd: Grant.Etcd,
  defaults: LockOptions.LockOptions | undefined
): LockBackend.Implementation => ({
  name: "etcd",
  capabilities,
  defaults,
  tryAcquire: (request) => Effect.mapError(Grant.acquire(etcd, request), toBackendError("acquire", request.key)),
  renew: (request) => Effect.mapError(Grant.renew(etcd, request), toBackendError("renew", request.key)),
  release: (request) => Effect.mapError(Grant.release(etcd, request), toBackendError("release", request.key)),
  inspect: ({ budget, key }) => Effect.mapError(inspect(etcd, key, budget), toBackendError("inspect", key)),
  awaitTurn: ({ key }) =>
    Effect.mapError(awaitTurn(etcd.gateway, etcd.names.locks + key), toBackendError("awaitTurn", key)),
  list: (keyPrefix) => Stream.mapError(heldKeys(etcd, keyPrefix), toBackendError("list")),
  break: (request) =>
    request.now
      ? Effect.mapError(Grant.breakLock(etcd, request), toBackendError("break", request.key))
      : Effect.fail(
        toBackendError("break", request.key)(
          new Misconfigured({ detail: "etcd can't drain a lock; break it with { now: true }" })
        )
      )
})

const inspect = ({ gateway, names }: Grant.Etcd, key: string, budget: Duration.Duration) =>
  Effect.gen(function*() {
    const limits = yield* limitsOf(budget)
    const { found } = yield* Requests.look(gateway, limits, names.locks + key)
    if (found === undefined) return []
    const seconds = yield* Requests.timeToLive(gateway, limits, found.lease)
    return [{ ...found.holder, remaining: seconds > 0 ? Option.some(Duration.seconds(seconds)) : Option.none() }]
  })

const pageSize = 256

const pageBudget = Duration.seconds(5)

const heldKeys = (
  { gateway, names }: { readonly gateway: Gateway; readonly names: Grant.Etcd["names"] },
  keyPrefix: string
): Stream.Stream<LockBackend.HeldKey, EtcdFailure> => {
  const prefix = names.locks + keyPrefix
  return Stream.paginate(prefix, (from) =>
    Effect.gen(function*() {
      const limits = yield* limitsOf(pageBudget)
      const { kvs, more } = yield* Requests.lookAll(gateway, limits, { from, prefix, limit: pageSize })
      const held: Array<LockBackend.HeldKey> = []
      let last: string | undefined
      for (const kv of kvs) {
        last = keyOf(kv)
        held.push({ key: last.slice(names.locks.length), holders: [(yield* read(kv)).holder] })
      }
      // The next key in the order of bytes is the last one with a zero byte behind it.
      return [held, more && last !== undefined ? Option.some(`${last}\0`) : Option.none()] as const
    }))
}

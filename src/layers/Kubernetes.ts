/**
 * Locks as Lease objects of a Kubernetes API server (`coordination.k8s.io/v1`), the objects that its own leader elections
 * use: `kubectl get leases` shows who holds what.
 *
 * HTTP is Effect's own service: provide a plain `HttpClient`, without retries, status filter or base URL. `layerInCluster`
 * and `layerKubeconfig` bring one of their own, because it has to know the cluster's certificates.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as LockBackend from "../LockBackend.ts"
import { type BackendReason, type LockBackendError, Misconfigured } from "../LockError.ts"
import * as LockOptions from "../LockOptions.ts"
import * as Api from "./internal/kubernetesApi.ts"
import * as End from "./internal/kubernetesEnd.ts"
import { toBackendError } from "./internal/kubernetesFailure.ts"
import * as Grant from "./internal/kubernetesGrant.ts"
import { isOf, noteOf } from "./internal/kubernetesLease.ts"
import { placeOf } from "./internal/kubernetesName.ts"
import * as Node from "./internal/kubernetesNode.ts"
import * as Store from "./internal/kubernetesStore.ts"
import * as Token from "./internal/kubernetesToken.ts"
import { awaitTurn } from "./internal/kubernetesWatch.ts"
import { label } from "./internal/kubernetesWrite.ts"
import { problemOf } from "./internal/layerOptions.ts"

// -----------------------------------------------------------------------------
// options
// -----------------------------------------------------------------------------

/**
 * Options that every layer of this module has.
 *
 * **Details**
 *
 * - `namespace`: keeps applications apart that share a Kubernetes namespace. Default `""`.
 * - `expiry`: what decides that a lease is over whose holder does not renew it.
 *   - `"observed"` (default): it was seen unchanged for its duration on our own clock. No two clocks need to agree. A
 *     process that comes later starts to count at its first look.
 *   - `"serverDate"`: the same, or the API server's `Date`, by which holders of this library note their renewals, says
 *     so. A dead holder is replaced up to one ttl sooner. All API servers must then have the same time to a second. It
 *     is never applied to leases of other software.
 * - `defaults`: option defaults of every lock of this backend; a call's own options and `LockDefaults` win.
 *
 * @category options
 */
export interface CommonOptions {
  readonly namespace?: string | undefined
  readonly expiry?: "observed" | "serverDate" | undefined
  readonly defaults?: LockOptions.LockOptions | undefined
}

/**
 * Options of `layer`: an API server that the program's own `HttpClient` can reach.
 *
 * **Details**
 *
 * - `endpoint`: `"https://host:port"`, with a path if the server has one.
 * - `kubernetesNamespace`: the namespace that the Lease objects are in.
 * - `token`: a bearer token, or an effect that reads it, which is run each minute and when the server refuses the token.
 *   Absent: none is sent (`kubectl proxy`).
 *
 * @category options
 */
export interface Options extends CommonOptions {
  readonly endpoint: string
  readonly kubernetesNamespace: string
  readonly token?: Redacted.Redacted<string> | Effect.Effect<Redacted.Redacted<string>, unknown> | undefined
}

/**
 * The part of the options that can come from configuration.
 *
 * @category options
 */
export interface ConfigOptions extends Omit<Options, "defaults" | "token"> {
  readonly token?: Redacted.Redacted<string> | undefined
  readonly defaults?: Omit<LockOptions.LockOptions, "schedule"> | undefined
}

/**
 * Options of `layerInCluster`; all have defaults in a pod.
 *
 * **Details**
 *
 * - `kubernetesNamespace`: default: the pod's own.
 * - `endpoint`: default: from `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`.
 * - `directory`: where the service account's `token`, `ca.crt` and `namespace` are.
 *
 * @category options
 */
export interface InClusterOptions extends CommonOptions {
  readonly kubernetesNamespace?: string | undefined
  readonly endpoint?: string | undefined
  readonly directory?: string | undefined
}

/**
 * Options of `layerKubeconfig`.
 *
 * **Details**
 *
 * - `path`: default: where kubectl looks (`KUBECONFIG`, `~/.kube/config`).
 * - `context`: default: the file's current one.
 * - `kubernetesNamespace`: default: the context's, else `"default"`.
 *
 * @category options
 */
export interface KubeconfigOptions extends CommonOptions {
  readonly path?: string | undefined
  readonly context?: string | undefined
  readonly kubernetesNamespace?: string | undefined
}

// -----------------------------------------------------------------------------
// layers
// -----------------------------------------------------------------------------

/**
 * Locks as Lease objects, through the program's own `HttpClient`.
 *
 * **When to use**
 *
 * Programs that run in a cluster and have nothing else in common: no server of their own is needed. Locks that are held
 * for seconds to days; each acquisition costs the API server two writes, and each renewal one.
 *
 * **Details**
 *
 * Least ttl 5 seconds. Fails with `Misconfigured` if an option is wrong; connects lazily. In a pod, `layerInCluster` is
 * shorter.
 *
 * **Gotchas**
 *
 * - Who deletes a Lease object takes the lock away: its holder finds out at its next renewal.
 * - Fencing tokens are resource versions: they grow, unless the cluster's etcd is restored from a backup.
 * - Each key leaves a Lease object for good. Don't make keys of unbounded variety.
 * - An `HttpClient` that retries by itself, follows redirects or fails on a status breaks the protocol.
 *
 * @category layers
 */
export const layer = (
  options: Options
): Layer.Layer<LockBackend.LockBackend, LockBackendError, HttpClient.HttpClient> =>
  Layer.effect(LockBackend.LockBackend, make(options))

/**
 * Locks as Lease objects, with options from configuration.
 *
 * @category layers
 */
export const layerConfig = (
  options: Config.Wrap<ConfigOptions>
): Layer.Layer<LockBackend.LockBackend, LockBackendError | Config.ConfigError, HttpClient.HttpClient> =>
  Layer.effect(LockBackend.LockBackend, Effect.flatMap(Config.unwrap(options), make))

/**
 * Locks as Lease objects, from within a pod.
 *
 * **When to use**
 *
 * In a pod whose service account may get, create, update and watch leases.
 *
 * **Details**
 *
 * Brings its own HTTP client, which trusts the cluster's CA: it loads the optional peer `@effect/platform-node`. The
 * projected token is read again each minute, because the kubelet rotates it. Fails with `Misconfigured` outside of a pod.
 *
 * **Gotchas**
 *
 * As for `layer`. The CA is read once: after its rotation the program must be restarted.
 *
 * @category layers
 */
export const layerInCluster = (options?: InClusterOptions): Layer.Layer<LockBackend.LockBackend, LockBackendError> =>
  Layer.effect(LockBackend.LockBackend, makeInCluster(options))

/**
 * Locks as Lease objects, with a kubeconfig file: from a developer's machine, or another cluster.
 *
 * **Details**
 *
 * Loads the optional peers `@kubernetes/client-node` (to read the file; it knows tokens, certificates, OIDC and exec
 * plugins) and `@effect/platform-node` (to connect). What the credentials give is asked for again each minute. A
 * proxy-url and impersonation are refused as `Misconfigured`.
 *
 * **Gotchas**
 *
 * As for `layer`. Client certificates are read once.
 *
 * @category layers
 */
export const layerKubeconfig = (options?: KubeconfigOptions): Layer.Layer<LockBackend.LockBackend, LockBackendError> =>
  Layer.effect(LockBackend.LockBackend, makeKubeconfig(options))

/**
 * Makes the backend itself, for a tag of your own (`Lock.on`).
 *
 * @category constructors
 */
export const make = (
  options: Options
): Effect.Effect<LockBackend.LockBackend["Service"], LockBackendError, HttpClient.HttpClient | Scope.Scope> =>
  Effect.flatMap(HttpClient.HttpClient, (client) => {
    const { endpoint, kubernetesNamespace, token } = options
    return open({ endpoint, kubernetesNamespace, token: tokenOf(token), client }, options)
  })

/**
 * `layerInCluster` as a constructor, for a tag of your own.
 *
 * @category constructors
 */
export const makeInCluster = (
  options: InClusterOptions = {}
): Effect.Effect<LockBackend.LockBackend["Service"], LockBackendError, Scope.Scope> =>
  Effect.flatMap(
    Effect.mapError(Node.inCluster(options), toBackendError("build")),
    (connection) => open(connection, options)
  )

/**
 * `layerKubeconfig` as a constructor, for a tag of your own.
 *
 * @category constructors
 */
export const makeKubeconfig = (
  options: KubeconfigOptions = {}
): Effect.Effect<LockBackend.LockBackend["Service"], LockBackendError, Scope.Scope> =>
  Effect.flatMap(
    Effect.mapError(Node.kubeconfig(options), toBackendError("build")),
    (connection) => open(connection, options)
  )

// -----------------------------------------------------------------------------
// implementation
// -----------------------------------------------------------------------------

const minTtl = Duration.seconds(5)

const capabilities: LockBackend.Capabilities = {
  minTtl,
  // Durations are rounded up to whole seconds, so nothing is lost by them.
  ttlGranularity: Duration.zero,
  fencing: {
    grade: "conditional",
    condition:
      "tokens grow as long as the cluster's etcd is not restored from a backup, which rewinds resource versions"
  },
  fair: false,
  lateWrites: "refused",
  drain: true
}

const defaults: LockOptions.LockOptions = {
  ttl: "30 seconds",
  // A watch wakes whoever waits; polls only find out that a holder died, and cost the API server something.
  schedule: Schedule.min([Schedule.exponential("250 millis"), Schedule.spaced("5 seconds")]).pipe(
    LockOptions.fullJitter
  )
}

const tokenOf = (token: Options["token"]): Token.Token =>
  Effect.isEffect(token) ? Token.rotating(token) : Token.fixed(token)

const open = (
  connection: Node.Connection,
  options: CommonOptions
): Effect.Effect<LockBackend.LockBackend["Service"], LockBackendError, Scope.Scope> =>
  Effect.gen(function*() {
    const { namespace = "", expiry = "observed" } = options
    const given = Object.entries(options.defaults ?? {}).filter(([, value]) => value !== undefined)
    const merged: LockOptions.LockOptions = { ...defaults, ...Object.fromEntries(given) }
    const endpoint = yield* check(connection, { namespace, expiry, defaults: merged })
    const store = yield* Store.make({ ...connection, endpoint }, namespace, expiry)
    return yield* LockBackend.LockBackend.make(implementation(store, merged))
  }).pipe(Effect.mapError(toBackendError("build")))

// The endpoint without a slash at its end, if all is well.
const check = (
  { endpoint, kubernetesNamespace, token }: Node.Connection,
  { defaults, expiry, namespace }: Required<CommonOptions>
): Effect.Effect<string, Misconfigured> => {
  const refuse = (detail: string) => Effect.fail(new Misconfigured({ detail }))
  const url = typeof endpoint === "string" && URL.canParse(endpoint) ? new URL(endpoint) : undefined
  if (
    url === undefined || !/^https?:$/.test(url.protocol) ||
    `${url.username}${url.password}${url.search}${url.hash}` !== ""
  ) {
    return refuse("endpoint must be the URL of an API server, such as \"https://10.0.0.1:6443\", without credentials")
  }
  if (url.protocol === "http:" && !isLoopback(url.hostname) && token.isSent) {
    return refuse("endpoint must be https, because a token is sent: everybody on the way could read it")
  }
  if (typeof kubernetesNamespace !== "string" || !/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(kubernetesNamespace)) {
    return refuse("kubernetesNamespace must be the name of a namespace of Kubernetes, such as \"default\"")
  }
  if (expiry !== "observed" && expiry !== "serverDate") {
    return refuse("expiry must be \"observed\" or \"serverDate\"")
  }
  const problem = problemOf({ defaults, namespace }, { minTtl: Duration.toMillis(minTtl), granularity: 0 })
  return problem === undefined ? Effect.succeed(url.href.replace(/\/+$/, "")) : refuse(problem)
}

const isLoopback = (hostname: string): boolean => /^(localhost|127\.[0-9.]+|\[::1\])$/.test(hostname)

const implementation = (store: Store.Store, defaults: LockOptions.LockOptions): LockBackend.Implementation => ({
  name: "kubernetes",
  capabilities,
  defaults,
  tryAcquire: (request) => Effect.mapError(Grant.acquire(store, request), toBackendError("acquire", request.key)),
  renew: (request) => Effect.mapError(Grant.renew(store, request), toBackendError("renew", request.key)),
  release: (request) => Effect.mapError(End.release(store, request), toBackendError("release", request.key)),
  inspect: ({ budget, key }) =>
    Effect.gen(function*() {
      const seen = yield* Grant.read(store, yield* Store.targetOf(store, key), Store.timeoutOf(budget))
      if (seen.lease === undefined) return []
      return Store.shown(seen.lease, seen, Store.judge(store, seen.lease, seen))
    }).pipe(Effect.mapError(toBackendError("inspect", key))),
  awaitTurn: (request) => Effect.mapError(awaitTurn(store, request), toBackendError("awaitTurn", request.key)),
  list: (keyPrefix) => Stream.mapError(heldKeys(store, keyPrefix), toBackendError("list")),
  break: (request) => Effect.mapError(End.breakLock(store, request), toBackendError("break", request.key))
})

// How long one page of a list may take.
const patience = Duration.seconds(10)

const heldKeys = (store: Store.Store, keyPrefix: string): Stream.Stream<LockBackend.HeldKey, BackendReason> =>
  Stream.paginate(undefined as string | undefined, (from) =>
    Effect.map(
      Api.list(store.api, `${label.namespace}=${store.label}`, from, patience),
      ({ leases, next, ...answer }) =>
        [
          leases.map((lease) => ({ lease, answer })),
          next === undefined ? Option.none<string | undefined>() : Option.some<string | undefined>(next)
        ] as const
    )).pipe(
      Stream.mapEffect(({ answer, lease }) => {
        const key = noteOf(lease, "key")
        const holders = Store.shown(lease, answer, undefined)
        if (key === undefined || holders.length === 0 || !key.startsWith(keyPrefix)) return Effect.succeed([])
        return Effect.map(
          placeOf(store.namespace, key),
          (place) => place.name === lease.metadata.name && isOf(lease, place) ? [{ key, holders }] : []
        )
      }),
      Stream.flattenIterable
    )

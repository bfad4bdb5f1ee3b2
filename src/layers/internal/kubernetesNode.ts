/**
 * HTTP clients of our own, for TLS that the program's client does not know: a cluster's private CA, client certificates.
 *
 * `@effect/platform-node` is loaded when such a layer is built, and only then.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { Misconfigured, Unauthorized } from "../../LockError.ts"
import * as Token from "./kubernetesToken.ts"

/** How to reach an API server. */
export interface Connection {
  readonly endpoint: string
  readonly kubernetesNamespace: string
  readonly token: Token.Token
  readonly client: HttpClient.HttpClient
}

/** What TLS needs; the names are Node's. */
export interface TlsOptions {
  readonly ca?: string | Uint8Array | undefined
  readonly cert?: string | Uint8Array | undefined
  readonly key?: string | Uint8Array | undefined
  readonly pfx?: string | Uint8Array | undefined
  readonly passphrase?: string | undefined
  readonly servername?: string | undefined
  readonly rejectUnauthorized?: boolean | undefined
}

/** A client with connections of its own, closed with the scope. */
export const clientWith = (tls: TlsOptions): Effect.Effect<HttpClient.HttpClient, Misconfigured, Scope.Scope> =>
  Effect.gen(function*() {
    const NodeHttpClient = yield* platformNode(() => import("@effect/platform-node/NodeHttpClient"))
    const connect = Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined))
    const dispatcher = yield* NodeHttpClient.makeDispatcherOptions({ connect })
    return yield* Effect.provideService(NodeHttpClient.makeUndici, NodeHttpClient.Dispatcher, dispatcher)
  })

/** Where the kubelet puts what a pod needs to reach its API server. */
export const serviceAccountDirectory = "/var/run/secrets/kubernetes.io/serviceaccount"

/**
 * From within a pod: the address from its environment, the rest from its service account's files. The token is read
 * again each minute; the CA and the namespace once.
 */
export const inCluster = (options: {
  readonly endpoint?: string | undefined
  readonly kubernetesNamespace?: string | undefined
  readonly directory?: string | undefined
}): Effect.Effect<Connection, Misconfigured | Unauthorized, Scope.Scope> =>
  Effect.gen(function*() {
    const { readFile } = yield* Effect.promise(() => import("node:fs/promises"))
    const directory = options.directory ?? serviceAccountDirectory
    const text = (name: string) =>
      Effect.tryPromise({
        try: (signal) => readFile(`${directory}/${name}`, { encoding: "utf8", signal }),
        catch: () =>
          new Misconfigured({
            detail:
              `${directory}/${name} can't be read: outside of a pod, use layerKubeconfig; in a pod, give it a service `
              + "account and automountServiceAccountToken"
          })
      })
    const endpoint = options.endpoint ?? (yield* endpointOfPod)
    const kubernetesNamespace = options.kubernetesNamespace ?? (yield* text("namespace")).trim()
    const token = Token.rotating(Effect.map(text("token"), (value) => Redacted.make(value)))
    yield* text("token")
    const client = yield* clientWith(endpoint.startsWith("https:") ? { ca: yield* text("ca.crt") } : {})
    return { endpoint, kubernetesNamespace, token, client }
  })

/** By a kubeconfig file, with whatever way of authentication it names, as far as `@kubernetes/client-node` knows it. */
export const kubeconfig = (options: {
  readonly path?: string | undefined
  readonly context?: string | undefined
  readonly kubernetesNamespace?: string | undefined
}): Effect.Effect<Connection, Misconfigured | Unauthorized, Scope.Scope> =>
  Effect.gen(function*() {
    const { KubeConfig } = yield* Effect.tryPromise({
      try: () => import("@kubernetes/client-node"),
      catch: () => new Misconfigured({ detail: "a kubeconfig needs the package @kubernetes/client-node: install it" })
    })
    const config = new KubeConfig()
    const from = options.path === undefined ? "the default kubeconfig" : `the kubeconfig ${options.path}`
    // What it complains about may show what is in the file.
    yield* Effect.try({
      try: () => options.path === undefined ? config.loadFromDefault() : config.loadFromFile(options.path),
      catch: () => new Misconfigured({ detail: `${from} can't be read: it must be a YAML file of kind Config` })
    })
    if (options.context !== undefined) config.setCurrentContext(options.context)
    const context = config.getContextObject(config.getCurrentContext())
    const cluster = config.getCurrentCluster()
    const user = config.getCurrentUser()
    if (context === null || cluster === null || user === null) {
      return yield* new Misconfigured({
        detail: `${from} has no context ${JSON.stringify(config.getCurrentContext())} with a cluster and a user`
      })
    }
    for (const [what, is] of [["a proxy-url", cluster.proxyUrl], ["impersonation", user.impersonateUser]] as const) {
      if (is !== undefined && is !== null && is !== "") {
        return yield* new Misconfigured({ detail: `${from} asks for ${what}, which is not supported` })
      }
    }
    if (user.username !== undefined && user.username !== null && user.username !== "") {
      return yield* new Misconfigured({
        detail: `${from} asks for basic authentication, which Kubernetes has not had since 1.19`
      })
    }
    const apply = Effect.tryPromise({
      try: () => {
        const request: Parameters<typeof config.applyToHTTPSOptions>[0] = {}
        return config.applyToHTTPSOptions(request).then(() => request)
      },
      catch: () =>
        new Unauthorized({
          detail:
            `the credentials of user ${JSON.stringify(user.name)} in ${from} can't be had: check its files, or the `
            + "program that makes them"
        })
    })
    const { ca, cert, key, passphrase, pfx, rejectUnauthorized, servername } = (yield* apply) as TlsOptions
    const client = yield* clientWith({ ca, cert, key, passphrase, pfx, rejectUnauthorized, servername })
    return {
      endpoint: cluster.server,
      kubernetesNamespace: options.kubernetesNamespace ?? context.namespace ?? "default",
      token: Token.rotating(Effect.map(apply, ({ headers }) => bearerOf(headers))),
      client
    }
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const platformNode = <A>(load: () => Promise<A>): Effect.Effect<A, Misconfigured> =>
  Effect.tryPromise({
    try: load,
    catch: () => new Misconfigured({ detail: "this layer needs the package @effect/platform-node: install it" })
  })

const endpointOfPod: Effect.Effect<string, Misconfigured> = Config.all({
  host: Config.NonEmptyString("KUBERNETES_SERVICE_HOST"),
  port: Config.Port("KUBERNETES_SERVICE_PORT")
}).pipe(
  Effect.map(({ host, port }) => `https://${host.includes(":") ? `[${host}]` : host}:${port}`),
  Effect.mapError(() =>
    new Misconfigured({
      detail: "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this is no pod; use layerKubeconfig"
    })
  )
)

const bearerOf = (headers: unknown): Redacted.Redacted<string> | undefined => {
  if (typeof headers !== "object" || headers === null || !("Authorization" in headers)) return undefined
  const value = headers.Authorization
  return typeof value === "string" && value.startsWith("Bearer ") ? Redacted.make(value.slice(7)) : undefined
}

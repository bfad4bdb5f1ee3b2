/** Where each request is paid for: how many an operation is, and how many bytes. */
import { NodeHttpClient } from "@effect/platform-node"
import { Effect, Exit, Layer, Scope } from "effect"
import { Lock, type LockBackend, withLock, withLockIfAvailable } from "effect-lock"
import * as Gcs from "effect-lock/layers/Gcs"
import * as Kubernetes from "effect-lock/layers/Kubernetes"
import { GcsServer } from "../../test/servers/GcsServer.ts"
import { kubernetesServer } from "../../test/servers/KubernetesServer.ts"
import { countingProxy, type Traffic } from "../harness/CountingProxy.ts"
import { exactly } from "../harness/statistics.ts"
import type { Row, Table } from "../harness/Table.ts"
import type { Suite } from "./Suite.ts"

type Locks = Layer.Layer<LockBackend, unknown>

/** Two processes on one server: one of them holds, the other one is refused. */
const operations = (name: string, first: Locks, second: Locks, take: () => Traffic) =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const one = yield* Layer.buildWithScope(first, scope)
    const other = yield* Layer.buildWithScope(second, scope)
    const rows: Array<Row> = []
    const counted = <A, E, R>(operation: string, effect: Effect.Effect<A, E, R>) =>
      Effect.gen(function*() {
        take()
        const result = yield* effect
        const { received, requests, sent } = take()
        rows.push({
          name: `${name}: ${operation}`,
          role: "effect-lock",
          status: "measured",
          values: { requests: exactly(requests), sent: exactly(sent), received: exactly(received) }
        })
        return result
      })
    const held = yield* Scope.make()
    const acquire = withLock("bench-key").pipe(Effect.provideContext(one), Scope.provide(held))
    // What is asked once, such as who the server is, is not counted.
    yield* Effect.scoped(withLock("bench-warm")).pipe(Effect.provideContext(one))
    yield* Effect.scoped(withLock("bench-warm")).pipe(Effect.provideContext(other))
    const lease = yield* counted("acquire", acquire)
    yield* counted("renew", lease.renew)
    const refused = Effect.scoped(withLockIfAvailable("bench-key")).pipe(Effect.provideContext(other))
    yield* counted("acquire, refused", refused)
    yield* counted("inspect", Lock.inspect("bench-key").pipe(Effect.provideContext(other)))
    yield* counted("release", Scope.close(held, Exit.void))
    return rows
  })

const problem = (name: string) => (cause: unknown): ReadonlyArray<Row> => [
  { name, role: "effect-lock", status: "failed", detail: String(cause).split("\n")[0] ?? "", values: {} }
]

export const requests: Suite = {
  name: "requests",
  programs: [],
  run: (_, log) =>
    Effect.gen(function*() {
      log("Requests and bytes per operation")
      const http = NodeHttpClient.layerUndici
      const proxied = (url: string) =>
        Effect.acquireRelease(Effect.promise(() => countingProxy(url)), (proxy) => Effect.sync(proxy.close))
      const gcs = (onRelease: "delete" | "keep") =>
        Effect.gen(function*() {
          const { settings, listen } = new GcsServer()
          void settings
          const proxy = yield* proxied(yield* listen)
          const locks = () =>
            Layer.provide(Gcs.layer({ bucket: "locks", endpoint: proxy.url, namespace: "bench", onRelease }), http)
          return yield* operations(`GCS, onRelease: ${onRelease}`, locks(), locks(), proxy.take)
        }).pipe(Effect.catchCause((cause) => Effect.succeed(problem(`GCS, onRelease: ${onRelease}`)(cause))))
      const kubernetes = Effect.gen(function*() {
        const { url } = yield* kubernetesServer()
        const proxy = yield* proxied(url)
        const locks = () =>
          Layer.provide(
            Kubernetes.layer({ endpoint: proxy.url, kubernetesNamespace: "default", namespace: "bench" }),
            http
          )
        return yield* operations("Kubernetes", locks(), locks(), proxy.take)
      }).pipe(Effect.catchCause((cause) => Effect.succeed(problem("Kubernetes")(cause))))
      const rows = [...(yield* gcs("delete")), ...(yield* gcs("keep")), ...(yield* kubernetes)]
      const table: Table = {
        id: "requests",
        title: "Cloud Storage and Kubernetes: requests and bytes per operation",
        about: "Counted between the client and an in-process server that speaks the real protocol, on connections that "
          + "are open, with the first use of each process left out. Bytes are those of HTTP, headers included.",
        columns: [
          { id: "requests", title: "requests", unit: "", digits: 0 },
          { id: "sent", title: "sent", unit: "bytes", digits: 0 },
          { id: "received", title: "received", unit: "bytes", digits: 0 }
        ],
        rows,
        charts: []
      }
      return [table]
    })
}

/** Kubernetes locks on the API server's double, on the test's clock: two processes, and what is behind their backs. */
import { assert } from "@effect/vitest"
import { Duration, Effect, Option, type Scope } from "effect"
import type { LockBackend, LockBackendError } from "effect-lock"
import { HttpClient } from "effect/http"
import * as Kubernetes from "../../../src/layers/Kubernetes.ts"
import type { Acquired, Held } from "../../../src/LockBackend.ts"
import { type ApiOptions, FakeApi } from "../../servers/kubernetesApi.ts"
import { type FakeClient, makeClient } from "../../servers/kubernetesClient.ts"

export type Service = LockBackend["Service"]

export const endpoint = "http://127.0.0.1:8001"
export const ttl = Duration.seconds(10)
export const budget = Duration.seconds(3)

export interface Process extends FakeClient {
  readonly backend: Service
  /** What was sent since the last look, as `METHOD`. */
  readonly methods: () => ReadonlyArray<string>
}

export const fakeApi = (options?: ApiOptions): Effect.Effect<FakeApi> =>
  Effect.clockWith((clock) =>
    Effect.sync(() => new FakeApi({ now: () => clock.currentTimeMillisUnsafe(), ...options }))
  )

export const processOn = (
  api: FakeApi,
  options?: Partial<Kubernetes.Options>
): Effect.Effect<Process, LockBackendError, Scope.Scope> =>
  Effect.suspend(() => {
    const fake = makeClient(api)
    return Effect.map(
      Effect.provideService(
        Kubernetes.make({ endpoint, kubernetesNamespace: "default", ...options }),
        HttpClient.HttpClient,
        fake.client
      ),
      (backend) => Object.assign(fake, { backend, methods: () => fake.sent.splice(0).map(({ method }) => method) })
    )
  })

export const twoProcesses = Effect.gen(function*() {
  const api = yield* fakeApi()
  return { api, one: yield* processOn(api), two: yield* processOn(api) }
})

export const tryAcquire = (
  { backend }: { readonly backend: Service },
  ownerId: string,
  ask: { key?: string; ttl?: Duration.Duration; willWait?: boolean; metadata?: Record<string, string> } = {}
) => backend.tryAcquire({ key: "k", ownerId, ttl, metadata: {}, willWait: false, budget, ...ask })

export const grant = (
  process: { readonly backend: Service },
  ownerId: string,
  ask: Parameters<typeof tryAcquire>[2] = {}
) => Effect.map(tryAcquire(process, ownerId, ask), granted)

export const granted = (reply: Acquired | Held): Acquired => {
  assert(reply._tag === "Acquired", `held by ${reply._tag === "Held" ? reply.holders[0]?.ownerId : ""}`)
  return reply
}

export const refused = (
  process: { readonly backend: Service },
  ownerId: string,
  ask: Parameters<typeof tryAcquire>[2] = {}
) =>
  Effect.map(tryAcquire(process, ownerId, ask), (reply): Held => {
    assert(reply._tag === "Held", "it was acquired")
    return reply
  })

export const renew = ({ backend }: { readonly backend: Service }, ownerId: string, handle: string) =>
  Effect.map(
    backend.renew({ key: "k", ownerId, ttl, handle, budget }),
    (reply) => reply._tag === "Lost" ? `Lost ${reply.reason}` : reply._tag
  )

export const release = (
  { backend }: { readonly backend: Service },
  ownerId: string,
  handle?: string,
  unanswered = handle === undefined
) => backend.release({ key: "k", ownerId, handle: Option.fromNullishOr(handle), unanswered, budget })

export const breakLock = ({ backend }: { readonly backend: Service }, ownerId: string, now: boolean) =>
  backend.break!({ key: "k", ownerId, now, budget })

export const inspect = ({ backend }: { readonly backend: Service }, key = "k") => backend.inspect({ key, budget })

export const tokenOf = (reply: Acquired): bigint => Option.getOrThrow(reply.fencingToken)

/** The one object of a server that has one. */
// oxlint-disable-next-line typescript/no-explicit-any -- as the server has it
export const only = (api: FakeApi): any => {
  assert.lengthOf(api.leases, 1)
  return api.leases[0]
}

const json = { "content-type": "application/json" }

/** Changes the one object behind everybody's back, as kubectl would. */
// oxlint-disable-next-line typescript/no-explicit-any -- as the server has it
export const edit = (api: FakeApi, change: (lease: any) => void): void => {
  const lease = only(api)
  change(lease)
  const reply = api.handle({
    method: "PUT",
    path: `/apis/coordination.k8s.io/v1/namespaces/default/leases/${lease.metadata.name}`,
    query: new URLSearchParams(),
    headers: json,
    body: JSON.stringify(lease)
  })
  assert.strictEqual(reply.status, 200, reply.body)
}

/** Deletes the one object. */
export const remove = (api: FakeApi): void => {
  const reply = api.handle({
    method: "DELETE",
    path: `/apis/coordination.k8s.io/v1/namespaces/default/leases/${only(api).metadata.name}`,
    query: new URLSearchParams(),
    headers: json,
    body: ""
  })
  assert.strictEqual(reply.status, 200, reply.body)
}

/** Etcd backends with what a test wants to see and change, and etcd's own view, asked directly. */
import { NodeHttpClient } from "@effect/platform-node"
import { assert } from "@effect/vitest"
import { Context, Duration, Effect, Latch, Layer, Option } from "effect"
import type { LockBackend } from "effect-lock"
import * as Etcd from "effect-lock/layers/Etcd"
import { HttpClient, type HttpClientError, HttpClientRequest, HttpClientResponse } from "effect/http"

export type Service = LockBackend["Service"]

/** An answer of etcd, as far as tests read it; 64-bit numbers are text. */
export interface Json {
  readonly header: { readonly revision: string; readonly member_id: string }
  readonly ID: string
  readonly TTL: string
  readonly grantedTTL: string
  readonly keys?: ReadonlyArray<string>
  readonly token: string
  readonly leader: string
  readonly leases?: ReadonlyArray<{ readonly ID: string }>
  readonly kvs?: ReadonlyArray<{
    readonly key: string
    readonly value?: string
    readonly lease?: string
    readonly create_revision: string
  }>
}

/** Sees every request before it is sent, and may answer in its place or change the answer. */
export type Intercept = (
  path: string,
  body: object,
  send: Effect.Effect<HttpClientResponse.HttpClientResponse, HttpClientError.HttpClientError>
) => Effect.Effect<HttpClientResponse.HttpClientResponse, HttpClientError.HttpClientError>

/** An owner id's lease and its transaction are sent side by side; here the one that is named is answered before the other. */
export const answeredFirst = (first: "lease/grant" | "kv/txn"): Intercept => {
  const answered = Latch.makeUnsafe(first === "lease/grant")
  return (path, _body, send) => {
    if (path !== "lease/grant" && path !== "kv/txn") return send
    return path === first
      ? Effect.andThen(answered.close, Effect.ensuring(send, answered.open))
      : Effect.andThen(answered.await, send)
  }
}

const bodyOf = (request: HttpClientRequest.HttpClientRequest): object =>
  request.body._tag === "Uint8Array" ? JSON.parse(new TextDecoder().decode(request.body.body)) : {}

/** The text in the place of an answer. */
export const answer = (text: string, status = 200) =>
  HttpClientResponse.fromWeb(HttpClientRequest.get("http://fake"), new Response(text, { status }))

/** A backend on a client of its own; `paths` are those of its requests so far. */
export const backend = (
  options: Partial<Etcd.Options> & Pick<Etcd.Options, "endpoints">,
  intercept: Intercept = (_path, _body, send) => send
) =>
  Effect.gen(function*() {
    const client = Context.get(yield* Layer.build(NodeHttpClient.layerUndici), HttpClient.HttpClient)
    const paths: Array<string> = []
    const seeing = HttpClient.transform(client, (send, request) => {
      const path = new URL(request.url).pathname.replace("/v3/", "")
      paths.push(path)
      return intercept(path, bodyOf(request), send)
    })
    const service = yield* Etcd.make({ namespace: "test", ...options }).pipe(
      Effect.provideService(HttpClient.HttpClient, seeing)
    )
    return { service, paths, sent: () => paths.splice(0), ...verbsOf(service) }
  })

const verbsOf = (service: Service) => ({
  tryAcquire: (ownerId: string, ask: Ask = {}) =>
    service.tryAcquire({
      key: ask.key ?? "k",
      ownerId,
      ttl: Duration.millis(ask.ttl ?? 60_000),
      metadata: {},
      willWait: ask.willWait ?? false,
      budget: Duration.millis(ask.budget ?? 5000)
    }),
  renew: (ownerId: string, handle: string, ask: Ask = {}) =>
    service.renew({
      key: ask.key ?? "k",
      ownerId,
      handle,
      ttl: Duration.millis(ask.ttl ?? 60_000),
      budget: Duration.millis(ask.budget ?? 5000)
    }),
  release: (ownerId: string, handle?: string, ask: Ask & { readonly unanswered?: boolean } = {}) =>
    service.release({
      key: ask.key ?? "k",
      ownerId,
      handle: Option.fromUndefinedOr(handle),
      unanswered: ask.unanswered ?? false,
      budget: Duration.millis(ask.budget ?? 5000)
    }),
  inspect: (key = "k") => service.inspect({ key, budget: Duration.seconds(5) })
})

export interface Ask {
  readonly key?: string
  readonly ttl?: number
  readonly willWait?: boolean
  readonly budget?: number
}

type Reply = Effect.Success<ReturnType<Service["tryAcquire"]>>

export const grantOf = (reply: Reply): Extract<Reply, { _tag: "Acquired" }> => {
  assert(reply._tag === "Acquired", reply._tag === "Held" ? `held by ${reply.holders[0]?.ownerId}` : "")
  return reply
}

export const holderOf = (reply: Reply): string | undefined => {
  assert(reply._tag === "Held", "it was acquired")
  return reply.holders[0]?.ownerId
}

export const base64 = (text: string): string => Buffer.from(text).toString("base64")

/** One request to etcd itself. */
export const ask = (url: string, path: string, body: object, token?: string): Effect.Effect<Json> =>
  Effect.promise((signal) =>
    fetch(`${url}/v3/${path}`, {
      method: "POST",
      signal,
      body: JSON.stringify(body),
      ...(token === undefined ? {} : { headers: { authorization: token } })
    }).then((response): Promise<Json> => response.json() as Promise<Json>)
  )

/** What etcd has under `prefix`: names, with the lease each is attached to. */
export const keysUnder = (url: string, prefix: string, token?: string) =>
  Effect.map(
    ask(url, "kv/range", { key: base64(prefix), range_end: base64(`${prefix}\xff`) }, token),
    (answer): ReadonlyArray<{ key: string; lease: string; revision: string; value: string }> =>
      (answer.kvs ?? []).map((kv) => ({
        key: Buffer.from(kv.key, "base64").toString(),
        value: Buffer.from(kv.value ?? "", "base64").toString(),
        lease: kv.lease ?? "0",
        revision: kv.create_revision
      }))
  )

/** The leases that etcd has. */
export const leases = (url: string): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(ask(url, "lease/leases", {}), (answer) => (answer.leases ?? []).map(({ ID }) => ID))

/** Asks until it is so, for at most `millis`. */
export const eventually = <A>(
  what: string,
  self: Effect.Effect<A>,
  isSo: (value: A) => boolean,
  millis = 15_000
): Effect.Effect<A> =>
  Effect.gen(function*() {
    const deadline = performance.now() + millis
    while (true) {
      const value = yield* self
      if (isSo(value)) return value
      assert(performance.now() < deadline, `${what}: not within ${millis} ms, but ${JSON.stringify(value)}`)
      yield* Effect.sleep(20)
    }
  })

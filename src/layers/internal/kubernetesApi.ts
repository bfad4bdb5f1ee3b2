/**
 * The four calls of a Lease client: get, create, replace, list. (`kubernetesWatch.ts` has the fifth.)
 *
 * A conflict is an answer here, not a failure. Nothing is retried, except once with another token.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Lease from "../../Lease.ts"
import type { BackendReason } from "../../LockError.ts"
import { type Exchange, exchange } from "./httpExchange.ts"
import * as Failure from "./kubernetesFailure.ts"
import { decode, decodeList, type LeaseObject } from "./kubernetesLease.ts"
import { type ServerTime, serverTime } from "./kubernetesTime.ts"
import * as Token from "./kubernetesToken.ts"
import type { Writing } from "./kubernetesWrite.ts"

/** An API server, and a namespace of it. */
export interface Api {
  readonly client: HttpClient.HttpClient
  /** Without a slash at its end. */
  readonly endpoint: string
  readonly kubernetesNamespace: string
  readonly token: Token.Token
}

/** An answer, and when it was asked for and there. */
export interface Answer {
  readonly before: Lease.Stamp
  readonly after: Lease.Stamp
  readonly server: ServerTime | undefined
}

/** What was read; no lease if there is none. */
export interface Seen extends Answer {
  readonly lease: LeaseObject | undefined
}

/** What was written, as the server keeps it. */
export interface Written extends Answer {
  readonly lease: LeaseObject
}

/** Reads one lease. */
export const get = (api: Api, name: string, timeout: Duration.Duration): Effect.Effect<Seen, BackendReason> =>
  Effect.flatMap(
    send(api, HttpClientRequest.get(urlOf(api, name)), timeout),
    ({ answer, exchange, secret }): Effect.Effect<Seen, BackendReason> => {
      if (exchange.status === 404 && Failure.isStatus(exchange)) return Effect.succeed({ ...answer, lease: undefined })
      return exchange.status === 200
        ? Effect.map(leaseOf(exchange), (lease) => ({ ...answer, lease }))
        : refused(api, "get", exchange, secret)
    }
  )

/** Makes a lease; `undefined` if there is one of that name. */
export const create = (
  api: Api,
  writing: Writing,
  timeout: Duration.Duration
): Effect.Effect<Written | undefined, BackendReason> =>
  Effect.flatMap(
    send(api, withBody(HttpClientRequest.post(urlOf(api)), writing), timeout),
    ({ answer, exchange, secret }) => {
      if (exchange.status === 409 && Failure.isReason(exchange, "AlreadyExists")) return Effect.undefined
      return exchange.status === 201
        ? Effect.map(leaseOf(exchange), (lease) => ({ ...answer, lease }))
        : refused(api, "create", exchange, secret)
    }
  )

/** Replaces a lease; `undefined` if it is not any more what it was when it was read. */
export const replace = (
  api: Api,
  name: string,
  writing: Writing,
  timeout: Duration.Duration
): Effect.Effect<Written | undefined, BackendReason> =>
  Effect.flatMap(
    send(api, withBody(HttpClientRequest.put(urlOf(api, name)), writing), timeout),
    ({ answer, exchange, secret }) => {
      const { status } = exchange
      if (status === 409 || (status === 404 && Failure.isStatus(exchange))) return Effect.undefined
      return status === 200
        ? Effect.map(leaseOf(exchange), (lease) => ({ ...answer, lease }))
        : refused(api, "update", exchange, secret)
    }
  )

/** One page of the leases that have a label, and where the next begins. */
export const list = (
  api: Api,
  labelSelector: string,
  from: string | undefined,
  timeout: Duration.Duration
): Effect.Effect<Answer & { leases: ReadonlyArray<LeaseObject>; next: string | undefined }, BackendReason> => {
  const parameters = { labelSelector, limit: "500", ...(from === undefined ? {} : { continue: from }) }
  return Effect.flatMap(
    send(api, HttpClientRequest.get(urlOf(api), { urlParams: parameters }), timeout),
    ({ answer, exchange, secret }) => {
      if (exchange.status !== 200) return refused(api, "list", exchange, secret)
      const page = Option.getOrUndefined(decodeList(exchange.body))
      if (page === undefined) return Effect.fail(Failure.unreadable("list of Leases"))
      const next = page.metadata?.continue
      return Effect.succeed({ ...answer, leases: page.items, next: next === "" || next === null ? undefined : next })
    }
  )
}

/** The address of a lease, or of all. */
export const urlOf = (api: Api, name?: string): string => {
  const all = `${api.endpoint}/apis/coordination.k8s.io/v1/namespaces/${api.kubernetesNamespace}/leases`
  return name === undefined ? all : `${all}/${name}`
}

/** Runs `use` with the request under the present token; once more under another one, if that one is not accepted. */
export const authorized = <A extends { readonly status: number }>(
  api: Api,
  request: HttpClientRequest.HttpClientRequest,
  use: (request: HttpClientRequest.HttpClientRequest) => Effect.Effect<A, BackendReason>
): Effect.Effect<{ readonly result: A; readonly secret: string | undefined }, BackendReason> => {
  const under = (secret: string | undefined) =>
    Effect.map(
      use(secret === undefined ? request : HttpClientRequest.bearerToken(request, secret)),
      (result) => ({ result, secret })
    )
  return Effect.flatMap(Token.current(api.token), (secret) =>
    Effect.flatMap(under(secret), (first) => {
      if (first.result.status !== 401) return Effect.succeed(first)
      return Effect.flatMap(
        Token.successorOf(api.token, secret),
        (next) => next === undefined ? Effect.succeed(first) : under(next)
      )
    }))
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

interface Sent {
  readonly exchange: Exchange
  readonly answer: Answer
  readonly secret: string | undefined
}

const send = (
  api: Api,
  request: HttpClientRequest.HttpClientRequest,
  timeout: Duration.Duration
): Effect.Effect<Sent, BackendReason> =>
  Effect.clockWith((clock) => {
    let before = Lease.stamp(clock)
    const once = (request: HttpClientRequest.HttpClientRequest) =>
      Effect.suspend(() => {
        before = Lease.stamp(clock)
        return exchange(api.client, request, timeout)
      })
    return Effect.map(
      authorized(api, HttpClientRequest.acceptJson(request), once),
      ({ result, secret }) => {
        const answer: Answer = { before, after: Lease.stamp(clock), server: serverTime(result.headers, before) }
        return { exchange: result, answer, secret }
      }
    )
  })

const withBody = (
  request: HttpClientRequest.HttpClientRequest,
  writing: Writing
): HttpClientRequest.HttpClientRequest =>
  HttpClientRequest.bodyText(request, JSON.stringify(writing), "application/json")

const leaseOf = ({ body }: Exchange): Effect.Effect<LeaseObject, BackendReason> =>
  Option.match(decode(body), {
    onNone: () => Effect.fail(Failure.unreadable("Lease")),
    onSome: (lease) => Effect.succeed(lease)
  })

const refused = (
  { kubernetesNamespace }: Api,
  verb: Failure.Verb,
  exchange: Exchange,
  secret: string | undefined
): Effect.Effect<never, BackendReason> => Effect.fail(Failure.reasonOf(exchange, { verb, kubernetesNamespace, secret }))

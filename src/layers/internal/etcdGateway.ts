/**
 * One request to an etcd cluster over its JSON gateway: short attempts, the next member when one does not answer, one
 * login for all.
 *
 * Attempts are short because a member waits longer for a leader than most leases live: a request through a follower of a
 * killed leader hangs for seven seconds, while the cluster has a new one after about one. So every request here is one
 * that can be sent again.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpBody from "effect/http/HttpBody"
import type * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import { Misconfigured, Protocol, TimedOut, Unauthorized } from "../../LockError.ts"
import { code, type EtcdFailure, isStaleLogin, isStatus, isTransient, statusOf } from "./etcdFailure.ts"
import { Revision } from "./etcdRecord.ts"
import { exchange } from "./httpExchange.ts"

/** Where etcd is, and what is known of it. */
export interface Gateway {
  readonly client: HttpClient.HttpClient
  /** Without a slash at the end; at least one. */
  readonly endpoints: ReadonlyArray<string>
  readonly auth: { readonly user: string; readonly password: Redacted.Redacted<string> } | undefined
  readonly turn: Semaphore.Semaphore
  /** The endpoint that answered last, or the one after that which did not. */
  preferred: number
  /** Of the login; a secret. */
  token: string | undefined
  cluster: string | undefined
}

/** Nothing was asked yet. */
export const make = (options: Pick<Gateway, "client" | "endpoints" | "auth">): Gateway => ({
  ...options,
  turn: Semaphore.makeUnsafe(1),
  preferred: 0,
  token: undefined,
  cluster: undefined
})

/** How long a verb may take: `until` on the monotonic clock, `each` request; in milliseconds. */
export interface Limits {
  readonly until: number
  readonly each: number
  /** An attempt of this verb stayed without an answer: it may still arrive. */
  unanswered: boolean
}

/** The longest attempt: an election is over by then, and a member that has not answered may be a dead one. */
export const longestAttempt = 1000

/** The limits of a verb that starts now. */
export const limitsOf = (budget: Duration.Duration): Effect.Effect<Limits> =>
  Effect.map(monotonic, (now) => {
    const millis = Duration.toMillis(budget)
    return { until: now + millis, each: Math.min(millis / 3, longestAttempt), unanswered: false }
  })

/** Of every answer: whose it is, and in which term of which leader it was given. */
export const Header = Schema.Struct({
  cluster_id: Schema.optionalKey(Schema.String),
  revision: Schema.optionalKey(Revision),
  raft_term: Schema.optionalKey(Schema.String)
})

/** What is read of an answer. */
export interface Answer {
  readonly header: typeof Header.Type
}

/** Sends one request, to one member after the other, until one answers or the time is over; logs in where that is due. */
export const call = <A extends Answer>(
  gateway: Gateway,
  limits: Limits,
  path: string,
  body: object,
  decode: (text: string) => Option.Option<A>
): Effect.Effect<A, EtcdFailure> =>
  Effect.flatMap(loginOf(gateway, limits), (token) => {
    const sent = send(gateway, limits, { path, body, token }, decode)
    return gateway.auth === undefined ? sent : Effect.catchIf(
      sent,
      isStaleLogin,
      () =>
        Effect.flatMap(
          login(gateway, limits, token),
          (token) => send(gateway, limits, { path, body, token }, decode)
        )
    )
  })

/** What requests are sent with; `undefined` without authentication. A secret. */
export const loginOf = (gateway: Gateway, limits: Limits): Effect.Effect<string | undefined, EtcdFailure> =>
  gateway.auth === undefined || gateway.token !== undefined
    ? Effect.succeed(gateway.token)
    : login(gateway, limits, undefined)

/** What no error may show, even if an answer quotes it: something before etcd may repeat what it was sent. */
export const secretsOf = ({ auth }: Gateway, token: string | undefined): ReadonlyArray<string> => [
  ...(token === undefined ? [] : [token]),
  ...(auth === undefined ? [] : [Redacted.value(auth.password)])
]

/** The login that was used is not good any more. */
export const forgetLogin = (gateway: Gateway, token: string | undefined): void => {
  if (gateway.token === token) gateway.token = undefined
}

/** The next member is asked from now on, unless somebody has changed that meanwhile. */
export const leave = (gateway: Gateway, member: number): void => {
  if (gateway.preferred === member) gateway.preferred = (member + 1) % gateway.endpoints.length
}

/** One request, as it is sent to whichever member. */
export interface Message {
  readonly path: string
  readonly body: object
  readonly token: string | undefined
}

/** A message to one member. */
export const request = (
  gateway: Gateway,
  member: number,
  { body, path, token }: Message
): HttpClientRequest.HttpClientRequest =>
  HttpClientRequest.post(`${gateway.endpoints[member]}/v3/${path}`, {
    body: HttpBody.text(JSON.stringify(body), "application/json"),
    ...(token === undefined ? {} : { headers: { authorization: token } })
  })

/** Endpoints of two clusters would be two locks. */
export const sameCluster = <A extends Answer>(gateway: Gateway, answer: A): Effect.Effect<A, Misconfigured> => {
  const id = answer.header.cluster_id
  gateway.cluster ??= id
  if (id === undefined || id === gateway.cluster) return Effect.succeed(answer)
  const detail = "another cluster answers than before: list endpoints of one cluster only; if it was restored from a "
    + "snapshot, start this program anew"
  return Effect.fail(new Misconfigured({ detail }))
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const monotonic: Effect.Effect<number> = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

const send = <A extends Answer>(
  gateway: Gateway,
  limits: Limits,
  message: Message,
  decode: (text: string) => Option.Option<A>
): Effect.Effect<A, EtcdFailure> =>
  Effect.gen(function*() {
    let failures = 0
    let last: EtcdFailure | undefined
    while (true) {
      const left = limits.until - (yield* monotonic)
      if (left <= 0) return yield* Effect.fail(last ?? noTime(limits))
      const member = gateway.preferred
      const answered = yield* Effect.result(once(gateway, member, message, Math.min(limits.each, left), decode))
      if (Result.isSuccess(answered)) {
        gateway.preferred = member
        return yield* sameCluster(gateway, answered.success)
      }
      last = answered.failure
      if (!isTransient(last)) return yield* Effect.fail(last)
      limits.unanswered = true
      leave(gateway, member)
      // A timeout has spent its share of the time, which ends this loop; a quick failure gets one round, and the one
      // try more that a connection needs which broke while it was idle.
      if (last._tag !== "TimedOut" && ++failures > gateway.endpoints.length) return yield* Effect.fail(last)
    }
  })

const noTime = ({ each }: Limits): TimedOut =>
  new TimedOut({ detail: "no time left to ask", after: Duration.millis(each) })

const once = <A>(
  gateway: Gateway,
  member: number,
  message: Message,
  millis: number,
  decode: (text: string) => Option.Option<A>
): Effect.Effect<A, EtcdFailure> =>
  Effect.flatMap(
    exchange(gateway.client, request(gateway, member, message), Duration.millis(millis)),
    (answer): Effect.Effect<A, EtcdFailure> => {
      const ok = answer.status === 200 ? decode(answer.body) : Option.none()
      if (Option.isSome(ok)) return Effect.succeed(ok.value)
      const failure = statusOf(answer.status, answer.body, secretsOf(gateway, message.token))
      return Effect.fail(
        failure._tag === "Protocol" ? new Protocol({ detail: `${message.path}: ${failure.detail}` }) : failure
      )
    }
  )

const decodeLogin = Schema.decodeUnknownOption(
  Schema.fromJsonString(Schema.Struct({ header: Header, token: Schema.NonEmptyString }))
)

// One login at a time: whoever finds another token than the one that was refused uses that.
const login = (
  gateway: Gateway,
  limits: Limits,
  refused: string | undefined
): Effect.Effect<string | undefined, EtcdFailure> =>
  Semaphore.withPermit(
    gateway.turn,
    Effect.suspend(() => {
      const { auth } = gateway
      if (auth === undefined || gateway.token !== refused) return Effect.succeed(gateway.token)
      const body = { name: auth.user, password: Redacted.value(auth.password) }
      return Effect.map(
        send(gateway, limits, { path: "auth/authenticate", body, token: undefined }, decodeLogin),
        ({ token }) => {
          gateway.token = token
          return token
        }
      )
    })
  ).pipe(
    Effect.catchIf(
      (failure) => isStatus(failure, code.invalid),
      () => Effect.fail(new Unauthorized({ detail: "the login was refused: check auth.user and auth.password" }))
    )
  )

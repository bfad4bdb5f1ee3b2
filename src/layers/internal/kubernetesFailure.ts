/**
 * What an API server's refusal means for a lock, translated once.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import {
  type BackendReason,
  LockBackendError,
  Misconfigured,
  Protocol,
  Throttled,
  Unauthorized,
  Unreachable
} from "../../LockError.ts"
import type { Exchange } from "./httpExchange.ts"

/** What was asked for, as RBAC names it. */
export type Verb = "get" | "create" | "update" | "list" | "watch"

/** The error of one operation of the Kubernetes backend. */
export const toBackendError =
  (operation: LockBackendError["operation"], key?: string) => (reason: BackendReason): LockBackendError =>
    new LockBackendError({ backend: "kubernetes", operation, ...(key === undefined ? {} : { key }), reason })

/** The reason of an answer that is neither a success nor part of the protocol. `secret` is what must not be shown. */
export const reasonOf = (
  answer: Exchange,
  asked: { readonly verb: Verb; readonly kubernetesNamespace: string; readonly secret: string | undefined }
): BackendReason => {
  const { status } = answer
  const { kubernetesNamespace, verb } = asked
  const said = saidBy(answer.body, asked.secret)
  const where = `leases.coordination.k8s.io in namespace ${JSON.stringify(kubernetesNamespace)}`
  if (status === 401) {
    return new Unauthorized({ detail: "the API server does not accept the credentials (401): token or certificate" })
  }
  if (status === 403) {
    return new Unauthorized({
      detail: `the API server forbids to ${verb} ${where} (403)${said}: bind a Role with the verb ${verb} on resource `
        + "leases of apiGroup coordination.k8s.io to this account"
    })
  }
  if (status === 404) {
    return new Misconfigured({
      detail: `the API server does not find ${where} (404)${said}: check the namespace and the endpoint`
    })
  }
  if (status === 429 || (status === 503 && answer.headers["retry-after"] !== undefined)) {
    return new Throttled({ detail: `the API server asks for patience (${status})`, retryAfter: retryAfterOf(answer) })
  }
  // A conflict that is none of ours, such as one over a quota, and a page that is not kept any more: over at the next try.
  if (status >= 500 || status === 408 || status === 409 || status === 410) {
    return new Unreachable({ detail: `the API server could not ${verb} a lease (${status})${said}` })
  }
  if (status >= 300 && status < 400) {
    return new Misconfigured({
      detail: `the endpoint answers with a redirection (${status}): it must be the API server itself`
    })
  }
  return new Protocol({ detail: `the API server refused to ${verb} a lease (${status})${said}` })
}

/** Whether the answer is a refusal of that kind. */
export const isReason = (answer: Exchange, reason: string): boolean =>
  Option.exists(decodeStatus(answer.body), (status) => status.reason === reason)

/** Whether the answer comes from the API, not from something else that does not know the path. */
export const isStatus = (answer: Exchange): boolean => Option.isSome(decodeStatus(answer.body))

/** A successful answer without the object it should have. */
export const unreadable = (what: string): Protocol =>
  new Protocol({ detail: `the API server's answer is no ${what}: is the endpoint a Kubernetes API server?` })

/** A write whose answer shows something else than was written. */
export const unkept = (): Protocol =>
  new Protocol({
    detail: "the API server's answer to a write is not the lease that was written: something on the way, such as a "
      + "proxy or an admission webhook, answers for it or changes the lease"
  })

/** A lease that is somebody else's by what is written on it. */
export const foreign = (name: string, key: string | undefined, namespace: string | undefined): Protocol =>
  new Protocol({
    detail: `lease ${name} is the lock of key ${JSON.stringify(key)} in namespace ${JSON.stringify(namespace)}: `
      + "something else put it there. Delete it if that is over."
  })

/** A lease that is written all the time by others. */
export const restless = (): Throttled =>
  new Throttled({
    detail: "the lease is changed by others faster than it can be written",
    retryAfter: Option.none()
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const decodeStatus = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Struct({
  kind: Schema.Literal("Status"),
  message: Schema.optionalKey(Schema.String),
  reason: Schema.optionalKey(Schema.String)
})))

const longestMessage = 300

const saidBy = (body: string, secret: string | undefined): string => {
  const message = Option.getOrUndefined(decodeStatus(body))?.message
  if (message === undefined || message === "") return ""
  const safe = secret === undefined ? message : message.replaceAll(secret, "<redacted>")
  return `: ${safe.slice(0, longestMessage).replace(/\p{Cc}/gu, " ")}`
}

const retryAfterOf = ({ headers }: Exchange): Option.Option<Duration.Duration> => {
  const text = headers["retry-after"]
  return text !== undefined && /^[0-9]{1,6}$/.test(text) ? Option.some(Duration.seconds(Number(text))) : Option.none()
}

/**
 * What etcd says when it does not do what it was asked, and what that means for a lock.
 *
 * Its gateway answers with the codes of gRPC. One code covers several situations; where they must be told apart there is
 * only the text, which etcd has not changed since 3.0 (`api/v3rpc/rpctypes/error.go`).
 */
import * as Data from "effect/Data"
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

/** An answer that is an error: the code of gRPC, and etcd's own words. */
export class EtcdStatus extends Data.TaggedError("EtcdStatus")<{ readonly code: number; readonly message: string }> {}

/** What the inner parts of the etcd backend fail with. */
export type EtcdFailure = EtcdStatus | BackendReason

/** The codes of gRPC that etcd uses. */
export const code = {
  canceled: 1,
  unknown: 2,
  invalid: 3,
  deadline: 4,
  notFound: 5,
  denied: 7,
  exhausted: 8,
  precondition: 9,
  outOfRange: 11,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16
} as const

/** The error of one operation of the etcd backend. */
export const toBackendError =
  (operation: LockBackendError["operation"], key?: string) => (failure: EtcdFailure): LockBackendError =>
    new LockBackendError({
      backend: "etcd",
      operation,
      ...(key === undefined ? {} : { key }),
      reason: failure._tag === "EtcdStatus" ? reasonOf(failure) : failure
    })

/**
 * What an answer that is no success says, without the `secrets` if it quotes them; a body that is not etcd's is told by
 * its status alone.
 */
export const statusOf = (status: number, body: string, secrets: ReadonlyArray<string> = []): EtcdFailure => {
  const said = decodeError(body)
  if (Option.isSome(said)) {
    const nested = typeof said.value.error === "object" ? said.value.error : said.value
    const number = nested.code ?? nested.grpc_code
    if (number !== undefined) return new EtcdStatus({ code: number, message: plain(nested.message ?? "", secrets) })
  }
  if (status === 404 || status === 405) {
    const detail = "there is no etcd v3 JSON gateway at this endpoint: it takes etcd 3.4 or newer, with "
      + "--enable-grpc-gateway, and the client URL of a member"
    return new Misconfigured({ detail })
  }
  if (status === 401 || status === 403) return new Unauthorized({ detail: `something before etcd answered ${status}` })
  if (status === 429) {
    return new Throttled({ detail: "something before etcd answered 429", retryAfter: Option.none() })
  }
  return status >= 500
    ? new Unreachable({ detail: `no answer: HTTP status ${status}` })
    : new Protocol({ detail: `an answer that is not etcd's, with HTTP status ${status}` })
}

/** Whether another member, or the same one a little later, may do better; the outcome is unknown. */
export const isTransient = (failure: EtcdFailure): boolean =>
  failure._tag === "EtcdStatus"
    ? transient.has(failure.code)
    : failure._tag === "Unreachable" || failure._tag === "TimedOut"

/** Whether a new login may help. */
export const isStaleLogin = (failure: EtcdFailure): boolean =>
  failure._tag === "EtcdStatus"
  && (failure.code === code.unauthenticated
    || (failure.code === code.invalid && failure.message.includes("auth store is old")))

/** Whether etcd refused with this code, which the caller knows how to read. */
export const isStatus = (failure: EtcdFailure, number: number): boolean =>
  failure._tag === "EtcdStatus" && failure.code === number

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const transient = new Set<number>([code.canceled, code.unknown, code.deadline, code.internal, code.unavailable])

const fields = {
  code: Schema.optionalKey(Schema.Finite),
  grpc_code: Schema.optionalKey(Schema.Finite),
  message: Schema.optionalKey(Schema.String)
}

// Unary calls answer `{ code, message }` (and before 3.6 `error`, the same text); streams wrap it in `error`.
const decodeError = Schema.decodeUnknownOption(
  Schema.fromJsonString(
    Schema.Struct({ ...fields, error: Schema.optionalKey(Schema.Union([Schema.String, Schema.Struct(fields)])) })
  )
)

const plain = (text: string, secrets: ReadonlyArray<string>): string =>
  secrets.filter((secret) => secret !== "").reduce((said, secret) => said.replaceAll(secret, "<redacted>"), text)
    .replace(/\p{Cc}/gu, " ").slice(0, 200)

const reasonOf = ({ code: number, message }: EtcdStatus): BackendReason => {
  switch (number) {
    case code.denied: {
      const detail = `${message}: the user's role must grant readwrite on everything with the prefix of the namespace`
      return new Unauthorized({ detail })
    }
    case code.unauthenticated:
      return new Unauthorized({ detail: message })
    case code.invalid:
      if (message.includes("user name is empty")) {
        return new Unauthorized({ detail: `${message}: authentication is enabled; pass auth: { user, password }` })
      }
      return message.includes("authentication failed")
        ? new Unauthorized({ detail: message })
        : new Protocol({ detail: message })
    case code.precondition:
      return message.includes("authentication is not enabled")
        ? new Misconfigured({ detail: `${message}: enable it, or leave out auth` })
        : new Protocol({ detail: message })
    case code.exhausted:
      return message.includes("space exceeded")
        ? new Misconfigured({
          detail: `${message}: compact and defragment etcd, or raise its quota, then disarm the alarm`
        })
        : new Throttled({ detail: message, retryAfter: Option.none() })
    case code.unimplemented:
      return new Misconfigured({ detail: `${message}: it takes etcd 3.4 or newer` })
    default:
      return transient.has(number)
        ? new Unreachable({ detail: message })
        : new Protocol({ detail: `code ${number}: ${message}` })
  }
}

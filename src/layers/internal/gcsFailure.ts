/**
 * What an answer of Cloud Storage means if it is none of those that a lock expects, translated once.
 *
 * Only the status and Google's own documented reasons (`retentionPolicyNotMet`) are passed on, never the text of an answer:
 * nobody knows what a proxy puts there.
 *
 * Sources: "HTTP status and error codes for JSON", "Use and enforce retention policies", "IAM permissions for JSON
 * methods" in Google's documentation of Cloud Storage.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { type BackendReason, Misconfigured, Protocol, Throttled, Unauthorized, Unreachable } from "../../LockError.ts"
import type { Exchange } from "./httpExchange.ts"

/** The calls of the JSON API that a lock makes. */
export type Method = "insert" | "get" | "patch" | "delete" | "list"

/** The reason of an answer that is no answer to the question. */
export const reasonOf = (method: Method, bucket: string, answer: Exchange): BackendReason => {
  const { status } = answer
  const reasons = reasonsOf(answer.body)
  const has = (...names: ReadonlyArray<string>) => reasons.some((reason) => names.includes(reason))
  const what = `${method}: HTTP ${status}${reasons.length === 0 ? "" : ` (${reasons.join(", ")})`}`
  if (status === 429 || has("rateLimitExceeded", "userRateLimitExceeded")) {
    return new Throttled({ detail: `${what}: one object takes about one change per second`, retryAfter: wait(answer) })
  }
  // Another change of the same object was under way: neither of them may have happened.
  if (status === 409) return new Throttled({ detail: what, retryAfter: wait(answer) })
  if (status === 408 || status >= 500) return new Unreachable({ detail: what })
  if (status === 404 && (method === "insert" || method === "list")) {
    return new Misconfigured({
      detail: `bucket ${JSON.stringify(bucket)} does not exist (${what}): create it, or mend the option bucket`
    })
  }
  if (status === 401) {
    return new Unauthorized({
      detail:
        `${what}: the credentials are missing, wrong or no longer valid. An emulator wants none: give its address `
        + "as endpoint"
    })
  }
  if (has("retentionPolicyNotMet", "objectUnderActiveHold")) {
    return new Misconfigured({
      detail: `${what}: a retention policy or a hold keeps the objects of bucket ${JSON.stringify(bucket)} from being `
        + "deleted or replaced, so its locks can't be given back: remove it (also the bucket's default event-based "
        + "hold), or use another bucket"
    })
  }
  if (has("accountDisabled", "billingNotEnabled", "billingDisabled", "projectDisabled", "userProjectAccountProblem")) {
    return new Misconfigured({ detail: `${what}: billing of the project is off or its account has a problem: mend it` })
  }
  if (
    has("userProjectMissing", "userProjectInvalid", "userProjectInconsistent") || (status === 400 && has("required"))
  ) {
    return new Misconfigured({
      detail: `${what}: bucket ${JSON.stringify(bucket)} may be a requester-pays bucket: name the project that pays, `
        + "with the option userProject"
    })
  }
  if (has("userProjectAccessDenied")) {
    return new Unauthorized({
      detail: `${what}: the credentials need serviceusage.services.use in the project that userProject names`
    })
  }
  if (status === 403) return new Unauthorized({ detail: `${what}: ${permission(method, bucket, reasons)}` })
  if (status >= 300 && status < 500) {
    return new Misconfigured({
      detail: `${what}: that is no answer of the JSON API to this request: mend the endpoint, the bucket or the prefix`
    })
  }
  return undecodable(method)
}

/** A success without the content that it must have. */
export const undecodable = (method: Method): Protocol =>
  new Protocol({ detail: `${method}: the answer does not describe an object as the JSON API does` })

/** Something else is where a lock should be. */
export const foreign = (bucket: string, name: string): Protocol =>
  new Protocol({
    detail: `object ${JSON.stringify(name)} in bucket ${JSON.stringify(bucket)} is no lock of this library, or was `
      + "changed by something else; nothing was done to it. Delete it if nobody holds this lock"
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const permissions: Readonly<Record<Method, string>> = {
  insert: "storage.objects.create, and storage.objects.delete to replace an expired lock",
  get: "storage.objects.get, and storage.objects.list, without which a missing object is forbidden instead of missing",
  patch: "storage.objects.update",
  delete: "storage.objects.delete",
  list: "storage.objects.list"
}

const permission = (method: Method, bucket: string, reasons: ReadonlyArray<string>): string => {
  const scope = method === "patch"
    ? ", and their OAuth scope must be devstorage.full_control or cloud-platform: devstorage.read_write does not allow "
      + "to renew a lock"
    : reasons.some((reason) => /scope|insufficientPermissions/i.test(reason))
    ? ", and an OAuth scope that covers it, such as cloud-platform"
    : ""
  return `the credentials need ${permissions[method]} on bucket ${JSON.stringify(bucket)}${scope} `
    + "(roles/storage.objectUser has all that locks need)"
}

// Whatever else an answer gives as a reason may be anything, even a token that a proxy quotes. As the API sends them;
// the documentation writes some of them with a large letter, so the case of letters does not count.
const documented = new Map(
  `accessNotConfigured accountDisabled authError authenticationRequired authenticationRequiredRequesterPays backendError
  badRequest badRequestException billingDisabled billingNotEnabled conditionNotMet conflict countryBlocked
  dailyLimitExceeded expired forbidden gatewayTimeout gone insufficientPermissions internalError invalid invalidArgument
  invalidParameter lockedDomainExpired methodNotAllowed notFound objectUnderActiveHold orgPolicyConstraintFailed
  parseError projectDisabled quotaExceeded rateLimitExceeded required retentionPolicyNotMet sslRequired turnedDown
  uploadTooLarge userProjectAccessDenied userProjectAccountProblem userProjectInconsistent userProjectInvalid
  userProjectMissing userRateLimitExceeded vpcServiceControls ACCESS_TOKEN_EXPIRED ACCESS_TOKEN_SCOPE_INSUFFICIENT
  ACCESS_TOKEN_TYPE_UNSUPPORTED ACCOUNT_STATE_INVALID BILLING_DISABLED CONSUMER_INVALID CONSUMER_SUSPENDED
  CREDENTIALS_MISSING IAM_PERMISSION_DENIED ORG_POLICY_CONSTRAINT_FAILED RATE_LIMIT_EXCEEDED RESOURCE_QUOTA_EXCEEDED
  SECURITY_POLICY_VIOLATED SERVICE_DISABLED SERVICE_NOT_VISIBLE USER_PROJECT_DENIED`
    .split(/\s+/).map((reason) => [reason.toLowerCase(), reason])
)

const ErrorBody = Schema.Struct({
  error: Schema.Struct({
    errors: Schema.optional(Schema.Array(Schema.Struct({ reason: Schema.optional(Schema.String) }))),
    details: Schema.optional(Schema.Array(Schema.Struct({ reason: Schema.optional(Schema.String) })))
  })
})

const decodeError = Schema.decodeUnknownOption(Schema.fromJsonString(ErrorBody))

const reasonsOf = (body: string): ReadonlyArray<string> =>
  Option.match(decodeError(body), {
    onNone: () => [],
    onSome: ({ error }) => {
      const found = [...error.errors ?? [], ...error.details ?? []]
        .flatMap(({ reason }) => documented.get(reason?.toLowerCase() ?? "") ?? [])
      return [...new Set(found)].slice(0, 4)
    }
  })

// In seconds, or as a date: that of the answer's own clock, so no clock of ours is compared with it.
const wait = ({ headers }: Exchange): Option.Option<Duration.Duration> => {
  const value = headers["retry-after"]
  if (value === undefined) return Option.none()
  if (/^\d{1,6}$/.test(value)) return Option.some(Duration.seconds(Number(value)))
  const millis = Date.parse(value) - Date.parse(headers["date"] ?? "")
  return millis >= 0 && millis < 1e9 ? Option.some(Duration.millis(millis)) : Option.none()
}

/**
 * The four errors of a lock, never mixed: somebody else has it (`LockContended`), the backend could not be asked
 * (`LockBackendError`), the lease ended while in use (`LockLost`), the request itself is wrong (`InvalidLockRequest`).
 *
 * An outage is never reported as contention, and contention never as an outage.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Holder from "./Holder.ts"

/**
 * Somebody else has the lock and we stopped waiting for it.
 *
 * **Details**
 *
 * `reason` says why the waiting ended:
 * - `WaitOver`: the `wait` budget ran out (or the call was not willing to wait).
 * - `ScheduleOver`: the `schedule` ended.
 * - `QueueFull`: `maxWaiters` callers of this process already wait for this key.
 * - `Self`: this fiber, or the guarded region it runs in, holds the key already and would wait for itself for ever.
 *
 * `attempts` counts the refusals seen by this call, `waited` runs from the call, `holders` is the last observation.
 *
 * @category errors
 */
export class LockContended extends Schema.TaggedError<LockContended>("effect-lock/LockContended")("LockContended", {
  key: Schema.String,
  reason: Schema.Literals(["WaitOver", "ScheduleOver", "QueueFull", "Self"]),
  attempts: Schema.Int,
  waited: Schema.Duration,
  holders: Schema.Array(Holder.Holder)
}) {
  override get message(): string {
    const lock = `lock ${JSON.stringify(this.key)}`
    if (this.reason === "Self") {
      return `${lock} is already held by the caller itself, which would wait for ever: `
        + "locks are not reentrant. Use the lease you have, or Lock.detached for work that must wait its turn."
    }
    const who = this.holders.length === 0
      ? "another caller"
      : this.holders.map(Holder.format).join("; ")
    const why = {
      WaitOver: "the wait budget is over",
      ScheduleOver: "the schedule ended",
      QueueFull: "too many callers of this process wait for it (maxWaiters)"
    }[this.reason]
    const first = this.holders[0]
    const mend = first === undefined
      ? "Wait longer ({ wait }), or try again later."
      : `Wait longer ({ wait }), or, if that holder is known to be dead, Lock.break(${JSON.stringify(this.key)}, ${
        JSON.stringify(first.ownerId)
      }).`
    return `${lock} is held by ${who}. Gave up after ${Duration.format(this.waited)} and ${this.attempts} refusals: `
      + `${why}. ${mend}`
  }
  /** As JSON, for log writers: fencing tokens are bigints, which `JSON.stringify` refuses. */
  override toJSON(): unknown {
    return encodeContended(this)
  }
}

const encodeContended = Schema.encodeUnknownSync(Schema.toCodecJson(Schema.suspend(() => LockContended)))

// A reason's own text, in one shape, so that the wrapper's message can be composed without knowing the reason.
const detail = { detail: Schema.String, cause: Schema.optional(Schema.Defect()) }

/**
 * No answer: connection refused, reset, or not established. The outcome of the request is unknown. Retryable.
 *
 * @category reasons
 */
export class Unreachable extends Schema.TaggedError<Unreachable>("effect-lock/Unreachable")("Unreachable", detail) {
  readonly isRetryable = true
}

/**
 * No answer within `after`. The outcome of the request is unknown. Retryable.
 *
 * @category reasons
 */
export class TimedOut extends Schema.TaggedError<TimedOut>("effect-lock/TimedOut")("TimedOut", {
  ...detail,
  after: Schema.Duration
}) {
  readonly isRetryable = true
}

/**
 * The backend refused for now; `retryAfter` is what it asked for, if it did. Retryable.
 *
 * @category reasons
 */
export class Throttled extends Schema.TaggedError<Throttled>("effect-lock/Throttled")("Throttled", {
  ...detail,
  retryAfter: Schema.Option(Schema.Duration)
}) {
  readonly isRetryable = true
}

/**
 * Credentials are missing, wrong, or lack a permission. Not retryable.
 *
 * @category reasons
 */
export class Unauthorized extends Schema.TaggedError<Unauthorized>("effect-lock/Unauthorized")("Unauthorized", detail) {
  readonly isRetryable = false
}

/**
 * The backend can't work as it is set up; `detail` says what is wrong and how to mend it. Not retryable.
 *
 * @category reasons
 */
export class Misconfigured
  extends Schema.TaggedError<Misconfigured>("effect-lock/Misconfigured")("Misconfigured", detail)
{
  readonly isRetryable = false
}

/**
 * The backend answered something that is not part of its protocol; nothing was concluded from it. Not retryable.
 *
 * @category reasons
 */
export class Protocol extends Schema.TaggedError<Protocol>("effect-lock/Protocol")("Protocol", detail) {
  readonly isRetryable = false
}

/**
 * What went wrong between us and a backend.
 *
 * @category reasons
 */
export type BackendReason = Unreachable | TimedOut | Throttled | Unauthorized | Misconfigured | Protocol

/**
 * The backend could not be asked, or refused.
 *
 * **Details**
 *
 * `reason` classifies it; read it with `Effect.catchReason("LockBackendError", "Unreachable", …)`. `key` is absent
 * where the operation has none (building a layer). Neither `message` nor `cause` carries credentials.
 *
 * **Gotchas**
 *
 * After a retryable reason the outcome is unknown: the lock may have been taken. The library settles that by asking
 * again with the same owner id, and sends a conditional release when it gives up.
 *
 * @category errors
 */
export class LockBackendError
  extends Schema.TaggedError<LockBackendError>("effect-lock/LockBackendError")("LockBackendError", {
    backend: Schema.String,
    operation: Schema.Literals(["build", "acquire", "renew", "release", "inspect", "awaitTurn", "list", "break"]),
    key: Schema.optional(Schema.String),
    reason: Schema.Union([Unreachable, TimedOut, Throttled, Unauthorized, Misconfigured, Protocol])
  })
{
  override readonly cause = this.reason.cause
  /** Whether trying the same again can help. */
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }
  override get message(): string {
    const on = this.key === undefined ? "" : ` of lock ${JSON.stringify(this.key)}`
    return `${this.backend}: ${this.operation}${on} failed: ${this.reason._tag}: ${this.reason.detail}`
  }
}

/**
 * The lease ended while it was in use. Work that ran under it may have to be undone or checked.
 *
 * **Details**
 *
 * - `Expired`: its trust ran out before a renewal was confirmed; `cause` is the last backend error, if any.
 * - `Taken`: the backend says somebody else owns the lock.
 * - `Gone`: the backend says nobody does (it was broken by an operator, or the backend forgot).
 * - `Released`: the lease was given back while the work still ran.
 * - `BackendClosed`: the backend's layer was closed while the lease was in use.
 *
 * @category errors
 */
export class LockLost extends Schema.TaggedError<LockLost>("effect-lock/LockLost")("LockLost", {
  key: Schema.String,
  ownerId: Schema.String,
  reason: Schema.Literals(["Expired", "Taken", "Gone", "Released", "BackendClosed"]),
  cause: Schema.optional(Schema.Defect())
}) {
  override get message(): string {
    const why = {
      Expired: "its trust ran out before a renewal was confirmed",
      Taken: "the backend says that somebody else owns it now",
      Gone: "the backend says that nobody owns it any more",
      Released: "it was released while still in use",
      BackendClosed: "the layer of its backend was closed while it was in use"
    }[this.reason]
    return `lease ${this.ownerId} of lock ${JSON.stringify(this.key)} was lost: ${why}`
  }
}

/**
 * The request itself is wrong; nothing was sent. `field` names the option, `received` shows the value's shape (never
 * a long value in full), `allowed` says what would do.
 *
 * @category errors
 */
export class InvalidLockRequest
  extends Schema.TaggedError<InvalidLockRequest>("effect-lock/InvalidLockRequest")("InvalidLockRequest", {
    field: Schema.String,
    received: Schema.String,
    allowed: Schema.String
  })
{
  override get message(): string {
    return `${this.field} is ${this.received}; allowed: ${this.allowed}`
  }
}

/**
 * How long the backend asked us to stay away, if it did.
 *
 * @category getters
 */
export const retryAfter = (error: LockBackendError): Option.Option<Duration.Duration> =>
  error.reason._tag === "Throttled" ? error.reason.retryAfter : Option.none()

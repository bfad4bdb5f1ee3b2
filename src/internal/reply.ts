/**
 * Whether a backend's reply is one of the port's. Backends are other people's code, and a reply that is not understood
 * must never become a grant, nor a defect.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type { Holder } from "../Holder.ts"
import type { Acquired, Held, Lost, Renewed } from "../LockBackend.ts"
import { LockBackendError, Protocol } from "../LockError.ts"
import type { Call } from "./bounded.ts"

const tagOf = (reply: unknown): unknown =>
  typeof reply === "object" && reply !== null && "_tag" in reply ? reply._tag : undefined

export const isAcquired = (reply: Acquired | Held): reply is Acquired =>
  tagOf(reply) === "Acquired" && isGrant(reply as Acquired) && Option.isOption((reply as Acquired).fencingToken)

export const isHeld = (reply: Acquired | Held): reply is Held => {
  if (tagOf(reply) !== "Held") return false
  const { holders, retryAfter } = reply as Held
  return Array.isArray(holders) && holders.every(isHolder) && Option.isOption(retryAfter)
}

export const isRenewed = (reply: Renewed | Lost): reply is Renewed =>
  tagOf(reply) === "Renewed" && isGrant(reply as Renewed)

export const isLost = (reply: Renewed | Lost): reply is Lost =>
  tagOf(reply) === "Lost" && ((reply as Lost).reason === "Taken" || (reply as Lost).reason === "Gone")

const isGrant = (reply: { readonly handle: string; readonly grantedTtl: Duration.Duration }): boolean =>
  typeof reply.handle === "string" && Duration.isDuration(reply.grantedTtl)

/** The error of a reply that is none of the port's. */
export const unknownReply = (call: Call): LockBackendError =>
  new LockBackendError({
    backend: call.backend,
    operation: call.operation,
    key: call.key,
    reason: new Protocol({ detail: "the backend gave a reply that is not one of the port's; nothing was concluded" })
  })

// By hand: every refusal is looked at, and most are looked at by nobody else.
const isHolder = (holder: Holder): boolean =>
  typeof holder === "object" && holder !== null && typeof holder.ownerId === "string" &&
  isOption(holder.since, (at) => DateTime.isDateTime(at) && DateTime.isUtc(at)) &&
  isOption(holder.remaining, Duration.isDuration) &&
  isOption(holder.fencingToken, (token) => typeof token === "bigint") && isMetadata(holder.metadata)

const isOption = <A>(option: Option.Option<A>, is: (value: A) => boolean): boolean =>
  Option.isOption(option) && (Option.isNone(option) || is(option.value))

const isMetadata = (metadata: Holder["metadata"]): boolean =>
  typeof metadata === "object" && metadata !== null && !Array.isArray(metadata) &&
  Object.values(metadata).every((value) => typeof value === "string")
